"""Learns how fast a card is from timed runs: from all cards inward to the exact one, thin data drawn outward.

Repeats of one shape count once, by their median. A run on a CPU teaches nothing: no speed is predicted there.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from hardware_db.gpu import Gpu
from planner.errors import PlannerError
from planner.model.hf_config import architecture_from_config
from planner.pace import BOUNDS, Bound, Kind, Pace, waits_for_host
from planner.target import SCOPES, Scope, Target
from planner.throughput import TrainingThroughput, throughput
from validate.compare import target_of
from validate.conformal import Band, agreement, band_of, drawn
from validate.measurement import Measurement
from validate.samples import gpu_of

MIN_SHAPES_TO_JUDGE = 4
"""From here on a pace must have lowered the errors of shapes it was not learnt from, or it is dropped."""
_MAX_LOG = math.log(4)
"""Further off than this a run tells of something else: a shared card, a swapped page, a wrong name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedRun:
    """One run: log(measured / expected) of its step."""

    target: Target
    kind: Kind
    bound: Bound
    shape: str
    log: float
    around: Band
    """What published runs of this kind spread over."""


def timed_run(measurement: Measurement, gpu: Gpu | None) -> TimedRun | None:
    """What the times of a measurement teach; None for a run that failed, was not timed or is not predicted."""
    spec, facts = measurement.spec, measurement.result.facts
    if gpu is None or measurement.result.outcome != "ok" or facts is None or not facts.step_s:
        return None
    if len(set(spec.step_lengths)) > 1:
        return None  # steps of several lengths have no one time
    try:
        architecture = architecture_from_config(spec.config, name=spec.model, source="measurement")
        speed = throughput(architecture, spec.workload, spec.parallelism, gpu)
    except PlannerError:
        return None
    trained = isinstance(speed, TrainingThroughput)
    parts, times = (
        (speed.parts, speed.step_time_s)
        if isinstance(speed, TrainingThroughput)
        else (speed.decode_parts, speed.tpot_s)
    )
    shape = (spec.config, asdict(spec.workload), asdict(spec.parallelism))
    return TimedRun(
        target=target_of(measurement.environment),
        kind="step" if trained else "token",
        bound="host" if waits_for_host({part.kind: part.seconds for part in parts}) else "gpu",
        shape=json.dumps(shape, sort_keys=True, default=str),
        log=max(-_MAX_LOG, min(_MAX_LOG, math.log(facts.step_s / times.expected))),
        around=Band(low=math.log(times.low / times.expected), high=math.log(times.high / times.expected)),
    )


def paces(measurements: Iterable[Measurement]) -> tuple[Pace, ...]:
    """A pace per scope, kind and bound that was measured."""
    runs = [
        run
        for measurement in measurements
        if (run := timed_run(measurement, gpu_of(measurement.environment.gpu_id))) is not None
    ]
    return paces_of(runs)


def paces_of(runs: Sequence[TimedRun]) -> tuple[Pace, ...]:
    """As ``paces``, from runs already compared with their prediction."""
    found = []
    kinds: tuple[Kind, ...] = ("step", "token")
    for kind in kinds:
        for bound in BOUNDS:
            alike = [run for run in runs if (run.kind, run.bound) == (kind, bound)]
            places = sorted({(scope, run.target.key(scope)) for run in alike for scope in SCOPES})
            for scope, key in places:
                pace = _pace(alike, scope, key) if key or scope == "all" else None
                found += [pace] if pace else []
    return tuple(found)


def _pace(runs: Sequence[TimedRun], scope: Scope, key: str) -> Pace | None:
    inside = [run for run in runs if run.target.key(scope) == key]
    target = inside[0].target
    level = SCOPES.index(scope)
    outward = SCOPES[level:]
    shapes = {run.shape for run in inside}
    residuals = {
        shape: [
            run.log - _learn([other for other in runs if other.shape != shape], target, outward)
            for run in inside
            if run.shape == shape
        ]
        for shape in shapes
    }
    held_out = [statistics.median(logs) for logs in residuals.values()]
    error = None
    if len(shapes) >= MIN_SHAPES_TO_JUDGE:
        plain = [abs(math.expm1(-log)) for log in _by_shape(inside)]
        errors = [abs(math.expm1(-log)) for log in held_out]
        if statistics.mean(errors) >= statistics.mean(plain):
            return None
        error = statistics.median(errors)
    band = band_of(held_out, inside[0].around)
    return Pace(
        kind=inside[0].kind, bound=inside[0].bound, scope=scope, key=key,
        ratio=math.exp(_learn(runs, target, outward)), low_ratio=math.exp(min(0.0, band.low)),
        high_ratio=math.exp(max(0.0, band.high)), num_runs=len(inside), median_error=error,
    )  # fmt: skip


def _learn(runs: Sequence[TimedRun], target: Target, scopes: Sequence[Scope]) -> float:
    """log of the ratio for ``target``: scope by scope inward, each drawn towards the one around it."""
    known, last = 0.0, -1
    for scope in reversed(scopes):
        inside = [run for run in runs if target.matches(scope, run.target.key(scope))]
        if inside and len(inside) != last:  # the same runs say nothing new at a closer scope
            logs = _by_shape(inside)
            known = drawn(known, logs, agreement([log - known for log in logs]))
        last = len(inside) or last
    return known


def _by_shape(runs: Sequence[TimedRun]) -> list[float]:
    logs: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        logs[run.shape].append(run.log)
    return [statistics.median(values) for values in logs.values()]
