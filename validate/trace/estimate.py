"""A traced run as an estimate: the band of each counter, the phases, and what was live at the peak by category."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

from hardware_db import catalog
from hardware_db.gpu import Gpu
from planner.errors import PlannerError, UnsupportedError
from planner.memory.breakdown import MemoryBreakdown, MemoryTerm, PhaseBreakdown
from planner.memory.estimate import Estimate
from planner.memory.runtime import context_terms
from planner.plan import Plan
from planner.quantity import Quantity, Tier
from planner.request import PlanRequest, TrainingWorkload
from validate.trace.allocator import SOURCE
from validate.trace.buffers import WORKSPACE, buffer_source
from validate.trace.replay import PhasePeak, live_at
from validate.trace.run import TraceResult, trace


def estimate_of(
    result: TraceResult,
    request: PlanRequest,
    quantity: Quantity,
    gpu: Gpu | None,
    *,
    measured_in: Callable[[str], bool] | None = None,
) -> Estimate:
    """The peak of ``quantity`` with the band of its histories; terms are what was allocated at the peak.

    ``measured_in`` tells which phases are asked about; None: the whole run. Raises UnsupportedError where the run
    has none of them.
    """
    worst = tuple(each for each in result.default.worst_phases() if measured_in is None or measured_in(each.phase))
    if not worst:
        raise UnsupportedError("the traced run has no such phase", hint=None)
    phases = _phases(result, worst, gpu, request)
    breakdown = MemoryBreakdown(phases=phases)
    highest = max(worst, key=lambda each: each.allocated_bytes).phase
    peak = next(phase for phase in phases if phase.phase == highest)
    low, expected, high = band(result, quantity, gpu, request, measured_in)
    return Estimate(
        task=request.task,
        method=request.workload.method if isinstance(request.workload, TrainingWorkload) else request.task,
        tier=Tier.TRACE,
        quantity=quantity,
        low_bytes=low,
        expected_bytes=expected,
        high_bytes=high,
        num_gpus=request.parallelism.num_gpus if request.parallelism else 1,
        phase=peak.phase,
        terms=tuple(term for term in peak.terms if quantity.includes(term.counts_in)),
        breakdown=breakdown,
    )


def counters(result: TraceResult, request: PlanRequest | None, gpu: Gpu | None) -> tuple[Estimate, ...]:
    """Allocated, reserved and device memory of a run; ``request`` is None for a script or a saved log."""
    asked = request or PlanRequest(model="script", workload=TrainingWorkload())
    return tuple(
        estimate_of(result, asked, quantity, gpu)
        for quantity in (Quantity.ALLOCATED, Quantity.RESERVED, Quantity.DEVICE)
    )


def band(
    result: TraceResult,
    quantity: Quantity,
    gpu: Gpu | None,
    request: PlanRequest,
    measured_in: Callable[[str], bool] | None = None,
) -> tuple[int, int, int]:
    """Low, expected and high bytes: expandable segments, the traced history, the worst simulated history."""
    counter = Quantity.RESERVED if quantity is Quantity.DEVICE else quantity
    expected, *others = (
        run.peak_bytes(counter, measured_in) for run in (result.default, result.expandable, *result.histories)
    )
    low, high = min(expected, *others), max(expected, *others)
    if quantity is not Quantity.DEVICE:
        return low, expected, high
    context = PhaseBreakdown(phase="", terms=_context(gpu, request))
    return (
        low + context.low_bytes(quantity),
        expected + context.size_bytes(quantity),
        high + context.high_bytes(quantity),
    )


def _context(gpu: Gpu | None, request: PlanRequest) -> tuple[MemoryTerm, ...]:
    return context_terms(gpu, num_gpus=request.parallelism.num_gpus if request.parallelism else 1)


def _phases(
    result: TraceResult, peaks: Iterable[PhasePeak], gpu: Gpu | None, request: PlanRequest
) -> tuple[PhaseBreakdown, ...]:
    """Each phase at its own allocated peak; unused parts of blocks and segments are slack."""
    return tuple(
        PhaseBreakdown(
            phase=worst.phase,
            terms=(
                *_live_terms(result, worst.peak_event, worst.allocated_bytes),
                MemoryTerm(
                    kind="slack",
                    label="cached segments",
                    size_bytes=worst.reserved_bytes - worst.allocated_bytes,
                    formula="reserved - allocated",
                    source=SOURCE,
                    counts_in=Quantity.RESERVED,
                ),
                *_context(gpu, request),
            ),
        )
        for worst in peaks
    )


def _live_terms(result: TraceResult, event: int, allocated_bytes: int) -> list[MemoryTerm]:
    """What is live after row ``event``: a term per category, and one per buffer that no operator shows."""
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    for group in live_at(result.log, event):
        sizes[group.category or "unlabelled", group.op if group.category == WORKSPACE else ""] += group.size_bytes
    terms = [
        MemoryTerm(
            kind=kind, label=f"{kind}: {buffer}" if buffer else kind, size_bytes=size, formula="Σ live blocks",
            source=buffer_source(buffer) if buffer else SOURCE,
        )
        for (kind, buffer), size in sorted(sizes.items(), key=lambda item: -item[1])
    ]  # fmt: skip
    rest = allocated_bytes - sum(sizes.values())
    rounding = MemoryTerm(
        kind="slack",
        label="rounding of blocks",
        size_bytes=rest,
        formula="Σ (block - request)",
        source=SOURCE,
    )
    return [*terms, rounding]


def with_traces(plan: Plan) -> Plan:
    """The plan with a traced estimate of device memory beside each training estimate; refusals become warnings."""
    estimates, warnings = list(plan.estimates), list(plan.warnings)
    for request in plan.requests:
        gpu = catalog.find_gpu(request.hardware.gpus[0]) if request.hardware.gpus else None
        try:
            result = trace(request, gpu=gpu)
        except PlannerError as error:
            warnings.append(f"{_name(request)} is not traced: {error.message}")
            continue
        estimates.append(estimate_of(result, request, Quantity.DEVICE, gpu))
        warnings += result.warnings
    return replace(plan, estimates=tuple(estimates), warnings=tuple(dict.fromkeys(warnings)))


def _name(request: PlanRequest) -> str:
    workload = request.workload
    return workload.method if isinstance(workload, TrainingWorkload) else "serving"
