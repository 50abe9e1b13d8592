"""Scratch of one pass in engines that plan it at start-up: vLLM's profile run, SGLang, llama.cpp's compute buffer.

Letters: T tokens of the pass, R requests sampled at once, V vocabulary, d hidden size, f MLP width, H query heads.
"""

from __future__ import annotations

from fractions import Fraction

from hardware_db.gpu import Gpu
from planner.citation import Citation
from planner.dtypes import element_bytes
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int, ceil_div, maximum, minimum
from planner.memory.terms.serving_activations import mixer_widths, mlp_width
from planner.memory.terms.serving_engines import version_of
from planner.model.architecture import ModelArchitecture
from planner.quantity import Quantity
from planner.request import ServingWorkload
from planner.units import GIB, MIB

_PROFILE = Citation(
    title="vLLM: profile run over max_num_batched_tokens, then sampling of max_num_seqs",
    url="https://github.com/vllm-project/vllm/blob/main/vllm/v1/worker/gpu_model_runner.py",
)
_SAMPLER = Citation(
    title="vLLM: top-k and top-p sort the logits of every request",
    url="https://github.com/vllm-project/vllm/blob/main/vllm/v1/sample/ops/topk_topp_sampler.py",
)
_DEFAULTS = Citation(
    title="vLLM: default token budgets by GPU memory",
    url="https://github.com/vllm-project/vllm/blob/main/vllm/engine/arg_utils.py",
)
_COMPUTE = Citation(
    title="llama.cpp: the graph of one micro-batch is planned into one buffer",
    url="https://github.com/ggml-org/llama.cpp/blob/master/src/llama-context.cpp",
)
_GRAPHS = Citation(
    title="vLLM start-up logs: graph capturing takes 0.1 to 2 GiB",
    url="https://docs.vllm.ai/en/latest/configuration/conserving_memory.html",
)

LOGIT_BYTES = 2 + 4 + 4 + 8 + 16
"""Bytes per logit while sampling sorts: 16-bit logit, fp32 copy, sorted values, int64 order, two buffers."""
LATER_LOGIT_BYTES = 3 * 4
"""Three more fp32 copies per logit since 0.9, by the peaks its logs print (1.44 GiB for Llama-3.1-8B)."""
MAX_NUM_SEQS = 256
DEFAULT_SHARE = {"vllm": Fraction(9, 10), "sglang": Fraction(88, 100)}
"""``gpu_memory_utilization`` and ``mem_fraction_static`` where the request names none."""
_LARGE_GPU_BYTES = 70 * GIB
_F32 = 4
_LLAMA_UBATCH = 512


def batched_tokens(workload: ServingWorkload, gpu: Gpu | None) -> Int:
    """Tokens of the largest pass: the engine's budget, or vLLM's default for this size of GPU."""
    if workload.max_num_batched_tokens is not None:
        return workload.max_num_batched_tokens
    if workload.engine == "llama.cpp":
        return _LLAMA_UBATCH
    large = gpu is not None and gpu.memory_bytes >= _LARGE_GPU_BYTES and "a100" not in gpu.id.lower()
    return 8192 if large else 2048


def profile_term(
    architecture: ModelArchitecture, workload: ServingWorkload, gpu: Gpu | None, tp: Int
) -> MemoryTerm:
    """Peak of the profile run: the largest layer over all batched tokens, or sampling after it."""
    element = element_bytes(workload.compute_dtype)
    tokens = batched_tokens(workload, gpu)
    d, vocab = architecture.hidden_size, architecture.vocab_size
    layer: Int = 0
    for group in architecture.groups:
        query, key, _ = mixer_widths(group)
        mlp = 3 * ceil_div(mlp_width(group), tp)
        attention = ceil_div(2 * query + 2 * key, tp)
        layer = maximum(layer, element * tokens * (2 * d + maximum(mlp, attention)))
    requests = minimum(MAX_NUM_SEQS, tokens)
    version = version_of(workload.engine_version)
    each = LOGIT_BYTES + (LATER_LOGIT_BYTES if version is not None and version >= (0, 9) else 0)
    sampling = requests * vocab * each + element * tokens * d if architecture.has_lm_head else 0
    peak = maximum(layer, sampling)
    return MemoryTerm(
        kind="activations",
        label="activation peak of the profile run",
        size_bytes=peak,
        low_bytes=peak * 7 // 10,
        high_bytes=peak * 3 // 2,
        formula="max(e × T × (2 d + 3 f / tp), R × V × b + e × T × d)",
        inputs={"T": tokens, "b": each, "R": requests, "V": vocab, "d": d, "layer": layer, "sampling": sampling},
        source=_SAMPLER if isinstance(peak, int) and peak == sampling else _PROFILE,
    )


def graphs_term(workload: ServingWorkload) -> MemoryTerm | None:
    """CUDA graphs captured at start-up; outside the share the pool is cut from."""
    if not workload.cuda_graphs:
        return None
    return MemoryTerm(
        kind="cuda_graphs",
        label="CUDA graphs",
        size_bytes=GIB * 11 // 20,
        low_bytes=GIB // 10,
        high_bytes=2 * GIB,
        formula="per model and captured batch sizes",
        source=_GRAPHS,
        counts_in=Quantity.RESERVED,
    )


def set_aside_term(workload: ServingWorkload, gpu: Gpu | None, beside: Int) -> MemoryTerm | None:
    """The card less the engine's share; ``beside`` (context, graphs) lies in that rest anyway."""
    if gpu is None:
        return None
    given = workload.gpu_memory_utilization
    share = Fraction(str(given)) if given is not None else DEFAULT_SHARE[workload.engine]
    free = gpu.memory_bytes - int(gpu.memory_bytes * share)
    return MemoryTerm(
        kind="reserve",
        label="left free by the engine's share",
        size_bytes=maximum(free - beside, 0),
        formula="total × (1 − share) − context − graphs",
        inputs={"total": gpu.memory_bytes, "share": float(share)},
        source=_PROFILE,
        counts_in=Quantity.DEVICE,
    )


def compute_buffer_term(
    architecture: ModelArchitecture, workload: ServingWorkload, context: Int, *, flash_attention: bool
) -> MemoryTerm:
    """llama.cpp's compute buffer, all in fp32: logits of a micro-batch, or its scores over the whole context."""
    tokens = batched_tokens(workload, None)
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


NON_TORCH_BYTES = 80 * MIB
NON_TORCH_TP_BYTES = 310 * MIB
