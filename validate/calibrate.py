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
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hardware_db.gpu import Gpu
from planner.calibration import (
    FORMAT_VERSION,
    PARTS,
    SCOPES,
    Calibration,
    Correction,
    Interval,
    Part,
    Scope,
    Target,
    family,
    part_of,
)
from planner.errors import PlannerError
from planner.memory.breakdown import MemoryBreakdown
from planner.model.hf_config import architecture_from_config
from planner.quantity import Quantity, Tier
from validate.compare import analytic_breakdown, parts_measured, parts_predicted, request_of, target_of
from validate.conformal import Band, enough, split_conformal
from validate.measurement import Measurement, outermost

SHRINKAGE_RUNS = 3
"""Runs at which measurements and the answer around them weigh the same."""
MIN_RUNS_TO_JUDGE = 4
"""From here on a correction must have lowered the mean error of runs it was not learnt from, or it is dropped."""
_SMALL_PART = 0.005
"""Share of the peak below which a part says nothing."""
_MAX_LOG = math.log(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run as calibration sees it."""

    target: Target
    task: str
    family: str
    shape: str
    """Runs of equal shape repeat each other; they are held out together."""
    breakdown: MemoryBreakdown
    peaks: Mapping[Quantity, int]
    logs: Mapping[Part, float]
    """log(measured / predicted) of each part that is large enough to say something."""
    traced: Mapping[Quantity, float]
    """log(measured / traced) of each counter the trace predicted."""

    @property
    def judged(self) -> Quantity:
        """The outermost counter that was read."""
        return outermost(self.peaks)

    def key(self, scope: Scope) -> str:
        keys = {
            "stack": self.target.stack,
            "gpu": self.target.gpu,
            "generation": self.target.generation,
            "all": "",
        }
        return keys[scope] or ""

    def expected(self, factors: Mapping[Part, float], quantity: Quantity) -> float:
        """The corrected peak of ``quantity``."""
        return max(
            sum(
                term.size_bytes * factors.get(part_of(term), 1.0)
                for term in phase.terms
                if quantity.includes(term.counts_in)
            )
            for phase in self.breakdown.phases
        )

    def residual(self, factors: Mapping[Part, float], quantity: Quantity) -> float:
        """log(measured / corrected)."""
        return math.log(self.peaks[quantity] / self.expected(factors, quantity))


def sample_of(measurement: Measurement, gpu: Gpu | None) -> Sample | None:
    """What a measurement teaches; None for one that failed or that the engine does not model."""
    spec, result = measurement.spec, measurement.result
    if result.outcome != "ok":
        return None
    try:
        architecture = architecture_from_config(spec.config, name=spec.model, source="measurement")
        memory = analytic_breakdown(spec, architecture, gpu)
    except PlannerError:
        return None
    peaks = {quantity: value for quantity in Quantity if (value := result.peak(quantity.value))}
    measured, predicted = parts_measured(result, memory), parts_predicted(memory)
    if not peaks or not measured:
        return None
    floor = _SMALL_PART * max(peaks.values())
    logs = {
        part: max(-_MAX_LOG, min(_MAX_LOG, math.log(measured[part] / predicted[part])))
        for part in PARTS
        if measured.get(part, 0) > floor and predicted[part] > floor
    }
    traced = {
        quantity: math.log(peaks[quantity] / prediction.expected_bytes)
        for quantity in peaks
        if (prediction := measurement.predicted(Tier.TRACE, quantity)) and prediction.expected_bytes
    }
    workload = asdict(spec.workload)
    shape = json.dumps([spec.config, workload], sort_keys=True, default=str)
    return Sample(
        target=target_of(measurement.environment), task=spec.task, family=family(request_of(spec)), shape=shape,
        breakdown=memory, peaks=peaks, logs=logs, traced=traced,
    )  # fmt: skip


def samples_of(measurements: Iterable[Measurement]) -> tuple[Sample, ...]:
    """The runs among ``measurements`` that calibration can use."""
    samples = (sample_of(measurement, gpu_of(measurement.environment.gpu_id)) for measurement in measurements)
    return tuple(sample for sample in samples if sample is not None)


def gpu_of(gpu_id: str | None) -> Gpu | None:
    """The catalogue's GPU; None for a CPU or an unknown card."""
    from hardware_db.catalog import UnknownGpuError, find_gpu

    if gpu_id is None or gpu_id == "cpu":
        return None
    try:
        return find_gpu(gpu_id)
    except UnknownGpuError:
        return None


Factors = dict[Part, float]


def learn(samples: Sequence[Sample], target: Target, task: str, family: str | None = None) -> Factors:
    """Factors for ``target``: from the runs of every family, then from those of ``family`` alone.

    Both go from the outermost scope inward; each step takes the median of its runs, drawn towards the step before.
    """
    factors: Factors = {}
    same_kind = [s for s in samples if s.task == task and (s.target.gpu == "cpu") == (target.gpu == "cpu")]
    for only in dict.fromkeys((None, family)):
        for scope in reversed(SCOPES):
            inside = [
                sample
                for sample in same_kind
                if only in (None, sample.family) and target.matches(scope, sample.key(scope))
            ]
            factors = _drawn(factors, inside)
    return factors


def _drawn(around: Factors, inside: Sequence[Sample]) -> Factors:
    factors = dict(around)
    for part in PARTS:
        logs = [sample.logs[part] for sample in inside if part in sample.logs]
        if logs:
            weight = len(logs) / (len(logs) + SHRINKAGE_RUNS)
            before = math.log(around.get(part, 1.0))
            factors[part] = math.exp(weight * statistics.median(logs) + (1 - weight) * before)
    return factors


def calibrate(measurements: Iterable[Measurement], base: Calibration | None = None) -> Calibration:
    """Corrections and intervals for every card that was measured. ``base`` tells how wide an unmeasured one is."""
    samples = samples_of(measurements)
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
    """Each run with the factors learnt from all runs of other shapes."""
    return [
        (
            sample,
            learn([o for o in known if o.shape != sample.shape], place.target, place.task, place.family),
        )
        for sample in inside
    ]


def _errors(runs: Sequence[tuple[Sample, Factors]]) -> list[float]:
    """Absolute relative error of each corrected peak."""
    return [abs(math.expm1(-sample.residual(factors, sample.judged))) for sample, factors in runs]


def _correction(
    place: _Place, inside: Sequence[Sample], known: Sequence[Sample], held_out: Sequence[tuple[Sample, Factors]]
) -> Correction | None:
    shapes = len({sample.shape for sample in inside})
    error = None
    if shapes >= MIN_RUNS_TO_JUDGE:
        errors = _errors(held_out)
        if statistics.mean(errors) >= statistics.mean(_errors([(sample, {}) for sample in inside])):
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
                band = _band(residuals, Band(low=math.log(around.low_ratio), high=math.log(around.high_ratio)))
                yield Interval(
                    tier=tier, task=task, quantity=quantity, scope=scope, key=key, low_ratio=math.exp(band.low),
                    high_ratio=math.exp(band.high), num_runs=len(residuals),
                )  # fmt: skip


def _band(residuals: Sequence[float], around: Band) -> Band:
    """A conformal band; with too few runs, what they span, drawn towards the band around them."""
    band = split_conformal(residuals)
    if band is not None:
        return band
    spanned = Band(low=min(residuals), high=max(residuals))
    wide = Band(low=min(spanned.low, around.low), high=max(spanned.high, around.high))
    return spanned.blended(wide, len(residuals) / enough())


def save(calibration: Calibration, path: Path) -> None:
    """Write a calibration file whole or not at all."""
    document = {
        "version": FORMAT_VERSION,
        "made": dict(calibration.made),
        "corrections": [_plain(asdict(entry)) for entry in calibration.corrections],
        "intervals": [_plain(asdict(entry)) for entry in calibration.intervals],
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
        factors = learn(others, sample.target, sample.task, sample.family)
        before, after = (math.expm1(-sample.residual(used, sample.judged)) for used in ({}, factors))
        rows.append((sample, before, after))
    return rows
