"""What an out-of-memory message says: which quantity ran out, fragmentation or real need, and in which phase.

Understands the wordings of PyTorch's caching allocator (CUDA, HIP, XPU; 1.x with parentheses, 2.x with "of
which"), bare driver errors, Apple's MPS, the CPU allocator, vLLM's start-up refusals, llama.cpp, JAX, and the
host's own killer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from planner.units import parse_bytes

_SIZE = r"([0-9][0-9.,]*\s*(?:[KMGT]i?B|bytes|B))"


class Cause(StrEnum):
    """Why the request was refused, as far as its own numbers tell."""

    FRAGMENTATION = "fragmentation"
    """Enough memory in sum, in pieces too small."""
    NEED = "need"
    """More than the device has left, however it is arranged."""
    OTHER_PROCESSES = "other processes"
    LIMIT = "limit"
    """A limit set by the process itself, below the size of the device."""
    HOST = "host memory"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfMemory:
    """The numbers of one message, in bytes; None where the message does not say."""

    backend: str
    """CUDA, HIP, XPU, MPS, CPU, vLLM, llama.cpp, JAX or host."""
    device: int | None = None
    requested_bytes: int | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    process_bytes: int | None = None
    """In use by this process, context included."""
    other_processes_bytes: int = 0
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    limit_bytes: int | None = None
    private_pool_bytes: int = 0
    """Of CUDA graphs; cannot serve other requests."""
    text: str
    phase: str | None = None
    """forward, backward, optimizer step, eval, load, generate…; None without a traceback."""
    where: str | None = None
    """The line of the traceback that told the phase."""
    num_messages: int = 1

    @property
    def unallocated_bytes(self) -> int | None:
        """Reserved by PyTorch and not handed out."""
        if self.reserved_bytes is None or self.allocated_bytes is None:
            return None
        return self.reserved_bytes - self.allocated_bytes

    @property
    def outside_bytes(self) -> int | None:
        """Neither free nor reserved by PyTorch: CUDA context, libraries and other processes."""
        if self.total_bytes is None or self.free_bytes is None or self.reserved_bytes is None:
            return None
        return max(0, self.total_bytes - self.free_bytes - self.reserved_bytes)

    @property
    def short_bytes(self) -> int | None:
        """How much more was needed than free and reserved-but-unallocated memory together; negative: enough."""
        if self.requested_bytes is None or self.free_bytes is None:
            return None
        return self.requested_bytes - self.free_bytes - (self.unallocated_bytes or 0)

    @property
    def cause(self) -> Cause:
        if self.backend in ("host", "CPU"):
            return Cause.HOST
        if self.limit_bytes is not None and self.total_bytes and self.limit_bytes < self.total_bytes:
            return Cause.LIMIT
        short = self.short_bytes
        if short is None:
            return Cause.UNKNOWN
        if short <= 0:
            return Cause.FRAGMENTATION
        return Cause.OTHER_PROCESSES if self.other_processes_bytes >= short else Cause.NEED


def parse(text: str) -> OutOfMemory | None:
    """The first out-of-memory message of a log, with the phase its traceback shows; None where there is none."""
    flat = " ".join(text.replace("\\n", "\n").split())
    found = [(match.start(), read(match, flat)) for pattern, read in _FORMATS for match in pattern.finditer(flat)]
    if not found:
        return None
    _, message = min(found, key=lambda item: (item[1].requested_bytes is None, item[0]))
    phase, where = phase_of(text)
    return replace(message, phase=phase, where=where, num_messages=len(found))


def _bytes(match: re.Match[str] | None, group: int = 1) -> int | None:
    if match is None:
        return None
    size = match.group(group).replace(",", "").strip().rstrip(".")
    # PyTorch writes GiB since 1.0; releases and MPS that print "GB" divide by 1024 as well.
    return parse_bytes(re.sub(r"([KMGT])B$", r"\1iB", size).replace("bytes", "").strip())


def _search(pattern: str, text: str) -> int | None:
    return _bytes(re.search(pattern.replace("SIZE", _SIZE), text, re.IGNORECASE))


def _torch(match: re.Match[str], flat: str) -> OutOfMemory:
    text = _sentence(match, flat)
    allocated = _search(r"SIZE is allocated by PyTorch", text) or _search(r"SIZE already allocated", text)
    unallocated = _search(r"SIZE is reserved by PyTorch but unallocated", text)
    reserved = _search(r"SIZE (?:reserved in total by PyTorch|cached)", text)
    if reserved is None and allocated is not None and unallocated is not None:
        reserved = allocated + unallocated
    device = re.search(r"GPU (\d+)", text)
    own = _search(r"this process has SIZE memory in use", text)
    others = [_bytes(found) or 0 for found in re.finditer(rf"Process \d+ has {_SIZE} memory in use", text)]
    if own is None and len(others) == 1:
        own, others = others[0], []
    return OutOfMemory(
        backend=match.group(1),
        device=int(device.group(1)) if device else None,
        requested_bytes=_search(r"Tried to allocate SIZE", text),
        total_bytes=_search(r"total capac\w*ty of SIZE", text) or _search(r"SIZE total capacity", text),
        free_bytes=_search(r"of which SIZE is free", text) or _search(r"SIZE free", text),
        process_bytes=own,
        other_processes_bytes=sum(others),
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        limit_bytes=_search(r"SIZE allowed", text),
        private_pool_bytes=_search(r"SIZE allocated in private pools", text) or 0,
        text=text,
    )


def _mps(match: re.Match[str], flat: str) -> OutOfMemory:
    text = _sentence(match, flat)
    allocated = _search(r"MPS allocated: SIZE", text)
    other = _search(r"other allocations: SIZE", text) or 0
    allowed = _search(r"max allowed: SIZE", text)
    return OutOfMemory(
        backend="MPS", requested_bytes=_search(r"Tried to allocate SIZE", text), total_bytes=allowed,
        free_bytes=None if allowed is None or allocated is None else max(0, allowed - allocated - other),
        allocated_bytes=allocated, reserved_bytes=allocated, text=text,
    )  # fmt: skip


def _requested(backend: str) -> Callable[[re.Match[str], str], OutOfMemory]:
    def read(match: re.Match[str], flat: str) -> OutOfMemory:
        return OutOfMemory(backend=backend, requested_bytes=_bytes(match), text=_sentence(match, flat))

    return read


def _bare(backend: str) -> Callable[[re.Match[str], str], OutOfMemory]:
    def read(match: re.Match[str], flat: str) -> OutOfMemory:
        return OutOfMemory(backend=backend, text=_sentence(match, flat))

    return read


def _vllm_start(match: re.Match[str], flat: str) -> OutOfMemory:
    free, total, wanted = (parse_bytes(match.group(group) + "GiB") for group in (1, 2, 3))
    return OutOfMemory(
        backend="vLLM", requested_bytes=wanted, free_bytes=free, total_bytes=total,
        other_processes_bytes=total - free, text=_sentence(match, flat),
    )  # fmt: skip


def _sentence(match: re.Match[str], flat: str) -> str:
    end = re.compile(r"Traceback|If reserved|See documentation|\b(?:torch\.)?(?:cuda\.)?OutOfMemoryError").search(
        flat, match.end()
    )
    return flat[match.start() : min(match.start() + 900, end.start() if end else len(flat))].strip()


_FORMATS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], str], OutOfMemory]], ...] = (
    (re.compile(r"\b(CUDA|HIP|XPU) out of memory\. Tried to allocate"), _torch),
    (re.compile(r"MPS backend out of memory"), _mps),
    (
        re.compile(
            r"Free memory on device[^(]*\(([\d.]+)/([\d.]+) GiB\) on startup is less than desired GPU memory "
            r"utilization \([\d.]+, ([\d.]+) GiB\)"
        ),
        _vllm_start,
    ),
    (re.compile(rf"allocating {_SIZE} on device \d+: cudaMalloc failed: out of memory"), _requested("llama.cpp")),
    (re.compile(rf"RESOURCE_EXHAUSTED: Out of memory while trying to allocate {_SIZE}"), _requested("JAX")),
    (
        re.compile(rf"DefaultCPUAllocator: (?:can't|not enough)[^:]*: you tried to allocate {_SIZE}"),
        _requested("CPU"),
    ),
    (re.compile(r"No available memory for the cache blocks"), _bare("vLLM")),
    (
        re.compile(r"larger than the (?:maximum number of tokens that can be stored in|available) KV cache"),
        _bare("vLLM"),
    ),
    (re.compile(r"CUDA error: out of memory|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY"), _bare("CUDA")),
    (re.compile(r"CUBLAS_STATUS_ALLOC_FAILED|Cuda failure '?(?:2 )?'?out of memory"), _bare("CUDA")),
    (
        re.compile(r"Out of memory: Killed process \d+|oom-kill|exit(?:ed with)? (?:code|status) (?:137|-9)\b"),
        _bare("host"),
    ),
)

_PHASES: tuple[tuple[str, str], ...] = (
    (r"nested_concat|torch_pad_and_concatenate|EvalLoopContainer|preds_host|all_preds", "eval"),
    (r"in evaluation_loop|in prediction_loop|in prediction_step|in evaluate\b|in predict\b", "eval"),
    (r"determine_num_available_blocks|determine_available_memory|profile_run", "profile run"),
    (r"capture_model|cuda_graph|CUDAGraph", "graph capture"),
    (r"initialize_kv_cache|_allocate_kv_cache|allocate_kv", "KV cache"),
    (r"optim/|in _multi_tensor|in _single_tensor|optimizer\.step\(|bitsandbytes/optim", "optimizer step"),
    (r"\.backward\(|_engine_run_backward|autograd/__init__|in backward\b", "backward"),
    (r"in generate\b|in _sample\b|in _beam_search\b|in _prefill\b", "generate"),
    (r"from_pretrained|caching_allocator_warmup|load_state_dict|dispatch_model|in _load_|load_model", "load"),
    (r"cross_entropy|ForCausalLMLoss|loss_function|log_softmax|logits\.float\(", "loss"),
    (r"modeling_\w+\.py|in forward\b|in _call_impl\b", "forward"),
    (r"\.to\(device|\.cuda\(\)|in _apply\b", "load"),
)


def phase_of(traceback: str) -> tuple[str | None, str | None]:
    """The phase a traceback passed through and the line that shows it; the most telling line wins."""
    lines = [line.strip() for line in traceback.replace("\\n", "\n").splitlines()]
    for pattern, phase in _PHASES:
        for line in reversed(lines):
            if re.search(pattern, line):
                return phase, line[:160]
    return None, None
