"""What the planner predicts for a memory case of the benchmark: a peak, or a line of an engine's log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from planner.errors import UnsupportedError
from planner.memory.estimate import Estimate
from planner.quantity import Quantity, Tier
from planner.request import (
    ServingWorkload,
    TrainingWorkload,
)
from validate.published.cases import Case, Prediction
from validate.published.memory_expressed import MemoryCase, express

_PEAKS = {
    "allocated_peak": Quantity.ALLOCATED,
    "active_peak": Quantity.ACTIVE,
    "reserved_peak": Quantity.RESERVED,
    "device_used_peak": Quantity.DEVICE,
}
_POOLS = ("weights", "kv_cache_bytes", "kv_cache_tokens", "activation_peak", "non_torch", "cuda_graphs")
SHORT_STEP_TOKENS = 16
_PHASES = {"init": ("load",), "decode": ("decode", "serve")}


def predict_memory(case: Case, tier: Tier = Tier.ANALYTIC, *, timeout_s: float | None = None) -> Prediction:
    """The case's quantity in its own unit, with the interval. Raises PlannerError where it is not supported.

    ``timeout_s`` bounds a trace.
    """
    memory_case = express(case)
    if case.measured.quantity in _POOLS:
        if tier is Tier.TRACE:
            raise UnsupportedError("a line of an engine's start-up log is not traced")
        return _pool(case, memory_case)
    estimate = _estimate(memory_case, _PEAKS[case.measured.quantity], case.measured.phase, tier, timeout_s)
    times = memory_case.num_devices
    return Prediction(
        id=case.id,
        predicted=estimate.expected_bytes * times,
        low=estimate.low_bytes * times,
        high=estimate.high_bytes * times,
    )


def _pool(case: Case, memory_case: MemoryCase) -> Prediction:
    """A line of an engine's start-up log."""
    from planner.memory.pools import pools

    workload = memory_case.request.workload
    if not isinstance(workload, ServingWorkload):
        raise UnsupportedError(f"{case.measured.quantity} of a training run is not predicted by itself")
    answer = getattr(
        pools(
            memory_case.architecture,
            workload,
            memory_case.parallelism,
            memory_case.gpu,
            cuda_total_bytes=memory_case.cuda_total_bytes,
        ),
        case.measured.quantity,
    )
    if answer is None:
        raise UnsupportedError("the KV pool depends on the GPU, and none is named")
    return Prediction(id=case.id, predicted=answer.expected, low=answer.low, high=answer.high)


def _estimate(
    memory_case: MemoryCase, quantity: Quantity, phase: str | None, tier: Tier, timeout_s: float | None
) -> Estimate:
    from planner import calibration_file
    from planner.memory import engine

    if tier is Tier.TRACE:
        estimate = _traced(memory_case, quantity, phase, timeout_s)
    else:
        estimate = engine.estimate(
            memory_case.architecture,
            memory_case.request.workload,
            memory_case.parallelism,
            memory_case.gpu,
            quantity,
        )
        estimate = _of_phase(estimate, phase)
    return calibration_file.load().apply(estimate, memory_case.request, memory_case.gpu)


def _measured_in(phase: str | None) -> Callable[[str], bool] | None:
    """Which phases of ours were measured: loading, decoding, training without evaluation; None: all."""
    if phase not in ("init", "decode", "train"):
        return None
    names = _PHASES.get(phase)
    return (lambda name: name in names) if names else (lambda name: not name.startswith("eval"))


def _of_phase(estimate: Estimate, phase: str | None) -> Estimate:
    """The estimate of the phases that were measured."""
    breakdown, measured = estimate.breakdown, _measured_in(phase)
    if breakdown is None or measured is None:
        return estimate
    kept = tuple(each for each in breakdown.phases if measured(each.phase))
    if not kept:
        raise UnsupportedError(f"no phase {phase!r} is predicted for this request")
    breakdown = replace(breakdown, phases=kept)
    return replace(
        estimate.around(breakdown),
        low_bytes=breakdown.low_bytes(estimate.quantity),
        high_bytes=breakdown.high_bytes(estimate.quantity),
    )


def _traced(memory_case: MemoryCase, quantity: Quantity, phase: str | None, timeout_s: float | None) -> Estimate:
    from validate.trace.estimate import estimate_of
    from validate.trace.run import TIMEOUT_S, trace

    request = replace(memory_case.request, parallelism=memory_case.parallelism)
    if phase == "init" and isinstance(request.workload, TrainingWorkload):
        # Loading knows nothing of the batches that follow, whose length is often not published.
        request = replace(request, workload=replace(request.workload, seq_len=SHORT_STEP_TOKENS))
    result = trace(request, gpu=memory_case.gpu, timeout_s=timeout_s or TIMEOUT_S)
    return estimate_of(result, request, quantity, memory_case.gpu, measured_in=_measured_in(phase))
