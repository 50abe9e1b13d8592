"""What measurements taught: corrections per kind of memory, and how wide an honest interval is.

The engine never measures. Every entry says for whom it holds; the most specific entry that matches a request is
used. Ratios are measured / expected bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hardware_db.gpu import Gpu
from planner.memory.breakdown import MemoryBreakdown, MemoryTerm
from planner.memory.estimate import Estimate
from planner.pace import Pace
from planner.quantity import Quantity, Tier
from planner.request import PlanRequest, ServingWorkload, TrainingWorkload
from planner.target import SCOPES, Scope, Target, target_of

Part = Literal["resident", "states", "activations", "slack", "context"]
PARTS: tuple[Part, ...] = ("resident", "states", "activations", "slack", "context")
"""What one measurement tells apart: after loading, after a step, at the peak, in segments, on the device."""
_RESIDENT = frozenset({"weights", "adapter", "buffers", "vision"})
_STATES = frozenset({"gradients", "optimizer", "ema", "master_weights"})

_LOW_RANK = frozenset({"lora", "dora", "rslora", "lora+", "pissa", "adalora", "loha", "lokr", "lora-fa", "vera"})
_ENGINES = frozenset({"vllm", "sglang", "llama.cpp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where ``coverage`` of the measurements of one group lie, as ratios to the expectation.

    ``family`` / ``quantity`` / ``framework`` None: of any. ``num_sources`` counts independent publications.
    """

    tier: Tier
    task: str
    family: str | None = None
    quantity: Quantity | None = None
    framework: str | None = None
    scope: Scope = "all"
    key: str = ""
    low_ratio: float
    high_ratio: float
    num_runs: int
    num_sources: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Factors on the parts of an answer, learnt from ``num_runs`` measurements of one scope."""

    tier: Tier
    task: str
    family: str | None = None
    scope: Scope
    key: str = ""
    """Stack fingerprint, GPU id or architecture; empty for "all"."""
    factors: Mapping[Part, float]
    num_runs: int
    median_error: float | None = None
    """Median absolute relative error of the corrected peak, each run predicted from the others; None: too few."""


# Where nothing comparable was ever measured: chosen wide on purpose, with no data behind it.
_UNKNOWN_LOW, _UNKNOWN_HIGH = 0.70, 1.50


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Corrections and intervals, most recent file first."""

    corrections: tuple[Correction, ...] = ()
    intervals: tuple[Interval, ...] = ()
    paces: tuple[Pace, ...] = ()
    """How fast cards were, against what the formulas of speed say."""
    made: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What the shipped file was computed from: cases, sources, date, held-out coverage."""

    def apply(self, estimate: Estimate, request: PlanRequest, gpu: Gpu | None) -> Estimate:
        """``estimate`` corrected by what is known of ``gpu`` and given an honest interval.

        Rules of thumb are returned as they are: they are the documents' own formulas.
        """
        if estimate.tier not in (Tier.ANALYTIC, Tier.TRACE) or not request.calibrated:
            return estimate
        return self.apply_to(estimate, family(request), framework(request), self.target_of(request, gpu))

    def target_of(self, request: PlanRequest, gpu: Gpu | None) -> Target:
        """As ``target_of``; software is looked up only where an entry speaks of it, as that takes a while."""
        scopes = {entry.scope for entry in self.corrections} | {entry.scope for entry in self.intervals}
        return target_of(request.workload, gpu, with_stack="stack" in scopes)

    def apply_to(self, estimate: Estimate, family: str, framework: str, target: Target) -> Estimate:
        """As ``apply``, for a card that is described by ``target``."""
        correction = self.correction(estimate.tier, estimate.task, family, target)
        if correction:
            estimate = _corrected(estimate, correction, target)
        interval = self.interval(estimate.tier, estimate.task, family, estimate.quantity, framework, target)
        expected = estimate.expected_bytes
        below, above = unmeasured_bytes(interval, estimate.quantity, estimate.terms)
        return replace(
            estimate,
            low_bytes=min(expected, round(expected * interval.low_ratio) - below),
            high_bytes=max(expected, round(expected * interval.high_ratio) + above),
        )

    def likeness(self, target: Target) -> tuple[tuple[Scope, str], ...]:
        """The scopes with entries that speak of ``target``; targets that are alike get the same answers."""
        entries = {(entry.scope, entry.key) for entry in self.corrections}
        entries |= {(entry.scope, entry.key) for entry in self.intervals}
        return tuple(sorted(entry for entry in entries if target.matches(*entry)))

    def correction(self, tier: Tier, task: str, family: str, target: Target) -> Correction | None:
        """The most specific correction: nearest scope first, then the same family before all families."""
        found = [
            entry
            for entry in self.corrections
            if entry.tier == tier
            and entry.task == task
            and entry.family in (family, None)
            and target.matches(entry.scope, entry.key)
        ]
        return min(found, key=lambda entry: (SCOPES.index(entry.scope), entry.family is None), default=None)

    def interval(
        self, tier: Tier, task: str, family: str, quantity: Quantity, framework: str, target: Target
    ) -> Interval:
        """The most specific interval; a wide one of zero runs where nothing was ever measured.

        A trace that was not held against measurements takes the analytic tier's: most of what makes published runs
        miss is what they leave unsaid, and both tiers are asked the same.
        """
        found = [
            entry
            for entry in self.intervals
            if entry.tier == tier
            and entry.task == task
            and entry.family in (family, None)
            and entry.quantity in (quantity, None)
            and entry.framework in (framework, None)
            and target.matches(entry.scope, entry.key)
        ]

        def vagueness(entry: Interval) -> tuple[int, int, int, int]:
            return (
                SCOPES.index(entry.scope),
                int(entry.family is None),
                int(entry.framework is None),
                int(entry.quantity is None),
            )

        if not found and tier is Tier.TRACE:
            return self.interval(Tier.ANALYTIC, task, family, quantity, framework, target)
        return min(found, key=vagueness, default=_unmeasured(tier, task))


def unmeasured_bytes(interval: Interval, quantity: Quantity, terms: Iterable[MemoryTerm]) -> tuple[int, int]:
    """How far below and above its size the device's own memory may lie, where an interval does not speak of it.

    Most published measurements are of the allocator's counters. An interval of no particular counter then says
    nothing of CUDA contexts and libraries, whose terms bring bounds of their own.
    """
    if quantity is not Quantity.DEVICE or interval.quantity is Quantity.DEVICE or not interval.num_runs:
        return 0, 0
    own = [term for term in terms if term.counts_in is Quantity.DEVICE]
    below = sum(term.size_bytes - term.low_bytes for term in own if term.low_bytes is not None)
    above = sum(term.high_bytes - term.size_bytes for term in own if term.high_bytes is not None)
    return below, above


def _unmeasured(tier: Tier, task: str) -> Interval:
    return Interval(tier=tier, task=task, low_ratio=_UNKNOWN_LOW, high_ratio=_UNKNOWN_HIGH, num_runs=0)


def family(request: PlanRequest) -> str:
    """The group a request's errors are like: full, sharded, lora, qlora, peft-other, serve-hf or serve-engine."""
    workload = request.workload
    if isinstance(workload, ServingWorkload):
        return "serve-engine" if workload.engine in _ENGINES else "serve-hf"
    if request.parallelism is not None and request.parallelism.num_gpus > 1:
        return "sharded"
    if workload.method in ("full", "qlora"):
        return workload.method
    return "lora" if workload.method in _LOW_RANK else "peft-other"


def framework(request: PlanRequest) -> str:
    """What runs the request: the trainer's or the engine's name."""
    workload = request.workload
    return workload.framework if isinstance(workload, TrainingWorkload) else workload.engine


def part_of(term: MemoryTerm) -> Part:
    """Which measurable part a term belongs to."""
    if term.counts_in is Quantity.DEVICE:
        return "context"
    if term.counts_in is Quantity.RESERVED:
        return "slack"
    if term.kind in _RESIDENT:
        return "resident"
    return "states" if term.kind in _STATES else "activations"


def _corrected(estimate: Estimate, correction: Correction, target: Target) -> Estimate:
    text = _in_words(correction, target)
    if estimate.breakdown is None:
        terms = _scaled(estimate.terms, correction.factors)
        total = sum(term.size_bytes for term in terms) if terms else estimate.expected_bytes
        return replace(estimate, terms=terms, expected_bytes=total, calibration=text)
    breakdown = MemoryBreakdown(
        phases=tuple(
            replace(phase, terms=_scaled(phase.terms, correction.factors)) for phase in estimate.breakdown.phases
        )
    )
    return replace(estimate.around(breakdown), calibration=text)


def _scaled(terms: tuple[MemoryTerm, ...], factors: Mapping[Part, float]) -> tuple[MemoryTerm, ...]:
    def scaled(size_bytes: int | None, factor: float) -> int | None:
        return None if size_bytes is None else round(size_bytes * factor)

    return tuple(
        replace(
            term,
            size_bytes=round(term.size_bytes * factor),
            low_bytes=scaled(term.low_bytes, factor),
            high_bytes=scaled(term.high_bytes, factor),
        )
        if (factor := factors.get(part_of(term), 1.0)) != 1.0
        else term
        for term in terms
    )


def _in_words(correction: Correction, target: Target) -> str:
    runs = "run" if correction.num_runs == 1 else "runs"
    error = "" if correction.median_error is None else f", median error {correction.median_error:.1%}"
    return f"calibrated on {correction.num_runs} {runs} on {target.in_words(correction.scope)}{error}"
