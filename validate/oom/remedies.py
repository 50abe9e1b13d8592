"""Changes to a request that would have fitted, each with the memory it is predicted to save.

They are those of ``planner.changes`` that take no more GPUs, and what the message itself calls for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hardware_db.gpu import Gpu
from planner.calibration import Calibration
from planner.changes import Price, Step, Workload, possible_steps, together
from planner.checks import check_request
from planner.dtypes import element_bytes
from planner.errors import PlannerError
from planner.memory import engine
from planner.model.architecture import ModelArchitecture
from planner.quantity import Quantity
from planner.request import Parallelism, PlanRequest, TrainingWorkload
from validate.oom.message import Cause, OutOfMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change. Bytes are device memory of one GPU; None where the change is not about a predicted term."""

    what: str
    option: str
    """As typed for ``plan`` or set in the environment of the run."""
    device_bytes: int | None = None
    saving_bytes: int | None = None
    fits: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedies:
    """What the request was predicted to need, and what would bring it below ``limit_bytes``."""

    predicted_bytes: int
    limit_bytes: int
    changes: tuple[Change, ...]
    together: Change | None
    """Where no single change fits: the first ones together that do."""


def suggest(
    request: PlanRequest,
    architecture: ModelArchitecture,
    gpu: Gpu | None,
    limit_bytes: int,
    calibration: Calibration | None,
    message: OutOfMemory | None = None,
) -> Remedies:
    """Predict every change that applies to ``request`` on a device of ``limit_bytes``."""
    spread = request.parallelism or Parallelism()

    def predicted(workload: Workload, spread: Parallelism) -> int:
        asked = replace(request, workload=workload, parallelism=request.parallelism and spread)
        check_request(asked, architecture)
        estimate = engine.estimate(architecture, workload, spread, gpu, Quantity.DEVICE)
        return (calibration.apply(estimate, asked, gpu) if calibration else estimate).expected_bytes

    def needed(*steps: Step) -> int | None:
        """Device memory after ``steps``; None where they exclude each other or cannot be meant."""
        after = together(request.workload, spread, steps)
        try:
            return None if after is None else predicted(*after)
        except PlannerError:
            return None

    before = predicted(request.workload, spread)
    changes = list(_from_message(message))
    taken: list[Step] = []
    joined: Change | None = None
    for step in possible_steps(request.workload, spread):
        after = None if step.price is Price.HARDWARE else needed(step)
        if after is None or after >= before:
            continue
        changes.append(_change(step.label, (step,), after, before, limit_bytes))
        taken = [*(other for other in taken if other.sets.keys().isdisjoint(step.sets)), step]
        all_after = needed(*taken)
        if joined is None and len(taken) > 1 and all_after is not None and all_after <= limit_bytes:
            joined = _change("together", taken, all_after, before, limit_bytes)
    changes += _evaluation(request.workload, architecture)
    if message is not None and message.phase == "eval":
        changes += _of_phase(message.phase)
    return Remedies(
        predicted_bytes=before, limit_bytes=limit_bytes, changes=tuple(changes),
        together=None if any(change.fits for change in changes) else joined,
    )  # fmt: skip


def _change(what: str, steps: Sequence[Step], after: int, before: int, limit_bytes: int) -> Change:
    return Change(
        what=what, option=" ".join(step.option for step in steps), device_bytes=after,
        saving_bytes=before - after, fits=after <= limit_bytes,
    )  # fmt: skip


def general(message: OutOfMemory) -> tuple[Change, ...]:
    """What helps in the phase of the message, where the request is not known."""
    return (*_from_message(message), *_of_phase(message.phase))


def _of_phase(phase: str | None) -> tuple[Change, ...]:
    by_phase = {
        "eval": (
            ("move gathered predictions to the CPU every few steps", "eval_accumulation_steps=1"),
            ("keep the loss alone where metrics need no logits", "prediction_loss_only=True"),
            ("reduce logits to what the metric needs before they are gathered", "preprocess_logits_for_metrics="),
            ("evaluate in smaller batches", "per_device_eval_batch_size=1"),
        ),
        "loss": (
            ("compute the loss in chunks, without the whole logits", "--loss chunked"),
            ("a smaller micro-batch with accumulation", "--batch-size … --gradient-accumulation-steps …"),
        ),
        "optimizer step": (
            ("keep optimizer states in 8 bits", "--optimizer paged-adamw-8bit"),
            ("avoid the temporaries of foreach", "--optimizer adamw-fused"),
            ("train adapters alone", "--method lora"),
        ),
        "generate": (
            ("answer fewer requests at once", "--batch-size …"),
            ("a shorter context", "--seq-len …"),
            ("weights in 4 bits", "--bits 4"),
        ),
        "load": (("weights in fewer bits", "--bits 4"), ("spread the model over GPUs", "--num-gpus 2")),
        "KV cache": (
            ("a shorter context", "--max-model-len …"),
            ("a larger share of the GPU", "--gpu-memory-utilization 0.95"),
        ),
    }
    otherwise = (
        ("a smaller micro-batch with accumulation", "--batch-size … --gradient-accumulation-steps …"),
        ("recompute activations", "--gradient-checkpointing"),
        ("adapters on 4-bit weights", "--method qlora"),
    )
    return tuple(Change(what=what, option=option) for what, option in by_phase.get(phase or "", otherwise))


def _from_message(message: OutOfMemory | None) -> Iterator[Change]:
    if message is None:
        return
    if message.cause is Cause.FRAGMENTATION:
        yield Change(
            what="let segments grow, so that free pieces join", saving_bytes=message.unallocated_bytes,
            option="PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
        )  # fmt: skip
    if message.cause is Cause.OTHER_PROCESSES:
        yield Change(
            what="end the other processes on this GPU",
            option="nvidia-smi",
            saving_bytes=message.other_processes_bytes,
        )


def _evaluation(workload: Workload, architecture: ModelArchitecture) -> Iterator[Change]:
    """Gathered logits of an evaluation set: N × S × V elements, twice while they are concatenated."""
    if not isinstance(workload, TrainingWorkload) or workload.evaluation is None:
        return
    evaluation = workload.evaluation
    if not evaluation.gathers_logits or evaluation.accumulation_steps is not None:
        return
    tokens = evaluation.num_samples * (evaluation.seq_len or workload.seq_len)
    gathered = tokens * architecture.vocab_size * element_bytes(workload.compute_dtype)
    yield Change(
        what="move gathered logits to the CPU after every evaluation batch", option="--eval-accumulation-steps 1",
        saving_bytes=2 * gathered,
    )  # fmt: skip
