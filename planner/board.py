"""Every GPU of the catalogue against one request: the smallest count that holds it, and why where none does.

Many GPUs are asked at once, so sizes of a training job over all counts come from one vectorised estimate per
generation of GPU; the terms behind a number are worked out only for the GPU that is looked at (``Board.fit``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hardware_db import catalog
from hardware_db.gpu import Gpu
from planner import calibration, calibration_file, checks
from planner.answer import MODELLED_VENDORS, Answer
from planner.calibration import Calibration, Interval
from planner.errors import RequestError
from planner.fit import Fit, Fitter, Size, SizeOf, Verdict, verdict
from planner.memory import engine
from planner.memory.breakdown import MemoryBreakdown
from planner.memory.runtime import generation
from planner.model import registry
from planner.model.architecture import ModelArchitecture
from planner.quantity import Quantity, Tier
from planner.rental import Rental, cheapest_rental
from planner.request import Parallelism, PlanRequest, TrainingWorkload
from planner.spread import counts_in_one_machine, machine_size, max_machines, spread_over
from planner.units import format_gib


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The request on ``num_gpus`` GPUs of one kind. Bytes are of the worst rank, on its device."""

    num_gpus: int
    parallelism: Parallelism
    verdict: Verdict
    size: Size
    rental: Rental | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One kind of GPU. ``placement`` is None where it cannot hold the request; ``why_not`` then says so."""

    gpu: Gpu
    placement: Placement | None
    why_not: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The answer for every kind of GPU."""

    request: PlanRequest
    model: ModelArchitecture
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]
    fit: Callable[[Candidate], Fit | None]
    """The whole answer for one candidate, with every term; None where it is not placed."""


def board(request: PlanRequest, gpus: Sequence[Gpu] | None = None) -> Board:
    """``request`` on every kind of GPU, or on ``gpus``; raises PlannerError where no GPU can answer it.

    Agrees with ``planner.plan.plan_request`` asked for each GPU by name.
    """
    resolved = registry.resolve(request.model)
    model = resolved.architecture
    if model is None:
        raise RequestError(
            f"{request.model} is a size alone: only the rules of thumb know it",
            hint="name a model, a directory with config.json, or a hub id",
        )
    doubts = checks.check_request(request, model)
    answer = Answer(
        request=request,
        model=model,
        gpus=(),
        calibration=calibration_file.load() if request.calibrated else None,
        top=1,
    )
    fitter = replace(answer.fitter, size_of=_sizes(answer))
    kinds = catalog.all_gpus() if gpus is None else gpus
    candidates = tuple(_candidate(fitter, answer.fixed, gpu) for gpu in kinds)

    def fit(candidate: Candidate) -> Fit | None:
        placed = candidate.placement
        return None if placed is None else fitter.on(candidate.gpu, placed.parallelism)

    return Board(
        request=request,
        model=model,
        candidates=candidates,
        notes=tuple(dict.fromkeys((*resolved.notes, *doubts))),
        fit=fit,
    )


def _candidate(fitter: Fitter, fixed: Parallelism | None, gpu: Gpu) -> Candidate:
    if gpu.vendor not in MODELLED_VENDORS:
        return Candidate(gpu=gpu, placement=None, why_not="runs none of the software that is modelled")
    if fixed is not None:
        estimate = fitter.estimator(fixed, gpu)
        size = Size(estimate.low_bytes, estimate.expected_bytes, estimate.high_bytes)
        return _placed(fitter, gpu, fixed, size)
    for num_gpus in fitter.smallest_counts(gpu)[:1]:
        held, spread = fitter.size(gpu, num_gpus), spread_over(num_gpus, fitter.workload, fitter.model)
        if held is not None and spread is not None:
            return _placed(fitter, gpu, spread, held)
    return Candidate(gpu=gpu, placement=None, why_not="what every rank holds alike is already too much")


def _placed(fitter: Fitter, gpu: Gpu, parallelism: Parallelism, size: Size) -> Candidate:
    level = verdict(size, gpu)
    if level is Verdict.DOES_NOT_FIT:
        short = format_gib(size.expected_bytes - gpu.memory_bytes)
        return Candidate(gpu=gpu, placement=None, why_not=f"{short} short on each of {parallelism.num_gpus}")
    rental = cheapest_rental(fitter.offers_of(gpu), parallelism.num_gpus, fitter.wish)
    placement = Placement(
        num_gpus=parallelism.num_gpus, parallelism=parallelism, verdict=level, size=size, rental=rental
    )
    return Candidate(gpu=gpu, placement=placement, why_not="")


def _sizes(answer: Answer) -> SizeOf | None:
    """Sizes of a training job over every count at once.

    None where single estimates are as quick, or where measurements correct them part by part.
    """
    request, model, learnt = answer.request, answer.model, answer.calibration
    workload = request.workload
    if not isinstance(workload, TrainingWorkload) or (learnt is not None and learnt.corrections):
        return None
    import numpy

    size_of_machine = machine_size(workload, model)
    machines = range(2, max_machines(workload, model) + 1)
    numbers = [*counts_in_one_machine(workload, model), *(size_of_machine * n for n in machines)]
    position = {number: i for i, number in enumerate(numbers)}
    ranks: Any = numpy.array(numbers, dtype=numpy.int64)

    def column(like: Gpu) -> list[Size]:
        device, found = Quantity.DEVICE, raw(like)
        low: Any
        expected: Any
        high: Any
        low, expected, high = found.low_bytes(device), found.peak_bytes(device), found.high_bytes(device)
        if learnt is not None:
            one, several = (_interval(learnt, request, like, count) for count in (1, 2))
            terms = found.phases[0].terms
            on_one, on_several = (calibration.unmeasured_bytes(entry, device, terms) for entry in (one, several))
            below, above = (
                numpy.where(ranks > 1, more, few) for few, more in zip(on_one, on_several, strict=True)
            )
            low = _scaled(expected, ranks, one.low_ratio, several.low_ratio) - below
            high = _scaled(expected, ranks, one.high_ratio, several.high_ratio) + above
            low, high = numpy.minimum(expected, low), numpy.maximum(expected, high)
        return [Size(*row) for row in zip(low.tolist(), expected.tolist(), high.tolist(), strict=True)]

    raws: dict[int, MemoryBreakdown] = {}
    columns: dict[object, list[Size]] = {}
    of_gpu: dict[str, list[Size]] = {}

    def raw(gpu: Gpu) -> MemoryBreakdown:
        key = generation(gpu)
        if key not in raws:
            raws[key] = engine.breakdown(model, workload, Parallelism(dp_shard=ranks), gpu)
        return raws[key]

    def size(gpu: Gpu, num_gpus: int) -> Size | None:
        if gpu.id not in of_gpu:
            key = generation(gpu), learnt and learnt.likeness(learnt.target_of(request, gpu))
            if key not in columns:
                columns[key] = column(gpu)
            of_gpu[gpu.id] = columns[key]
        return of_gpu[gpu.id][position[num_gpus]]

    return size


def _scaled(expected: Any, ranks: Any, on_one: float, on_several: float) -> Any:
    """Whole bytes of ``expected`` times the ratio of each number of ranks, rounded as Python rounds."""
    import numpy

    return numpy.rint(expected * numpy.where(ranks > 1, on_several, on_one)).astype(numpy.int64)


def _interval(learnt: Calibration, request: PlanRequest, gpu: Gpu, num_gpus: int) -> Interval:
    asked = replace(request, parallelism=Parallelism(dp_shard=num_gpus))
    return learnt.interval(
        Tier.ANALYTIC,
        asked.task,
        calibration.family(asked),
        Quantity.DEVICE,
        calibration.framework(asked),
        learnt.target_of(request, gpu),
    )
