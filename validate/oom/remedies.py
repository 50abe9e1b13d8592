"""Changes to a request that would have fitted, each with the memory it is predicted to save.

Changes come in the order of what they cost the user: first those that leave the result as it is, then those that
change how it is trained, then those that ask less of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from hardware_db.gpu import Gpu
from planner.calibration import Calibration
from planner.checks import check_request
from planner.dtypes import element_bytes, weight_format
from planner.errors import PlannerError
from planner.memory import engine
from planner.model.architecture import ModelArchitecture
from planner.quantity import Quantity
from planner.request import Parallelism, PlanRequest, ServingWorkload, TrainingWorkload
from validate.oom.message import Cause, OutOfMemory

Workload = TrainingWorkload | ServingWorkload
_SMALLEST_CONTEXT = 512


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

    def needed(workload: Workload) -> int:
        asked = replace(request, workload=workload)
        check_request(asked, architecture)
        estimate = engine.estimate(
            architecture, workload, request.parallelism or Parallelism(), gpu, Quantity.DEVICE
        )
        return (calibration.apply(estimate, asked, gpu) if calibration else estimate).expected_bytes

    before = needed(request.workload)
    changes = list(_from_message(message))
    combined = request.workload
    names: list[str] = []
    together: Change | None = None
    for what, option, change in _changes(request.workload):
        try:
            after = needed(change(request.workload))
        except PlannerError:
            continue
        if after >= before:
            continue
        fits = after <= limit_bytes
        changes.append(
            Change(what=what, option=option, device_bytes=after, saving_bytes=before - after, fits=fits)
        )
        together = together or _joined(change, combined, names, option, needed, before, limit_bytes)
        combined = change(combined)
        names.append(option)
    changes += _evaluation(request.workload, architecture)
    if message is not None and message.phase == "eval":
        changes += _of_phase(message.phase)
    return Remedies(
        predicted_bytes=before, limit_bytes=limit_bytes, changes=tuple(changes),
        together=None if any(change.fits for change in changes) else together,
    )  # fmt: skip


def _joined(
    change: Callable[[Workload], Workload], combined: Workload, names: list[str], option: str,
    needed: Callable[[Workload], int], before: int, limit_bytes: int,
) -> Change | None:  # fmt: skip
    """All changes up to this one at once, where that fits."""
    try:
        after = needed(change(combined))
    except PlannerError:
        return None
    if after > limit_bytes or not names:
        return None
    return Change(
        what="together",
        option=" ".join((*names, option)),
        device_bytes=after,
        saving_bytes=before - after,
        fits=True,
    )


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


def _changes(workload: Workload) -> Iterator[tuple[str, str, Callable[[Workload], Workload]]]:
    if isinstance(workload, ServingWorkload):
        yield from _serving_changes(workload)
        return
    if workload.keep_outputs or workload.use_cache:
        yield (
            "let go of the outputs of the last step",
            "--no-keep-outputs --no-use-cache",
            _with(keep_outputs=False, use_cache=False),
        )
    if workload.attention == "eager":
        yield "attention without score matrices", "--attention sdpa", _with(attention="sdpa")
    if workload.gradient_checkpointing == "none":
        yield "recompute activations", "--gradient-checkpointing", _with(gradient_checkpointing="full")
    if workload.loss == "standard":
        yield "the loss in chunks, without the whole logits", "--loss chunked", _with(loss="chunked")
    if workload.batch_size > 1:
        for batch_size in dict.fromkeys((workload.batch_size // 2, 1)):
            steps = workload.gradient_accumulation_steps * -(-workload.batch_size // batch_size)
            yield (
                "a smaller micro-batch with accumulation",
                f"--batch-size {batch_size} --gradient-accumulation-steps {steps}",
                _with(batch_size=batch_size, gradient_accumulation_steps=steps),
            )
    if workload.optimizer in ("adamw", "adamw-forloop", "adamw-fused"):
        yield "optimizer states in 8 bits", "--optimizer adamw-8bit", _with(optimizer="adamw-8bit")
        yield (
            "optimizer states in 8 bits, paged to the host",
            "--optimizer paged-adamw-8bit",
            _with(optimizer="paged-adamw-8bit"),
        )
    if workload.method == "full":
        yield "train adapters alone", "--method lora", _with(method="lora")
    if not weight_format(workload.weight_dtype).is_quantised:
        yield "adapters on 4-bit weights", "--method qlora", _with(method="qlora", weight_dtype="nf4-dq")
    if workload.seq_len > _SMALLEST_CONTEXT:
        half = workload.seq_len // 2
        yield "shorter samples", f"--seq-len {half}", _with(seq_len=half)


def _serving_changes(workload: ServingWorkload) -> Iterator[tuple[str, str, Callable[[Workload], Workload]]]:
    if workload.kv_cache_dtype not in ("fp8", "int8") and workload.engine != "transformers":
        yield "the KV cache in 8 bits", "--kv-cache-dtype fp8", _with(kv_cache_dtype="fp8")
    if workload.concurrency > 1:
        half = workload.concurrency // 2
        yield "fewer requests at once", f"--batch-size {half}", _with(concurrency=half)
    if workload.prompt_tokens > _SMALLEST_CONTEXT:
        half = workload.prompt_tokens // 2
        yield "a shorter context", f"--seq-len {half + workload.output_tokens}", _with(prompt_tokens=half)
    if not weight_format(workload.weight_dtype).is_quantised:
        yield "weights in 8 bits", "--bits 8", _with(weight_dtype="int8")
        yield "weights in 4 bits", "--bits 4", _with(weight_dtype="nf4")


def _with(**fields: object) -> Callable[[Workload], Workload]:
    return lambda workload: replace(workload, **fields)  # type: ignore[arg-type]


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
