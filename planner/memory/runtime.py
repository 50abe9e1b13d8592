"""Memory nobody's tensors own: library workspaces, the CUDA context, the caching allocator's slack."""

from __future__ import annotations

from hardware_db.gpu import Gpu
from planner.citation import Citation
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int
from planner.quantity import Quantity
from planner.units import KIB, MIB

_CUBLAS = Citation(
    title="PyTorch: default cuBLAS workspace per handle and stream, larger on Hopper and newer",
    url="https://github.com/pytorch/pytorch/blob/v2.9.0/aten/src/ATen/cuda/CublasHandlePool.cpp",
)
_ALLOCATOR = Citation(
    title="PyTorch: caching allocator, segments of 2 and 20 MiB and multiples of 2 MiB",
    url="https://github.com/pytorch/pytorch/blob/v2.9.0/c10/cuda/CUDACachingAllocator.cpp",
)
_CONTEXT = Citation(
    title="NVIDIA: lazy loading of kernels shrinks the CUDA context",
    url="https://docs.nvidia.com/cuda/cuda-c-programming-guide/#lazy-loading",
)
_NCCL = Citation(
    title="NCCL: channel buffers per peer (NCCL_BUFFSIZE 4 MiB)",
    url="https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html#nccl-buffsize",
)

_WORKSPACE_BYTES = 8320 * KIB
_HOPPER_WORKSPACE_BYTES = 32 * MIB
_CONTEXT_BYTES = {7: 400 * MIB, 8: 450 * MIB, 9: 550 * MIB, 10: 600 * MIB, 12: 600 * MIB}
"""By major compute capability; anything from 300 MiB to 1.4 GiB was reported for one process."""
_CONTEXT_LOW_BYTES, _CONTEXT_HIGH_BYTES = 250 * MIB, 1400 * MIB


def generation(gpu: Gpu | None) -> int:
    """Major compute capability: all that the formulas read of a GPU, so that equal ones have equal breakdowns."""
    return gpu.compute_capability[0] if gpu is not None and gpu.compute_capability else 8


def workspace_term(gpu: Gpu | None, *, handles: int = 2) -> MemoryTerm:
    """cuBLAS workspaces: the forward and the backward thread hold one each."""
    each = _HOPPER_WORKSPACE_BYTES if generation(gpu) >= 9 else _WORKSPACE_BYTES
    return MemoryTerm(
        kind="workspace",
        label="cuBLAS workspaces",
        size_bytes=handles * each,
        formula="handles × workspace",
        inputs={"handles": handles, "workspace": each},
        source=_CUBLAS,
    )


def context_terms(gpu: Gpu | None, *, num_gpus: Int) -> tuple[MemoryTerm, ...]:
    """What nvidia-smi shows beyond the allocator: CUDA context and, with several ranks, NCCL's buffers."""
    base = _CONTEXT_BYTES.get(generation(gpu), 450 * MIB)
    terms = [
        MemoryTerm(
            kind="context",
            label="CUDA context",
            size_bytes=base,
            low_bytes=_CONTEXT_LOW_BYTES,
            high_bytes=_CONTEXT_HIGH_BYTES,
            formula="per process, by GPU generation",
            inputs={"compute capability": generation(gpu)},
            source=_CONTEXT,
            counts_in=Quantity.DEVICE,
        )
    ]
    if not isinstance(num_gpus, int) or num_gpus > 1:
        several = (num_gpus > 1) * 1
        terms.append(
            MemoryTerm(
                kind="context",
                label="NCCL buffers",
                size_bytes=several * 800 * MIB,
                low_bytes=several * 200 * MIB,
                high_bytes=several * 2048 * MIB,
                formula="channels × buffers",
                inputs={"ranks": num_gpus},
                source=_NCCL,
                counts_in=Quantity.DEVICE,
            )
        )
    return tuple(terms)


def slack_term(resident_bytes: Int, moving_bytes: Int) -> MemoryTerm:
    """Cached but unused segments at the peak of serving: a band, as it depends on the order of past requests.

    ``resident_bytes`` were allocated once and fill their segments; ``moving_bytes`` come and go. The fiftieth was
    chosen with the published reserved peaks in view.
    """
    expected = 20 * MIB + moving_bytes // 50
    return MemoryTerm(
        kind="slack",
        label="allocator slack",
        size_bytes=expected,
        low_bytes=2 * MIB + 0 * moving_bytes,
        high_bytes=64 * MIB + moving_bytes // 6 + resident_bytes // 200,
        formula="20 MiB + moving / 50",
        inputs={"moving": moving_bytes},
        source=_ALLOCATOR,
        counts_in=Quantity.RESERVED,
    )
