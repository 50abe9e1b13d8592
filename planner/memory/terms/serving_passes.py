"""Scratch of engines that plan it at start-up, CUDA graphs, and what their share of the card leaves free.

Letters: u tokens of a micro-batch, V vocabulary, d hidden size, f MLP width, H query heads.
"""

from __future__ import annotations

from fractions import Fraction

from hardware_db.gpu import Gpu
from planner.citation import Citation
from planner.dtypes import element_bytes
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int, ceil_div, maximum
from planner.memory.terms import sglang_start, vllm_start
from planner.memory.terms.serving_activations import mixer_widths, mlp_width
from planner.memory.terms.serving_engines import LLAMA_UBATCH
from planner.model.architecture import ModelArchitecture
from planner.quantity import Quantity
from planner.request import Parallelism, ServingWorkload
from planner.units import GIB

_PREFILL = Citation(
    title="SGLang: one prefill chunk through the model",
    url="https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/managers/schedule_policy.py",
)
_COMPUTE = Citation(
    title="llama.cpp: the graph of one micro-batch is planned into one buffer",
    url="https://github.com/ggml-org/llama.cpp/blob/master/src/llama-context.cpp",
)
_GRAPHS = Citation(
    title="vLLM start-up logs: graph capturing takes 0.1 to 2 GiB",
    url="https://docs.vllm.ai/en/latest/configuration/conserving_memory.html",
)
_SHARE = Citation(
    title="vLLM: gpu_memory_utilization of the card is the engine's",
    url="https://github.com/vllm-project/vllm/blob/main/vllm/config/cache.py",
)
_F32 = 4


def scratch_term(
    architecture: ModelArchitecture, workload: ServingWorkload, gpu: Gpu | None, tp: Int
) -> MemoryTerm:
    """Activations an engine of ``POOLED`` plans for: vLLM's profile run, or SGLang's prefill chunk."""
    if workload.engine == "vllm":
        return vllm_start.profile_term(architecture, workload, gpu, tp)
    element = element_bytes(workload.compute_dtype)
    tokens = sglang_start.prefill_chunk(workload, gpu)
    d = architecture.hidden_size
    width = max(mlp_width(group) for group in architecture.groups)
    layer = element * tokens * (4 * d + 3 * ceil_div(width, tp))
    logits = workload.concurrency * architecture.vocab_size * (element + _F32) + element * tokens * d
    peak = maximum(layer, logits)
    return MemoryTerm(
        kind="activations",
        label="activations of a prefill chunk",
        size_bytes=peak,
        low_bytes=peak * 7 // 10,
        high_bytes=peak * 3 // 2,
        formula="max(e × T × (4 d + 3 f / tp), B × V × (e + 4) + e × T × d)",
        inputs={"T": tokens, "d": d, "layer": layer, "logits": logits},
        source=_PREFILL,
    )


def claimed_bytes(total_bytes: int, workload: ServingWorkload, parallelism: Parallelism, gpu: Gpu) -> Int:
    """Share of ``total_bytes`` that the engine plans its pool in: as asked, or its version's default."""
    given = workload.gpu_memory_utilization
    if given is not None:
        return int(total_bytes * Fraction(str(given)))
    if workload.engine == "vllm":
        return total_bytes * vllm_start.default_share_percent(workload) // 100
    return total_bytes * sglang_start.default_share_permille(workload, parallelism, gpu) // 1000


def graphs_term(workload: ServingWorkload) -> tuple[MemoryTerm, ...]:
    """CUDA graphs captured at start-up."""
    if not workload.cuda_graphs:
        return ()
    graphs = MemoryTerm(
        kind="cuda_graphs",
        label="CUDA graphs",
        size_bytes=GIB * 11 // 20,
        low_bytes=GIB // 10,
        high_bytes=2 * GIB,
        formula="per model and captured batch sizes",
        source=_GRAPHS,
        counts_in=Quantity.RESERVED,
    )
    return (graphs,)


def set_aside_term(claimed: Int, gpu: Gpu, beside: Int, engine: str) -> MemoryTerm:
    """The card less the engine's share; ``beside`` (context, graphs) lies in that rest anyway."""
    free = gpu.memory_bytes - claimed
    return MemoryTerm(
        kind="reserve",
        label="left free by the engine's share",
        size_bytes=maximum(free - beside, 0),
        formula="total − claimed − context − graphs",
        inputs={"total": gpu.memory_bytes, "claimed": claimed},
        source=sglang_start.SHARE if engine == "sglang" else _SHARE,
        counts_in=Quantity.DEVICE,
    )


def compute_buffer_term(
    architecture: ModelArchitecture, workload: ServingWorkload, context: Int, *, flash_attention: bool
) -> MemoryTerm:
    """llama.cpp's compute buffer, all in fp32: logits of a micro-batch, or its scores over the whole context."""
    named = workload.max_num_batched_tokens
    tokens = LLAMA_UBATCH if named is None else named
    d = architecture.hidden_size
    heads = max(mixer_widths(group)[2] for group in architecture.groups)
    width = max(mlp_width(group) for group in architecture.groups)
    streams = 6 if architecture.parallel_blocks else 4
    logits = _F32 * tokens * (architecture.vocab_size + d)
    mlp = _F32 * tokens * (2 * d + 2 * width)
    scores: Int = 0
    if not flash_attention:
        scores = _F32 * tokens * (context * (heads + 1) + streams * d)
    peak = maximum(logits, mlp, scores)
    return MemoryTerm(
        kind="activations",
        label="compute buffer",
        size_bytes=peak,
        low_bytes=peak * 4 // 5,
        high_bytes=peak * 13 // 10,
        formula="4 B × u × max(V + d, 2 d + 2 f, n_ctx × (H + 1) + 4 d)",
        inputs={"u": tokens, "V": architecture.vocab_size, "d": d, "H": heads, "n_ctx": context},
        source=_COMPUTE,
    )
