"""Speeds of fits: the cells of a table, a line on how far to trust them, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from planner.fit import Fit

if TYPE_CHECKING:
    from planner.throughput import Range, Throughput

_UNKNOWN = "-"


def columns(fits: Sequence[Fit]) -> tuple[str, ...]:
    """Names of the columns ``cells`` fills; none where no speed is told."""
    if not any(fit.speed for fit in fits):
        return ()
    if fits[0].task == "serve":
        return "first token", "each token", "tokens/s"
    return ("tokens/s", "hours", "USD in all") if any(fit.job for fit in fits) else ("tokens/s",)


def cells(fit: Fit, fits: Sequence[Fit]) -> tuple[str, ...]:
    """Expected speed of one of ``fits``; dashes where it is not known or nothing runs."""
    if fit.speed is None:
        return (_UNKNOWN,) * len(columns(fits))
    from planner.throughput import ServingThroughput

    speed, job = fit.speed, fit.job
    if isinstance(speed, ServingThroughput):
        rate = speed.output_tokens_per_s
        return _seconds(speed.ttft_s.expected), _seconds(speed.tpot_s.expected), _number(rate.expected)
    rate = speed.tokens_per_s
    if job is None:
        return (_number(rate.expected),)
    usd = _UNKNOWN if job.usd is None else f"{job.usd.expected:,.2f}"
    return _number(rate.expected), _number(job.hours.expected), usd


def facts(fits: Sequence[Fit]) -> tuple[tuple[str, str], ...]:
    """What the columns mean and how far predictions were off; empty where no speed is told."""
    speed = next((fit.speed for fit in fits if fit.speed), None)
    if speed is None:
        return ()
    from planner.throughput import ServingThroughput

    if speed.calibration is not None:
        return (("speed", _measured(speed)),)
    if isinstance(speed, ServingThroughput):
        many = "1 request" if speed.concurrency == 1 else f"{speed.concurrency:,} requests at once"
        text = (
            f"first token of a request alone (8 of 10 published runs: {_share(speed.ttft_s)} of it),"
            f" each token and tokens/s of {many} ({_share(speed.tpot_s)})"
        )
    else:
        text = f"tokens/s of the whole job, {_share(speed.tokens_per_s)} of them in 8 of 10 published runs"
    return (("speed", text),)


def _measured(speed: Throughput) -> str:
    from planner.throughput import ServingThroughput

    if isinstance(speed, ServingThroughput):
        text = f"each token and tokens/s ({_share(speed.tpot_s)} of it), first token as published runs were"
    else:
        text = f"tokens/s of the whole job, {_share(speed.tokens_per_s)} of them"
    return f"{text}; {speed.calibration}"


def _share(values: Range) -> str:
    return f"{values.low / values.expected:.0%} to {values.high / values.expected:.0%}"


def _seconds(seconds: float) -> str:
    return f"{_number(seconds)} s" if seconds >= 1 else f"{_number(seconds * 1e3)} ms"


def _number(value: float) -> str:
    """Three digits, or all of a whole number: 12,345, 345, 34.5, 3.45, 0.345."""
    digits = next((digits for digits, limit in enumerate((100, 10, 1)) if value >= limit), None)
    return f"{value:.3g}" if digits is None else f"{value:,.{digits}f}"


def as_json(fit: Fit) -> dict[str, Any]:
    """``speed`` and ``job`` of a fit; empty where neither is told."""
    if fit.speed is None:
        return {}
    from planner.throughput import ServingThroughput

    speed, job = fit.speed, fit.job
    if isinstance(speed, ServingThroughput):
        served = ("ttft_s", "tpot_s", "output_tokens_per_s")
        shown: dict[str, Any] = {name: _range(getattr(speed, name)) for name in served}
        return {"speed": shown | {"calibration": speed.calibration}}
    trained = {
        "tokens_per_s": _range(speed.tokens_per_s),
        "step_time_s": _range(speed.step_time_s),
        "mfu": speed.mfu,
        "calibration": speed.calibration,
    }
    if job is None:
        return {"speed": trained}
    length = {
        "tokens": job.num_tokens,
        "hours": _range(job.hours),
        "usd": None if job.usd is None else _range(job.usd),
    }
    return {"speed": trained, "job": length}


def _range(values: Range) -> dict[str, float]:
    return {"low": values.low, "expected": values.expected, "high": values.high}
