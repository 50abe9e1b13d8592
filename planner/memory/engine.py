"""The analytic tier: from a workload to the memory of its worst rank, phase by phase, and to an estimate."""

from __future__ import annotations

from hardware_db.gpu import Gpu
from planner.errors import UnsupportedError
from planner.memory.breakdown import MemoryBreakdown
from planner.memory.estimate import Estimate
from planner.model.architecture import ModelArchitecture
from planner.quantity import Quantity, Tier
from planner.request import Parallelism, ServingWorkload, TrainingWorkload


def breakdown(
    architecture: ModelArchitecture,
    workload: TrainingWorkload | ServingWorkload,
    parallelism: Parallelism,
    gpu: Gpu | None,
) -> MemoryBreakdown:
    """Every term of every phase on the worst rank, in bytes. Raises UnsupportedError for what is not modelled."""
    refuse_unmodelled(architecture, workload)
    if isinstance(workload, TrainingWorkload):
        from planner.memory.training import training_breakdown

        return training_breakdown(architecture, workload, parallelism, gpu)
    from planner.memory.serving import serving_breakdown

    return serving_breakdown(architecture, workload, parallelism, gpu)


def refuse_unmodelled(architecture: ModelArchitecture, workload: TrainingWorkload | ServingWorkload) -> None:
    """Raises UnsupportedError where the model holds memory that its description cannot express."""
    needed, what = (
        ("activations", "training") if isinstance(workload, TrainingWorkload) else ("kv_cache", "serving")
    )
    if needed in architecture.unmodelled:
        reason = {"activations": "its activations", "kv_cache": "its key/value cache"}[needed]
        raise UnsupportedError(
            f"{what} of {architecture.name} is not modelled: {reason} cannot be described yet",
            hint="its parameters and the rules of thumb hold",
        )


def estimate(
    architecture: ModelArchitecture,
    workload: TrainingWorkload | ServingWorkload,
    parallelism: Parallelism,
    gpu: Gpu | None,
    quantity: Quantity = Quantity.DEVICE,
) -> Estimate:
    """Peak of ``quantity`` on the worst rank, with the terms that are live there (they add up to the peak)."""
    memory = breakdown(architecture, workload, parallelism, gpu)
    peak = memory.peak_phase(quantity)
    training = isinstance(workload, TrainingWorkload)
    return Estimate(
        task="train" if training else "serve",
        method=workload.method if isinstance(workload, TrainingWorkload) else workload.engine,
        tier=Tier.ANALYTIC,
        quantity=quantity,
        low_bytes=memory.low_bytes(quantity),
        expected_bytes=peak.size_bytes(quantity),
        high_bytes=memory.high_bytes(quantity),
        num_gpus=parallelism.num_gpus,
        phase=peak.phase,
        terms=tuple(term for term in peak.terms if quantity.includes(term.counts_in)),
        breakdown=memory,
    )
