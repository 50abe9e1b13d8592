"""SGLang's start-up: the share of free memory for weights and KV pool, and what loading costs beside them.

pool = free before loading × mem_fraction_static − what loading took.
"""

from __future__ import annotations

from hardware_db.gpu import Gpu
from planner.citation import Citation
from planner.memory.ops import Int, maximum, where
from planner.memory.terms.serving_engines import version_of
from planner.request import Parallelism, ServingWorkload
from planner.units import GIB, MIB

SHARE = Citation(
    title="SGLang: mem_fraction_static by tensor parallelism, since 0.5.3 by what prefill and graphs need",
    url="https://github.com/sgl-project/sglang/blob/v0.5.4/python/sglang/srt/server_args.py",
)

_BY_NEED_SINCE = (0, 5, 3)
_SIZES = (
    (20 * GIB, 2048, 8, 8), (35 * GIB, 2048, 24, 80), (60 * GIB, 4096, 32, 160), (160 * GIB, 8192, 256, 512),
)  # fmt: skip
"""Memory below which a row holds: tokens of a prefill chunk, captured batch below four ranks and from four on."""
_LARGEST = (16_384, 512, 512)
LOADED_KERNELS_BYTES = 40 * MIB
"""What four start-up logs show loading to take beyond weights and tables in their segments: 0 to 70 MiB."""


def prefill_chunk(workload: ServingWorkload, gpu: Gpu | None) -> Int:
    """``chunked_prefill_size``: as asked, or the default for this size of GPU."""
    if workload.max_num_batched_tokens is not None:
        return workload.max_num_batched_tokens
    return 4096 if gpu is None else _sizes(gpu)[0]


def _sizes(gpu: Gpu) -> tuple[int, int, int]:
    for limit, chunk, graphs, graphs_of_four in _SIZES:
        if gpu.memory_bytes < limit:
            return chunk, graphs, graphs_of_four
    return _LARGEST


def default_share_permille(workload: ServingWorkload, parallelism: Parallelism, gpu: Gpu) -> Int:
    """``mem_fraction_static`` in thousandths where the request names none."""
    tp = parallelism.tp
    version = version_of(workload.engine_version)
    if version is not None and version < _BY_NEED_SINCE:
        return where(tp >= 16, 790, where(tp >= 8, 810, where(tp >= 4, 850, where(tp >= 2, 870, 880))))
    _, graphs, graphs_of_four = _sizes(gpu)
    total = gpu.memory_bytes // MIB
    reserved = 512 + maximum(prefill_chunk(workload, gpu), 2048) * 3 // 2
    reserved = reserved + 2 * where(tp < 4, graphs, graphs_of_four) + tp * parallelism.pp * 1024 // 8
    if gpu.memory_bytes > 60 * GIB:
        reserved = maximum(reserved, 10 * 1024)
    if workload.draft_model is not None:
        reserved = reserved + 6 * 1024
    return maximum((total - reserved) * 1000 // total, 0)
