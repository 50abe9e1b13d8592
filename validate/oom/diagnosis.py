"""An out-of-memory message in plain words: where memory was, why the request failed, in which phase."""

from __future__ import annotations

from planner.units import MIB, format_bytes
from validate.oom.message import Cause, OutOfMemory

_NEARLY_FULL = 0.9


def explain(message: OutOfMemory) -> tuple[str, ...]:
    """The diagnosis in sentences: what was asked, where memory is, why it failed, in which phase."""
    said = [_what_was_asked(message), _where_memory_is(message), _why(message), _phase_in_words(message)]
    return tuple(sentence for sentence in said if sentence)


def _what_was_asked(message: OutOfMemory) -> str:
    wanted = "an unknown amount" if message.requested_bytes is None else format_bytes(message.requested_bytes)
    if message.total_bytes is None or message.free_bytes is None:
        return f"{message.backend} refused a request for {wanted}."
    return (
        f"{message.backend} refused a request for {wanted}: {format_bytes(message.free_bytes)} of "
        f"{format_bytes(message.total_bytes)} were free on the device."
    )


def _where_memory_is(message: OutOfMemory) -> str:
    if message.allocated_bytes is None:
        return ""
    parts = [f"{format_bytes(message.allocated_bytes)} in tensors (allocated)"]
    if message.unallocated_bytes:
        parts.append(f"{format_bytes(message.unallocated_bytes)} reserved but unallocated")
    if message.private_pool_bytes:
        parts.append(f"{format_bytes(message.private_pool_bytes)} of the tensors in CUDA-graph pools")
    if message.outside_bytes:
        parts.append(f"{format_bytes(message.outside_bytes)} outside PyTorch (CUDA context, libraries, others)")
    return "In use: " + ", ".join(parts) + "."


def _why(message: OutOfMemory) -> str:
    short = message.short_bytes
    match message.cause:
        case Cause.FRAGMENTATION if message.unallocated_bytes and message.requested_bytes and message.free_bytes:
            return (
                f"Fragmentation: {format_bytes(message.free_bytes)} free and "
                f"{format_bytes(message.unallocated_bytes)} reserved but unallocated make "
                f"{format_bytes(message.free_bytes + message.unallocated_bytes)}, enough for "
                f"{format_bytes(message.requested_bytes)}, but not in one piece. "
                f"PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True can join the pieces.{_nearly_full(message)}"
            )
        case Cause.FRAGMENTATION:
            return (
                "Enough was free in sum, so the request failed for want of one piece, or another process took it."
            )
        case Cause.LIMIT if message.limit_bytes is not None:
            return f"The process limits itself to {format_bytes(message.limit_bytes)}, less than the device has."
        case Cause.OTHER_PROCESSES:
            return f"Other processes hold {format_bytes(message.other_processes_bytes)} of this device."
        case Cause.NEED if short is not None:
            small = message.requested_bytes is not None and message.requested_bytes < 32 * MIB
            last = " The request is small: the device was simply full." if small else ""
            return f"Real need: {format_bytes(short)} more than free and unallocated memory together.{last}"
        case Cause.HOST:
            return "The host's memory ran out, not the GPU's."
    return "The message carries no numbers; nvidia-smi at the time of failure would tell who held the memory."


def _nearly_full(message: OutOfMemory) -> str:
    held, total = message.allocated_bytes, message.total_bytes
    if not held or not total or held < _NEARLY_FULL * total:
        return ""
    return f" But tensors hold {held / total:.0%} of the device: joining pieces wins little, less must be held."


def _phase_in_words(message: OutOfMemory) -> str:
    if message.phase is None:
        return ""
    meaning = {
        "eval": (
            "while predictions were gathered or concatenated during evaluation: the logits of the whole set "
            "pile up on the GPU, and each concatenation holds the old copy beside the new one, so a later batch "
            "asks for more"
        ),
        "loss": "in the loss, where logits are copied to 32 bits and differentiated",
        "optimizer step": "when the optimizer made its states or temporaries",
        "backward": "in the backward pass, where activations and their gradients overlap",
        "generate": "while generating, where the KV cache and the logits of the prompt grow",
        "load": "while loading the model",
        "profile run": "in the engine's profile run with the largest batch",
        "KV cache": "when the engine laid out its KV cache",
        "graph capture": "while CUDA graphs were captured",
    }.get(message.phase, f"in the {message.phase} pass")
    return f"It happened {meaning} ({message.where})."
