"""A traced run as an estimate of device memory, to stand beside the analytic one in an answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hardware_db import catalog
from hardware_db.gpu import Gpu
from planner.answer import named_gpu
from planner.citation import Citation
from planner.errors import UnsupportedError
from planner.estimate import Estimate
from planner.fit import fit_of
from planner.memory.breakdown import MemoryTerm
from planner.plan import Plan
from planner.quantity import Quantity, Tier
from planner.request import Parallelism, PlanRequest
from validate.trace.run import TraceResult, trace

_TRACE = Citation(
    title="PyTorch: a step run on fake tensors",
    url="https://docs.pytorch.org/docs/stable/torch.compiler_fake_tensor.html",
)
_ALLOCATOR = Citation(
    title="PyTorch: the caching allocator, replayed",
    url="https://github.com/pytorch/pytorch/blob/main/c10/cuda/CUDACachingAllocator.cpp",
)


def with_traces(plan: Plan) -> Plan:
    """The plan with a traced estimate beside each analytic one, and its verdict on the GPU that was named.

    Of several requests one that cannot be traced becomes a warning; a single one raises UnsupportedError.
    """
    estimates, fits, warnings = list(plan.estimates), list(plan.fits), list(plan.warnings)
    for request in plan.requests:
        analytic = next((item for item in plan.estimates_of(request) if item.tier is Tier.ANALYTIC), None)
        if analytic is None:
            continue
        gpu = named_gpu(request.hardware.gpus[0]) if request.hardware.gpus else None
        try:
            traced = traced_estimate(request, analytic, gpu)
        except UnsupportedError as error:
            if len(plan.requests) == 1:
                raise
            warnings.append(f"{request.task} is not traced: {error.message}")
            continue
        estimates.append(traced)
        if gpu is not None:
            offers = catalog.offers_for(gpu.id)
            fits.append(fit_of(traced, gpu, Parallelism(), offers=offers, wish=request.hardware))
    return replace(plan, estimates=tuple(estimates), fits=tuple(fits), warnings=tuple(warnings))


def traced_estimate(request: PlanRequest, analytic: Estimate, gpu: Gpu | None = None) -> Estimate:
    """Device bytes of one traced rank: what the step allocated, the allocator's segments, and the context.

    The context is that of ``analytic``, as no allocator sees it. The interval spans the allocator with and without
    expandable segments, and what is not known of the context. Raises what ``validate.trace.trace`` raises.
    """
    if analytic.num_gpus > 1:
        raise UnsupportedError(
            f"{analytic.num_gpus} GPUs are not traced together", hint="name a GPU that holds the job alone"
        )
    result = trace(request, gpu=gpu)
    terms = (*_live_terms(result), *(term for term in analytic.terms if term.counts_in is Quantity.DEVICE))
    expected_bytes = sum(term.size_bytes for term in terms)
    low_bytes = sum(term.size_bytes if term.low_bytes is None else term.low_bytes for term in terms)
    high_bytes = sum(term.size_bytes if term.high_bytes is None else term.high_bytes for term in terms)
    return replace(
        analytic,
        tier=Tier.TRACE,
        low_bytes=low_bytes,
        expected_bytes=expected_bytes,
        high_bytes=high_bytes,
        phase=result.default.peak_phase,
        terms=terms,
        breakdown=None,
        calibration=None,
    )


def _live_terms(result: TraceResult) -> tuple[MemoryTerm, ...]:
    """What was allocated at the peak by category, and what the allocator held beyond it."""
    sizes: Counter[str] = Counter()
    for group in result.live_at_peak():
        sizes[group.category or "other"] += group.size_bytes
    live = tuple(
        MemoryTerm(
            kind=category,
            label=f"{category} live at the peak",
            size_bytes=size_bytes,
            formula="blocks of the traced step",
            source=_TRACE,
        )
        for category, size_bytes in sizes.most_common()
    )
    allocated = sum(sizes.values())
    reserved = result.peak_bytes(Quantity.RESERVED)
    expandable = result.expandable.peak_bytes(Quantity.RESERVED)
    slack = MemoryTerm(
        kind="slack",
        label="segments beyond the blocks",
        size_bytes=reserved - allocated,
        low_bytes=min(reserved, expandable) - allocated,
        high_bytes=max(reserved, expandable) - allocated,
        formula="reserved − allocated",
        inputs={"reserved": reserved, "allocated": allocated},
        source=_ALLOCATOR,
        counts_in=Quantity.RESERVED,
    )
    return (*live, slack)
