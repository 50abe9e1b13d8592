"""Learns from measurements: how far each part of the answer is off, for which card, and how wide the rest is.

One run tells the parts of its memory apart (``validate.compare``), so that a run of one shape corrects other
shapes: the factor of the activations comes from every run, whatever its batch or model. Scopes are nested (all,
generation, GPU, stack); every factor is drawn towards that of the scope around it, in the end towards 1, the more
so the fewer runs there are.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from planner.calibration import PARTS, Calibration, Correction, Interval, Part
from planner.calibration_file import FORMAT_VERSION
from planner.quantity import Quantity, Tier
from planner.target import SCOPES, Scope, Target
from validate.conformal import Band, agreement, band_of, drawn
from validate.measurement import Measurement
from validate.paces import paces
from validate.samples import Sample, samples_of

MIN_RUNS_TO_JUDGE = 4
"""From here on a correction must have lowered the errors of runs it was not learnt from, or it is dropped."""


Factors = dict[Part, float]


def learn(samples: Sequence[Sample], target: Target, task: str, family: str | None = None) -> Factors:
    """Factors for ``target``: from the runs of every family, then from those of ``family`` alone.

    Both go from the outermost scope inward; each step takes the median of its runs, drawn towards the step before.
    """
    factors: Factors = {}
    same_kind = [s for s in samples if s.task == task and (s.target.gpu == "cpu") == (target.gpu == "cpu")]
    last: list[Sample] = []
    for only in dict.fromkeys((None, family)):
        for scope in reversed(SCOPES):
            inside = [
                sample
                for sample in same_kind
                if only in (None, sample.family) and target.matches(scope, sample.key(scope))
            ]
            if inside != last:  # the same runs say nothing new at a closer scope
                factors = _drawn(factors, inside)
            last = inside or last
    return factors


def _drawn(around: Factors, inside: Sequence[Sample]) -> Factors:
    factors = dict(around)
    for part in PARTS:
        logs = [sample.logs[part] for sample in inside if part in sample.logs]
        if logs:
            before = math.log(around.get(part, 1.0))
            factors[part] = math.exp(drawn(before, logs, agreement([log - before for log in logs])))
    return factors


def calibrate(measurements: Iterable[Measurement], base: Calibration | None = None) -> Calibration:
    """Corrections, intervals and paces of every measured card. ``base`` tells how wide an unmeasured one is."""
    measurements = tuple(measurements)
    return replace(calibration_of(samples_of(measurements), base), paces=paces(measurements))


def calibration_of(samples: Sequence[Sample], base: Calibration | None = None) -> Calibration:
    """As ``calibrate``, from runs that were already taken apart."""
    corrections: list[Correction] = []
    intervals: list[Interval] = []
    groups = sorted(
        {
            (scope, sample.key(scope), sample.task)
            for sample in samples
            for scope in SCOPES
            if _speaks(sample, scope)
        }
    )
    for scope, key, task in groups:
        inside = [
            sample
            for sample in samples
            if sample.task == task and _speaks(sample, scope) and sample.key(scope) == key
        ]
        known = [sample for sample in samples if _speaks(sample, "all") == _speaks(inside[0], "all")]
        target = _target_at(inside[0].target, scope)
        for only in (None, *sorted({sample.family for sample in inside})):
            judged = [sample for sample in inside if only in (None, sample.family)]
            place = _Place(scope=scope, key=key, task=task, family=only, target=target)
            held_out = _held_out(judged, known, place)
            correction = _correction(place, judged, known, held_out)
            corrections += [correction] if correction else []
            if only is None:
                used = held_out if correction else [(sample, {}) for sample in inside]
                intervals += _intervals(scope, key, task, used, base or Calibration())
    made = {"date": datetime.now(UTC).date().isoformat(), "runs": len(samples)}
    return Calibration(corrections=tuple(corrections), intervals=tuple(intervals), made=made)


def _speaks(sample: Sample, scope: Scope) -> bool:
    """Whether a run belongs to a scope: a CPU's only to its own."""
    if sample.target.gpu == "cpu":
        return scope in ("stack", "gpu")
    return scope == "all" or sample.key(scope) != ""


def _target_at(target: Target, scope: Scope) -> Target:
    """``target`` known only as closely as ``scope`` says."""
    level = SCOPES.index(scope)
    return Target(
        stack=target.stack if level <= 0 else None,
        gpu=target.gpu if level <= 1 else None,
        generation=target.generation if level <= 2 else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """For whom a correction is learnt."""

    scope: Scope
    key: str
    task: str
    family: str | None
    target: Target


def _held_out(inside: Sequence[Sample], known: Sequence[Sample], place: _Place) -> list[tuple[Sample, Factors]]:
    """Each run with the factors learnt from the runs of other models, or of other shapes of the only model.

    What the formulas miss of one architecture says little of another, so several models judge each other.
    """
    several = len({sample.model for sample in inside}) > 1
    return [
        (sample, learn(_others(sample, known, several), place.target, place.task, place.family))
        for sample in inside
    ]


def _others(sample: Sample, known: Sequence[Sample], of_other_models: bool) -> list[Sample]:
    if of_other_models:
        return [other for other in known if other.model != sample.model]
    return [other for other in known if other.shape != sample.shape]


def _errors(runs: Sequence[tuple[Sample, Factors]]) -> list[float]:
    """Absolute relative error of each corrected peak."""
    return [abs(math.expm1(-sample.residual(factors, sample.judged))) for sample, factors in runs]


def _correction(
    place: _Place, inside: Sequence[Sample], known: Sequence[Sample], held_out: Sequence[tuple[Sample, Factors]]
) -> Correction | None:
    shapes = len({sample.shape for sample in inside})
    error = None
    if place.family is not None and shapes < MIN_RUNS_TO_JUDGE:
        return None
    if shapes >= MIN_RUNS_TO_JUDGE:
        errors, plain = _errors(held_out), _errors([(sample, {}) for sample in inside])
        if statistics.mean(errors) >= statistics.mean(plain) or statistics.median(errors) > statistics.median(
            plain
        ):
            return None
        error = statistics.median(errors)
    return Correction(
        tier=Tier.ANALYTIC, task=place.task, family=place.family, scope=place.scope, key=place.key,
        factors=learn(known, place.target, place.task, place.family), num_runs=len(inside), median_error=error,
    )  # fmt: skip


def _intervals(
    scope: Scope, key: str, task: str, runs: Sequence[tuple[Sample, Factors]], base: Calibration
) -> Iterable[Interval]:
    for quantity in Quantity:
        analytic = [sample.residual(factors, quantity) for sample, factors in runs if quantity in sample.peaks]
        traced = [sample.traced[quantity] for sample, _ in runs if quantity in sample.traced]
        for tier, residuals in ((Tier.ANALYTIC, analytic), (Tier.TRACE, traced)):
            if residuals:
                around = base.interval(tier, task, "", quantity, "", Target())
                band = band_of(residuals, Band(low=math.log(around.low_ratio), high=math.log(around.high_ratio)))
                yield Interval(
                    tier=tier, task=task, quantity=quantity, scope=scope, key=key, low_ratio=math.exp(band.low),
                    high_ratio=math.exp(band.high), num_runs=len(residuals),
                )  # fmt: skip


def save(calibration: Calibration, path: Path) -> None:
    """Write a calibration file whole or not at all."""
    document = {
        "version": FORMAT_VERSION,
        "made": dict(calibration.made),
        "corrections": [_plain(asdict(entry)) for entry in calibration.corrections],
        "intervals": [_plain(asdict(entry)) for entry in calibration.intervals],
        "paces": [_plain(asdict(entry)) for entry in calibration.paces],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 6)
        return {name: rounded(inner) for name, inner in value.items()} if isinstance(value, dict) else value

    return {name: rounded(value) for name, value in row.items() if value not in (None, "")}


def cross_validate(
    measurements: Iterable[Measurement], held_out_by: Callable[[Sample], str]
) -> list[tuple[Sample, float, float]]:
    """Each run's error (predicted / measured - 1), uncalibrated and calibrated on the runs of all other groups."""
    samples = samples_of(measurements)
    rows = []
    for sample in samples:
        others = [other for other in samples if held_out_by(other) != held_out_by(sample)]
        learnt = calibration_of(others).correction(Tier.ANALYTIC, sample.task, sample.family, sample.target)
        factors = learnt.factors if learnt else {}
        before, after = (math.expm1(-sample.residual(used, sample.judged)) for used in ({}, factors))
        rows.append((sample, before, after))
    return rows
