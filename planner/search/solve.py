"""The largest batch, sequence, LoRA rank or concurrency that fits, found on grids of the vectorised engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

import numpy

from hardware_db import catalog
from hardware_db.gpu import Gpu
from planner import checks
from planner.answer import named_gpu, pool
from planner.errors import RequestError, UnsupportedError
from planner.memory import engine
from planner.model import registry
from planner.model.architecture import ModelArchitecture
from planner.rental import Rental, cheapest_rental
from planner.request import Parallelism, PlanRequest, ServingWorkload, TrainingWorkload
from planner.search.axes import DEFAULT_MAX_GPUS, counts
from planner.search.evaluate import peak_bytes
from planner.spread import spread_over
from planner.vocabulary import RANKED_METHODS

Unknown = Literal["batch-size", "seq-len", "lora-rank", "concurrency"]
_LIMITS: dict[Unknown, int] = {
    "batch-size": checks.MAX_BATCH,
    "seq-len": checks.MAX_TOKENS,
    "lora-rank": checks.MAX_RANK,
    "concurrency": checks.MAX_BATCH,
}
_GRID = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The answer for one kind and number of GPUs."""

    gpu: Gpu
    num_gpus: int
    parallelism: Parallelism
    unknown: Unknown
    largest: int
    """Even the high end of the memory fits; 0: nothing does."""
    largest_expected: int
    """The expectation fits, the high end may not."""
    rental: Rental | None

    @property
    def usd_per_hour(self) -> Decimal | None:
        return None if self.rental is None else self.rental.usd_per_hour


def solve(request: PlanRequest, unknown: Unknown) -> tuple[Solution, ...]:
    """The largest value per kind of GPU, largest first: of the GPUs named, or of what the budget rents.

    Raises RequestError where the unknown does not belong to the workload.
    """
    _check(request, unknown)
    checks.check_request(request)
    architecture = registry.resolve(request.model).architecture
    if architecture is None:
        raise UnsupportedError(f"only the size of {request.model} is known, and solving needs its shapes")
    wish = request.hardware
    kinds = tuple(named_gpu(name) for name in wish.gpus) or pool(request)
    found: list[Solution] = []
    for gpu in kinds:
        for num_gpus in _counts(request, gpu):
            parallelism = request.parallelism or spread_over(num_gpus, request.workload, architecture)
            if parallelism is None:
                continue
            largest, expected = _largest(architecture, request, unknown, parallelism, gpu)
            found.append(
                Solution(
                    gpu=gpu, num_gpus=parallelism.num_gpus, parallelism=parallelism, unknown=unknown,
                    largest=largest, largest_expected=expected,
                    rental=cheapest_rental(catalog.offers_for(gpu.id), parallelism.num_gpus, wish),
                )
            )  # fmt: skip
    return tuple(
        sorted(found, key=lambda solution: (-solution.largest, solution.usd_per_hour or Decimal("Infinity")))
    )


def _check(request: PlanRequest, unknown: Unknown) -> None:
    serving = isinstance(request.workload, ServingWorkload)
    if serving != (unknown == "concurrency"):
        belongs = "serving" if unknown == "concurrency" else "training"
        raise RequestError(
            f"--solve {unknown} belongs to {belongs}",
            hint=f"add --task {'serve' if belongs == 'serving' else 'train'}",
        )
    if unknown == "lora-rank" and getattr(request.workload, "method", "") not in RANKED_METHODS:
        raise RequestError("--solve lora-rank needs a method with a rank", hint="add --method lora")


def _counts(request: PlanRequest, gpu: Gpu) -> tuple[int, ...]:
    """The count asked for; of named GPUs one; otherwise the most the budget rents of this kind."""
    wish = request.hardware
    if request.parallelism is not None:
        return (request.parallelism.num_gpus,)
    if wish.num_gpus is not None or (wish.gpus and wish.max_gpus is None and wish.max_usd_per_hour is None):
        return (wish.num_gpus or 1,)
    affordable = []
    for count in counts(wish.max_gpus or DEFAULT_MAX_GPUS, None):
        rental = cheapest_rental(catalog.offers_for(gpu.id), count, wish)
        if rental is None and not wish.gpus:
            continue
        if rental and wish.max_usd_per_hour is not None and rental.usd_per_hour > wish.max_usd_per_hour:
            continue
        affordable.append(count)
    return tuple(affordable[-1:])


def _with(request: PlanRequest, unknown: Unknown, value: Any) -> Any:
    workload = request.workload
    if isinstance(workload, ServingWorkload):
        return replace(workload, concurrency=value)
    assert isinstance(workload, TrainingWorkload)
    if unknown == "lora-rank":
        return replace(workload, adapter=replace(workload.adapter, rank=value))
    return replace(workload, **{"batch-size": {"batch_size": value}, "seq-len": {"seq_len": value}}[unknown])


def _largest(
    architecture: ModelArchitecture, request: PlanRequest, unknown: Unknown, parallelism: Parallelism, gpu: Gpu
) -> tuple[int, int]:
    """Largest value whose high end fits, and whose expectation fits; each by refining a grid."""
    answers = []
    for which in (1, 0):
        low, high = 0, _LIMITS[unknown]
        while high - low > 1:
            grid = numpy.unique(numpy.geomspace(low + 1, high, _GRID).astype(numpy.int64))
            peaks = peak_bytes(engine.breakdown(architecture, _with(request, unknown, grid), parallelism, gpu))
            holds = numpy.broadcast_to(peaks[which], grid.shape) <= gpu.memory_bytes
            if holds.all():
                low = int(grid[-1])
                break
            first = int(numpy.argmin(holds))
            if first > 0:
                low = int(grid[first - 1])
            high = int(grid[first])
        answers.append(low)
    return answers[0], answers[1]
