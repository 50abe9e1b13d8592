"""What to change so that a plan fits, what saves next when it does, and what to beware of.

A change is priced in seconds per step (predicted), in answer quality (published), or in the job itself. The
ranking prefers changes that cost nothing, then time, then quality, then the job, then more hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

from hardware_db.gpu import Gpu
from planner.changes import FEW_BITS, Price, Step, Workload, possible_steps, together
from planner.citation import Citation
from planner.dtypes import weight_format
from planner.errors import PlannerError, UnsupportedError
from planner.memory import engine
from planner.memory.estimate import Estimate
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism
from planner.throughput import TrainingThroughput, throughput

BITNET = Citation(title="Ma et al. 2024: BitNet b1.58 is trained so", url="https://arxiv.org/abs/2402.17764")
Estimated = Callable[[Workload, Parallelism], Estimate]
"""Device memory of the worst rank on the GPU in question."""
_FREE_SLOWDOWN = 1.02
_MOST_TOGETHER = 3
_SLOW_LINK_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One or several steps together, evaluated."""

    labels: tuple[str, ...]
    workload: Workload
    parallelism: Parallelism
    fits: bool
    saved_bytes: int
    """Less expected memory per GPU."""
    slowdown: float | None
    """Time of a token against before, over all GPUs; None where speed is not modelled."""
    price: Price
    costs: tuple[str, ...]
    sources: tuple[Citation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """A warning and where it is from."""

    text: str
    source: Citation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """For one plan on one kind of GPU."""

    fits: bool
    """Even the high end of the memory fits."""
    changes: tuple[Change, ...]
    """Where it does not fit: changes that make it fit, cheapest first. Where it does: single savings."""
    warnings: tuple[Warned, ...]


def advise(
    architecture: ModelArchitecture,
    workload: Workload,
    parallelism: Parallelism,
    gpu: Gpu,
    *,
    estimated: Estimated | None = None,
) -> Advice:
    """Advice for a plan; raises UnsupportedError where its memory is not modelled.

    ``estimated`` sizes the plan and its changes; None: the bare formulas.
    """

    def by_formula(workload: Workload, spread: Parallelism) -> Estimate:
        return engine.estimate(architecture, workload, spread, gpu)

    estimated = estimated or by_formula
    before = estimated(workload, parallelism)
    rate = _tokens_per_s(architecture, workload, parallelism, gpu)
    fits = before.high_bytes <= gpu.memory_bytes
    steps = list(possible_steps(workload, parallelism))
    found: list[Change] = []
    for size in range(1, 2 if fits else _MOST_TOGETHER + 1):
        for chosen in combinations(steps, size):
            change = _evaluated(
                architecture, workload, parallelism, gpu, chosen, before.expected_bytes, rate, estimated
            )
            if change is not None and (fits or change.fits):
                found.append(change)
        if found and not fits:
            break  # more steps at once cost more than fewer
    found.sort(key=_cost)
    warnings = tuple(_warnings(architecture, workload, parallelism, gpu))
    return Advice(fits=fits, changes=tuple(found), warnings=warnings)


def _cost(change: Change) -> tuple[int, float, int]:
    slowdown = change.slowdown or 1.0
    return change.price, slowdown if slowdown > _FREE_SLOWDOWN else 1.0, -change.saved_bytes


def _tokens_per_s(
    architecture: ModelArchitecture, workload: Workload, spread: Parallelism, gpu: Gpu
) -> float | None:
    try:
        speed = throughput(architecture, workload, spread, gpu)
    except UnsupportedError:
        return None
    if isinstance(speed, TrainingThroughput):
        return speed.tokens_per_s.expected
    return speed.output_tokens_per_s.expected


def _evaluated(
    architecture: ModelArchitecture, workload: Workload, spread: Parallelism, gpu: Gpu, steps: tuple[Step, ...],
    before_bytes: int, rate: float | None, estimated: Estimated,
) -> Change | None:  # fmt: skip
    after = together(workload, spread, steps)
    if after is None:
        return None
    changed, changed_spread = after
    try:
        needed = estimated(changed, changed_spread)
    except PlannerError:
        return None
    if needed.expected_bytes >= before_bytes:
        return None
    new_rate = _tokens_per_s(architecture, changed, changed_spread, gpu)
    per_gpu = changed_spread.num_gpus / spread.num_gpus
    return Change(
        labels=tuple(step.label for step in steps),
        workload=changed,
        parallelism=changed_spread,
        fits=needed.high_bytes <= gpu.memory_bytes,
        saved_bytes=before_bytes - needed.expected_bytes,
        slowdown=rate * per_gpu / new_rate if rate and new_rate else None,
        price=max(step.price for step in steps),
        costs=tuple(step.cost for step in steps if step.cost),
        sources=tuple(step.source for step in steps if step.source is not None),
    )


def _warnings(
    architecture: ModelArchitecture, workload: Workload, spread: Parallelism, gpu: Gpu
) -> Iterator[Warned]:
    stored = weight_format(workload.weight_dtype)
    if stored.scheme == "bitnet":
        yield Warned(text="1.58-bit weights are for models trained so; others break", source=BITNET)
    elif stored.is_quantised and stored.bits < 4:
        yield Warned(text=f"{stored.name}: accuracy falls below 4 bits", source=FEW_BITS)
    if workload.compute_dtype == "bf16" and gpu.supports_bf16 is False:
        yield Warned(text=f"{gpu.name} has no bf16 units: products run emulated, compute in fp16 there")
    narrow = stored.name == "fp8" or getattr(workload, "matmul_dtype", None) == "fp8"
    if narrow and not gpu.dense_flops_per_s.get("fp8"):
        yield Warned(text=f"{gpu.name} has no fp8 units: weights take less room, but products run in 16 bits")
    if spread.num_gpus == 1:
        return
    try:
        speed = throughput(architecture, workload, spread, gpu)
    except UnsupportedError:
        return
    training = isinstance(speed, TrainingThroughput)
    parts = speed.parts if isinstance(speed, TrainingThroughput) else speed.decode_parts
    total_s = speed.step_time_s.expected if isinstance(speed, TrainingThroughput) else speed.tpot_s.expected
    waiting_s = sum(part.seconds for part in parts if part.kind == "communication")
    if waiting_s > _SLOW_LINK_SHARE * total_s:
        unit = "step" if training else "token"
        yield Warned(
            text=f"the link between {gpu.name}s is busy {min(waiting_s / total_s, 1):.0%} of a {unit}:"
            " NVLink machines or fewer, larger GPUs are faster"
        )
