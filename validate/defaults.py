"""The shipped calibration: how wide published measurements say an interval must be, checked on what was left out.

Published rows teach intervals only, never a constant of one row. A residual is log(measured / predicted). Cases of
one publication share its unknowns (script, padding, versions), so coverage is judged twice: a known framework with
all runs of one model left out, and an unknown one with a whole publication left out. Bands that miss the promised
share are widened by one factor each until they hold it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from planner import calibration
from planner.calibration import Interval
from planner.quantity import Quantity, Tier
from planner.request import PlanRequest
from validate.conformal import COVERAGE, SHRINKAGE_RUNS, Band, agreement, enough, split_conformal
from validate.published.cases import Case, Prediction

MIN_RUNS = 3
"""Fewer runs do not make a group of their own."""
LEAST_HALF_WIDTH = 0.01
"""Published figures are printed to three digits; no band is claimed narrower."""
_UNKNOWN = Band(low=math.log(0.70), high=math.log(1.50))
_FACTORS = tuple(1 + step / 20 for step in range(61))

_QUANTITIES = {
    "allocated_peak": Quantity.ALLOCATED,
    "active_peak": Quantity.ACTIVE,
    "reserved_peak": Quantity.RESERVED,
    "device_used_peak": Quantity.DEVICE,
}

Key = tuple[str | None, str | None, Quantity | None]
"""Family, framework, counter; None: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """One published measurement against its prediction."""

    task: str
    family: str
    framework: str
    quantity: Quantity
    source: str
    """The publication: what is left out together to judge an unknown framework."""
    model: str
    log_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Share of held-out measurements inside their interval, and how wide the intervals were."""

    group: str
    num_runs: int
    known_framework: float
    """With all runs of the same model and publication left out."""
    new_source: float
    """With the whole publication left out."""
    median_width: float
    """Of the shipped intervals: (high - low) / expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Intervals to ship and the evidence for them."""

    intervals: tuple[Interval, ...]
    coverage: tuple[Coverage, ...] = field(default=())


def residuals_of(cases: Iterable[Case], predictions: Iterable[Prediction]) -> Iterator[Residual]:
    """Memory peaks that were both published and predicted."""
    from validate.published.memory_expressed import express

    by_id = {case.id: case for case in cases}
    for prediction in predictions:
        case = by_id[prediction.id]
        quantity = _QUANTITIES.get(case.measured.quantity)
        if quantity is None or not prediction.predicted:
            continue
        memory_case = express(case)
        request = PlanRequest(
            model=memory_case.architecture.name, workload=memory_case.request.workload,
            parallelism=memory_case.parallelism,
        )  # fmt: skip
        yield Residual(
            task=request.task, family=calibration.family(request),
            framework=calibration.framework(request), quantity=quantity,
            source=publication(case.source), model=memory_case.architecture.name,
            log_ratio=math.log(case.measured.value / prediction.predicted),
        )  # fmt: skip


def publication(source: str) -> str:
    """Owner and repository of a source: what shares a script and its unknowns."""
    return "/".join(source.removeprefix("https://github.com/").split("@")[0].split("/")[:2])


def keys_of(residual: Residual) -> tuple[Key, ...]:
    """Groups a residual belongs to, from the most specific to all."""
    family, framework, quantity = residual.family, residual.framework, residual.quantity
    return (
        (family, framework, quantity), (family, framework, None), (family, None, quantity), (family, None, None),
        (None, None, quantity), (None, None, None),
    )  # fmt: skip


def bands(residuals: Sequence[Residual]) -> dict[Key, Band]:
    """A band per group with enough runs, each blended with the wider group around it while it is small."""
    groups: dict[Key, list[Residual]] = {}
    for residual in residuals:
        for key in keys_of(residual):
            groups.setdefault(key, []).append(residual)
    made: dict[Key, Band] = {}
    for key in sorted(groups, key=_specificity):
        if len(groups[key]) >= MIN_RUNS:
            made[key] = _band(groups[key], _around(key, made))
    return made


def _specificity(key: Key) -> int:
    return sum(4 >> place for place, part in enumerate(key) if part is not None)


def _around(key: Key, made: Mapping[Key, Band]) -> Band:
    family, _, quantity = key
    wider: tuple[Key, ...] = (
        (family, None, quantity),
        (family, None, None),
        (None, None, quantity),
        (None, None, None),
    )
    return next((made[other] for other in wider if other != key and other in made), _UNKNOWN)


def _band(residuals: Sequence[Residual], around: Band) -> Band:
    logs = [residual.log_ratio for residual in residuals]
    band = split_conformal(logs)
    if band is None:
        spanned = Band(low=min(logs), high=max(logs))
        wide = Band(low=min(spanned.low, around.low), high=max(spanned.high, around.high))
        band = spanned.blended(wide, len(logs) / enough())
    return Band(low=min(band.low, -LEAST_HALF_WIDTH), high=max(band.high, LEAST_HALF_WIDTH))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Widening:
    """Factors by family; None: what families without their own use."""

    known: Mapping[str | None, float]
    """Where the framework was measured."""
    new: Mapping[str | None, float]

    def of(self, key: Key) -> float:
        family, framework, _ = key
        factors = self.new if framework is None else self.known
        return factors.get(family, factors[None])


def _chosen(residual: Residual, made: Mapping[Key, Band], widening: _Widening) -> Band:
    for key in keys_of(residual):
        if key in made:
            return made[key].widened(widening.of(key))
    return _UNKNOWN


def _held_out(
    residuals: Sequence[Residual], left_out: Callable[[Residual], object]
) -> list[tuple[Residual, dict[Key, Band]]]:
    """Each residual with the bands computed without its own group."""
    without: dict[object, dict[Key, Band]] = {}
    for group in {left_out(residual) for residual in residuals}:
        without[group] = bands([other for other in residuals if left_out(other) != group])
    return [(residual, without[left_out(residual)]) for residual in residuals]


Held = Sequence[tuple[Residual, Mapping[Key, Band]]]


def _share(pairs: Held, widening: _Widening) -> float:
    held = [_chosen(residual, made, widening).holds(residual.log_ratio) for residual, made in pairs]
    return sum(held) / len(held) if held else 1.0


def _widening(same_source: Held, new_source: Held, families: Sequence[str], coverage: float) -> _Widening:
    """The least factors, in all and per family, at which the promised share of what was left out is held."""

    def least(pairs: Held, widening: Callable[[float], _Widening]) -> float:
        return next((f for f in _FACTORS if _share(pairs, widening(f)) >= coverage), _FACTORS[-1])

    def of(pairs: Held, family: str) -> Held:
        return [pair for pair in pairs if pair[0].family == family]

    new: dict[str | None, float] = {}
    new[None] = least(new_source, lambda f: _Widening(known={None: 1.0}, new={None: f}))
    for family in families:
        new[family] = least(of(new_source, family), lambda f: _Widening(known={None: 1.0}, new={None: f}))
    known: dict[str | None, float] = {}
    known[None] = least(same_source, lambda f: _Widening(known={None: f}, new=new))
    for family in families:
        known[family] = least(of(same_source, family), lambda f: _Widening(known={None: f}, new=new))
    return _Widening(known=known, new=new)


def defaults(residuals: Sequence[Residual], tier: Tier, coverage: float = COVERAGE) -> Defaults:
    """Intervals of one task and tier that hold ``coverage`` of what was left out."""
    same_source = _held_out(residuals, lambda residual: (residual.source, residual.model))
    new_source = _held_out(residuals, lambda residual: residual.source)
    families = sorted({residual.family for residual in residuals})
    widening = _widening(same_source, new_source, families, coverage)
    made = bands(residuals)
    task = residuals[0].task
    intervals = tuple(
        _interval(key, band.widened(widening.of(key)), [r for r in residuals if key in keys_of(r)], tier, task)
        for key, band in sorted(made.items(), key=lambda item: str(item[0]))
    )
    evidence = []
    for family in (*families, "all"):
        inside = [residual for residual in residuals if family in (residual.family, "all")]
        widths = sorted(_width(_chosen(residual, made, widening)) for residual in inside)
        evidence.append(
            Coverage(
                group=f"{task}/{family}", num_runs=len(inside), median_width=widths[len(widths) // 2],
                known_framework=_share([p for p in same_source if family in (p[0].family, "all")], widening),
                new_source=_share([p for p in new_source if family in (p[0].family, "all")], widening),
            )
        )  # fmt: skip
    return Defaults(intervals=intervals, coverage=tuple(evidence))


def _width(band: Band) -> float:
    return math.exp(band.high) - math.exp(band.low)


def _interval(key: Key, band: Band, inside: Sequence[Residual], tier: Tier, task: str) -> Interval:
    family, framework, quantity = key
    return Interval(
        tier=tier, task=task, family=family, framework=framework, quantity=quantity,
        low_ratio=math.exp(band.low), high_ratio=math.exp(band.high), num_runs=len(inside),
        num_sources=len({residual.source for residual in inside}),
    )  # fmt: skip


def left_out_models(residuals: Sequence[Residual]) -> list[tuple[Residual, float]]:
    """Each residual of a publication, and what is left of it after learning from the publication's other models.

    One factor on the whole peak, drawn towards 1 as ``validate.calibrate`` draws it: published rows do not tell
    the parts of a peak apart.
    """
    rows = []
    for residual in residuals:
        others = [
            other.log_ratio
            for other in residuals
            if (other.source, other.family, other.quantity)
            == (residual.source, residual.family, residual.quantity)
            and other.model != residual.model
        ]
        learnt = 0.0
        if others:
            weight = len(others) / (len(others) + SHRINKAGE_RUNS) * agreement(others)
            learnt = weight * statistics.median(others)
        rows.append((residual, residual.log_ratio - learnt))
    return rows
