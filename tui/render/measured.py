"""Measurements as text: predicted beside measured, per counter, phase and part."""

from __future__ import annotations

import json

from planner.units import TERA, format_bytes, format_count
from validate.campaign import Measured, Skipped, headline
from validate.compare import Row, Verdict
from validate.measure.environment import Environment
from validate.measurement import Measurement, outermost, to_json
from validate.store import peaks


def text(measured: Measured, environment: Environment) -> str:
    """The whole comparison of one run."""
    measurement = measured.measurement
    lines = [_title(measurement), _where(environment), ""]
    if measurement.result.outcome != "ok":
        lines += [*_failure(measured), ""]
    if measured.comparison.verdicts:
        lines.append(f"{'peak':<24}{'predicted':>12}{'interval':>28}{'measured':>12}{'error':>9}")
        lines += [_verdict_line(verdict) for verdict in measured.comparison.verdicts]
        lines += dict.fromkeys(e.calibration for e in measured.forecast.estimates if e.calibration)
        lines.append("")
    if measured.comparison.phases:
        lines.append(f"{'allocated in phase':<24}{'predicted':>12}{'measured':>12}{'error':>9}")
        lines += [_row_line(row) for row in measured.comparison.phases]
        lines.append("")
    if measured.comparison.parts:
        lines.append(f"{'part of the peak':<24}{'predicted':>12}{'measured':>12}{'error':>9}")
        lines += [_row_line(row) for row in measured.comparison.parts]
        lines.append("")
    lines += _speed_lines(measurement)
    kept = "kept" if measured.is_new else "known already"
    lines.append(f"{kept} as {measurement.id[:12]}; plan validate show {measurement.id[:12]}")
    return "\n".join(lines)


def _title(measurement: Measurement) -> str:
    spec = measurement.spec
    what = getattr(spec.workload, "method", "generate")
    return f"{spec.model}, {what}, {spec.runner}: {measurement.result.outcome}"


def _where(environment: Environment) -> str:
    versions = " ".join(f"{name} {version}" for name, version in environment.libraries[:4])
    driver = f", driver {environment.driver}" if environment.driver else ""
    return f"on {environment.gpu_name}{driver}, {versions}"


def _failure(measured: Measured) -> list[str]:
    result = measured.measurement.result
    lines = [f"{result.outcome}: {result.detail}"]
    reached = result.peak("allocated") or 0
    if result.outcome == "out of memory":
        from validate.oom.diagnosis import explain
        from validate.oom.message import parse

        message = parse(result.detail)
        if message is not None:
            lines += explain(message)
            reached += message.requested_bytes or 0
    if reached:
        lines.append(f"more than {format_bytes(reached)} of tensors are needed")
    return lines


def _verdict_line(verdict: Verdict) -> str:
    prediction = verdict.prediction
    name = f"{prediction.quantity} ({prediction.tier})"
    interval = f"{format_bytes(prediction.low_bytes)} to {format_bytes(prediction.high_bytes)}"
    mark = "" if verdict.inside else "  outside the interval"
    return (
        f"{name:<24}{format_bytes(prediction.expected_bytes):>12}{interval:>28}"
        f"{format_bytes(verdict.measured_bytes):>12}{verdict.error:>+9.1%}{mark}"
    )


def _row_line(row: Row) -> str:
    predicted = "-" if row.predicted_bytes is None else format_bytes(row.predicted_bytes)
    measured = "-" if row.measured_bytes is None else format_bytes(row.measured_bytes)
    error = "" if row.error is None else f"{row.error:+.1%}"
    return f"{row.name:<24}{predicted:>12}{measured:>12}{error:>9}"


def _speed_lines(measurement: Measurement) -> list[str]:
    facts = measurement.result.facts
    if facts is None:
        return []
    lines = [f"{format_count(facts.params_total)} parameters, {format_count(facts.params_trainable)} trained"]
    if facts.step_s is not None and facts.tokens_per_s is not None:
        rate = "" if facts.flops_per_s is None else f", {facts.flops_per_s / TERA:,.2f} TFLOP/s"
        lines.append(f"{facts.step_s:.3f} s a step, {facts.tokens_per_s:,.0f} tokens/s{rate}")
    if facts.power_w is not None and facts.energy_j is not None:
        lines.append(f"{facts.power_w:,.0f} W, {facts.energy_j:,.0f} J")
    if facts.num_alloc_retries:
        lines.append(f"{facts.num_alloc_retries} allocation retries: the card was nearly full")
    return [*lines, ""]


def line(name: str, outcome: Measured | Skipped) -> str:
    """One run of a suite."""
    if isinstance(outcome, Skipped):
        return f"{name:<32} skipped: {outcome.reason}"
    result = outcome.measurement.result
    if result.outcome != "ok":
        return f"{name:<32} {result.outcome}: {result.detail[:80]}"
    found = peaks(outcome.measurement)
    quantity = outermost(found)
    best = headline(outcome)
    error = "" if best is None else f"  {best[0]} {best[1]} {best[2]:+.1%}"
    mark = "" if outcome.comparison.inside else "  outside the interval"
    return f"{name:<32} {format_bytes(found[quantity]):>12} {quantity}{error}{mark}"


def history_line(measurement: Measurement) -> str:
    """One measurement of the store."""
    spec, environment = measurement.spec, measurement.environment
    found = peaks(measurement)
    peak = format_bytes(found[outermost(found)]) if found else "-"
    what = getattr(spec.workload, "method", "generate")
    gpu = environment.gpu_id or environment.gpu_name
    origin = "" if measurement.origin == "own" else f"  from {measurement.origin}"
    return (
        f"{measurement.id[:12]}  {measurement.made_at[:16]}  {gpu:<12} {spec.model:<32} {what:<14} "
        f"{measurement.result.outcome:<14} {peak:>12}{origin}"
    )


def stored(measurement: Measurement) -> str:
    """One measurement of the store with its phases."""
    lines = [_title(measurement), _where(measurement.environment), f"made {measurement.made_at}"]
    lines += [f"command {measurement.command}", f"origin {measurement.origin}", ""]
    if measurement.result.outcome != "ok":
        lines += [measurement.result.detail, ""]
    lines.append(f"{'phase':<18}{'step':>5}{'allocated':>13}{'reserved':>13}{'device':>13}")
    for reading in measurement.result.phases:
        sizes = (reading.allocated_bytes, reading.reserved_bytes, reading.device_bytes)
        shown = "".join(f"{'-' if size is None else format_bytes(size):>13}" for size in sizes)
        lines.append(f"{reading.phase:<18}{reading.step + 1:>5}{shown}")
    lines.append("")
    for prediction in measurement.predictions:
        lines.append(
            f"predicted {prediction.quantity} ({prediction.tier}): {format_bytes(prediction.expected_bytes)}, "
            f"{format_bytes(prediction.low_bytes)} to {format_bytes(prediction.high_bytes)}"
        )
    return "\n".join([*lines, *_speed_lines(measurement)]).rstrip()


def json_line(measurement: Measurement) -> str:
    """A measurement as one line of JSON, origin included."""
    return to_json(measurement)


def json_text(measured: Measured) -> str:
    """A measurement and its comparison as JSON."""
    comparison = measured.comparison
    document = {
        "measurement": json.loads(to_json(measured.measurement)),
        "inside": comparison.inside,
        "peaks": [
            {
                "quantity": verdict.prediction.quantity, "tier": verdict.prediction.tier,
                "predicted_bytes": verdict.prediction.expected_bytes, "low_bytes": verdict.prediction.low_bytes,
                "high_bytes": verdict.prediction.high_bytes, "measured_bytes": verdict.measured_bytes,
                "inside": verdict.inside,
            }
            for verdict in comparison.verdicts
        ],
        "phases": [_row(row) for row in comparison.phases],
        "parts": [_row(row) for row in comparison.parts],
    }  # fmt: skip
    return json.dumps(document, indent=2)


def _row(row: Row) -> dict[str, object]:
    return {"name": row.name, "predicted_bytes": row.predicted_bytes, "measured_bytes": row.measured_bytes}
