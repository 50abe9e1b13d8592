"""How fast a card was, against what the formulas of speed say of it, and an answer corrected by that.

What binds a step decides what a run teaches: one that waits for the host says how fast this host launches, one
that does not says how fast this card works. Neither corrects the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from hardware_db.gpu import Gpu
from planner.request import ServingWorkload, TrainingWorkload
from planner.target import SCOPES, Scope, Target, target_of

if TYPE_CHECKING:
    from planner.throughput.values import Range, ServingThroughput, Throughput, TrainingThroughput

Workload = TrainingWorkload | ServingWorkload
Kind = Literal["step", "token"]
"""An optimizer step, or a decode step."""
Bound = Literal["host", "gpu"]
BOUNDS: tuple[Bound, ...] = ("host", "gpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Measured over expected seconds, learnt from ``num_runs`` runs of one scope."""

    kind: Kind
    bound: Bound
    scope: Scope
    key: str = ""
    ratio: float
    low_ratio: float
    """Of the corrected time; with ``high_ratio`` holds most runs that were not learnt from."""
    high_ratio: float
    num_runs: int
    median_error: float | None = None
    """Of the corrected time, each shape predicted from the others; None: too few."""


def waits_for_host(parts: Mapping[str, Any]) -> Any:
    """Whether launching takes longer than all the work launched; parts may be arrays."""
    return 2 * parts.get("host", 0.0) > sum(parts.values())


def pace_of(paces: Iterable[Pace], kind: Kind, bound: Bound, target: Target) -> Pace | None:
    """The entry of the nearest scope."""
    found = [
        pace
        for pace in paces
        if pace.kind == kind and pace.bound == bound and target.matches(pace.scope, pace.key)
    ]
    return min(found, key=lambda pace: SCOPES.index(pace.scope), default=None)


def ratios(paces: Sequence[Pace], kind: Kind, workload: Workload, gpu: Gpu) -> dict[Bound, float]:
    """What to multiply expected seconds by, per bound; 1 where nothing was learnt."""
    target = _target(paces, workload, gpu)
    found = {bound: pace_of(paces, kind, bound, target) for bound in BOUNDS}
    return {bound: pace.ratio if pace else 1.0 for bound, pace in found.items()}


def paced(speed: Throughput, workload: Workload, gpu: Gpu, paces: Sequence[Pace]) -> Throughput:
    """``speed`` corrected by the runs nearest to ``gpu``, and as wide as those were apart."""
    from planner.throughput.values import ServingThroughput

    serving = isinstance(speed, ServingThroughput)
    parts = speed.decode_parts if isinstance(speed, ServingThroughput) else speed.parts
    bound: Bound = "host" if waits_for_host({part.kind: part.seconds for part in parts}) else "gpu"
    target = _target(paces, workload, gpu)
    pace = pace_of(paces, "token" if serving else "step", bound, target)
    if pace is None:
        return speed
    if isinstance(speed, ServingThroughput):
        return _served(speed, workload, pace, target)
    return _trained(speed, pace, target)


def _target(paces: Sequence[Pace], workload: Workload, gpu: Gpu) -> Target:
    """Software is looked up only where an entry speaks of it, as that takes a while."""
    return target_of(workload, gpu, with_stack=any(pace.scope == "stack" for pace in paces))


def _trained(speed: TrainingThroughput, pace: Pace, target: Target) -> TrainingThroughput:
    step = _corrected(speed.step_time_s, pace)
    return replace(
        speed,
        step_time_s=step,
        tokens_per_s=step.over(speed.tokens_per_step),
        mfu=None if speed.mfu is None else speed.mfu / pace.ratio,
        parts=tuple(replace(part, seconds=part.seconds * pace.ratio) for part in speed.parts),
        calibration=_in_words(pace, target),
    )


def _served(speed: ServingThroughput, workload: Workload, pace: Pace, target: Target) -> ServingThroughput:
    assert isinstance(workload, ServingWorkload)
    tokens = workload.output_tokens
    token = _corrected(speed.tpot_s, pace)
    produced = speed.concurrency * tokens
    prefills_s = max(0.0, produced / speed.output_tokens_per_s.expected - tokens * speed.tpot_s.expected)
    busy_s = replace(
        token,
        low=prefills_s + tokens * token.low,
        expected=prefills_s + tokens * token.expected,
        high=prefills_s + tokens * token.high,
    )
    return replace(
        speed,
        tpot_s=token,
        tokens_per_s_per_user=token.over(1.0),
        output_tokens_per_s=busy_s.over(produced),
        decode_parts=tuple(replace(part, seconds=part.seconds * pace.ratio) for part in speed.decode_parts),
        calibration=_in_words(pace, target),
    )


def _corrected(seconds: Range, pace: Pace) -> Range:
    expected = seconds.expected * pace.ratio
    return replace(seconds, low=expected * pace.low_ratio, expected=expected, high=expected * pace.high_ratio)


def _in_words(pace: Pace, target: Target) -> str:
    runs = "run" if pace.num_runs == 1 else "runs"
    error = "" if pace.median_error is None else f", median error {pace.median_error:.1%}"
    return f"speed calibrated on {pace.num_runs} {runs} on {target.in_words(pace.scope)}{error}"
