"""Memory that belongs to kernels and modules rather than to the model: dequantised copies, tables, blocks."""

from __future__ import annotations

from planner.citation import Citation
from planner.dtypes import WeightFormat, element_bytes
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int, ceil_div, maximum, where
from planner.memory.terms.serving_activations import FP32_BYTES
from planner.memory.terms.serving_engines import POOLED, EngineRules
from planner.memory.terms.weights import plain_dtype
from planner.model.architecture import (
    GroupedQueryAttention,
    LatentAttention,
    LayerGroup,
    Mixer,
    ModelArchitecture,
)
from planner.request import ServingWorkload
from planner.units import BITS_PER_BYTE, MIB

_BITSANDBYTES = Citation(
    title="bitsandbytes: MatMul4Bit multiplies with a dequantised weight, single rows aside",
    url="https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/autograd/_functions.py",
)
_HALF = Citation(
    title="bitsandbytes 0.41: weights are quantised from, and dequantised to, fp16 copies",
    url="https://github.com/bitsandbytes-foundation/bitsandbytes/blob/0.41.0/bitsandbytes/nn/modules.py",
)
_EXLLAMA = Citation(
    title="ExLlamaV2 GPTQ kernel: a buffer for one dequantised weight",
    url="https://github.com/AutoGPTQ/AutoGPTQ/blob/main/auto_gptq/nn_modules/qlinear/qlinear_exllamav2.py",
)
_AWQ_GEMM = Citation(
    title="AutoAWQ GEMM: large inputs multiply with a dequantised weight, small ones in 8 partial sums",
    url="https://github.com/casper-hansen/AutoAWQ/blob/main/awq/modules/linear/gemm.py",
)
_ROPE = Citation(
    title="transformers before 4.45: every layer caches cosines and sines up to max_position_embeddings",
    url="https://github.com/huggingface/transformers/blob/v4.38.2/src/transformers/models/qwen2/modeling_qwen2.py",
)
_SHARED_ROPE = Citation(
    title="vLLM: get_rope shares one cosine and sine table between layers, up to max_position_embeddings",
    url="https://github.com/vllm-project/vllm/blob/main/vllm/model_executor/layers/rotary_embedding/base.py",
)
_ALLOCATOR = Citation(
    title="PyTorch: blocks of 1 MiB and more are not split for a remainder up to 1 MiB",
    url="https://github.com/pytorch/pytorch/blob/v2.9.0/c10/cuda/CUDACachingAllocator.cpp",
)
_FUSED = Citation(
    title="AutoAWQ: fused q, k, v are built beside the originals",
    url="https://github.com/casper-hansen/AutoAWQ/blob/v0.1.6/awq/utils/fused_utils.py",
)


_QKV, _GATE_UP = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
_FUSED_BY = {"vllm": (_QKV, _GATE_UP), "sglang": (_QKV, _GATE_UP), "litgpt": (_QKV,)}
"""Projections an engine stores as one tensor."""


def largest_matrix(architecture: ModelArchitecture, fmt: WeightFormat) -> int:
    """Weights of the largest matrix of a layer that the format packs; 0 where it packs none."""
    sizes = (
        linear.in_features * linear.out_features
        for group in architecture.groups
        for linear in group.linears
        if fmt.quantises(linear.role, is_module=linear.is_packable, kept=linear.keeps_precision)
    )
    return max(sizes, default=0)


def dequantised_term(
    architecture: ModelArchitecture,
    fmt: WeightFormat,
    rules: EngineRules,
    rows: Int,
    tp: Int,
) -> MemoryTerm | None:
    """The 16-bit copy of one weight that a quantised kernel multiplies with, for ``rows`` tokens at once."""
    head = architecture.vocab_size * architecture.hidden_size if rules.weights.quantises_head else 0
    weights = maximum(ceil_div(largest_matrix(architecture, fmt), tp), head)
    two = element_bytes("fp16")
    if fmt.scheme == "bitsandbytes" and fmt.bits == 4:
        copies = 2 if rules.name == "litgpt" else 1
        size = where(rows > 1, copies * two * weights, 0)
        return _kernel(
            "dequantised weight", size, f"{copies} × 2 B × m × n", _HALF if copies == 2 else _BITSANDBYTES
        )
    if fmt.scheme == "bitsandbytes" and rules.name == "litgpt":
        return _kernel("16-bit copies while quantising", 2 * two * weights, "2 × 2 B × m × n", _HALF)
    if fmt.scheme == "gptq" and fmt.bits == 4 and rules.name == "transformers":
        return _kernel("GPTQ kernel buffer", two * weights, "2 B × m × n", _EXLLAMA)
    if fmt.scheme == "awq" and rules.name == "transformers":
        size = where(rows >= 1024, two * weights, 0)
        return _kernel("dequantised weight", size, "2 B × m × n", _AWQ_GEMM)
    return None


def _kernel(label: str, size_bytes: Int, formula: str, source: Citation) -> MemoryTerm:
    return MemoryTerm(kind="workspace", label=label, size_bytes=size_bytes, formula=formula, source=source)


def rope_tables_terms(
    architecture: ModelArchitecture, rules: EngineRules, workload: ServingWorkload
) -> tuple[MemoryTerm, ...]:
    """Cosine and sine tables up to ``max_position_embeddings``: one per layer, per kind of rotation, or none."""
    length = architecture.max_position_embeddings
    if length is None:
        return ()
    if rules.name in POOLED:
        return _shared_tables(architecture, rules, workload, length)
    if not rules.layer_rope_tables:
        return ()
    element = element_bytes(workload.compute_dtype)
    size: Int = 0
    for group in architecture.groups:
        mixer = group.mixer
        if isinstance(mixer, GroupedQueryAttention) and mixer.rotary:
            size = size + ceil_div(group.count, rules.weights.pp) * mixer.head_dim
    table = MemoryTerm(
        kind="buffers",
        label="rotary tables of every layer",
        size_bytes=2 * element * length * size,
        formula="2 × L × max_position × h × e",
        inputs={"max_position": length, "e": element},
        source=_ROPE,
    )
    return (table,)


def _shared_tables(
    architecture: ModelArchitecture, rules: EngineRules, workload: ServingWorkload, length: int
) -> tuple[MemoryTerm, ...]:
    """One table per kind of rotation, on every rank; SGLang keeps it in fp32.

    Gemma 3 and 4 rotate windowed layers with a base of their own.
    """
    bases = architecture.model_type.startswith(("gemma3", "gemma4"))
    kinds = {_rotation(group.mixer, bases) for group in architecture.groups}
    width = sum(kind[0] for kind in kinds if kind is not None)
    element = FP32_BYTES if rules.name == "sglang" else element_bytes(workload.compute_dtype)
    table = MemoryTerm(
        kind="buffers",
        label="rotary table",
        size_bytes=element * length * width,
        formula="max_position × h × e",
        inputs={"max_position": length, "h": width, "e": element},
        source=_SHARED_ROPE,
    )
    return (table,) if width else ()


def _rotation(mixer: Mixer | None, own_base_in_windows: bool) -> tuple[int, bool] | None:
    """Width of a layer's rotation, and whether it is one of windows."""
    if isinstance(mixer, LatentAttention):
        return mixer.qk_rope_head_dim, False
    if isinstance(mixer, GroupedQueryAttention) and mixer.rotary:
        return mixer.head_dim, own_base_in_windows and mixer.window is not None
    return None


def complex_rope_term(architecture: ModelArchitecture, tokens: Int) -> MemoryTerm:
    """AutoAWQ: complex64 rotations of twice the cache length in every layer."""
    widths = sum(
        group.count * group.mixer.head_dim
        for group in architecture.groups
        if isinstance(group.mixer, GroupedQueryAttention) and group.mixer.rotary
    )
    return MemoryTerm(
        kind="buffers",
        label="rotary tables of every layer",
        size_bytes=2 * tokens * (widths // 2) * 8,
        formula="L × 2 T × h / 2 × 8 B",
        inputs={"T": tokens},
        source=Citation(
            title="AutoAWQ: precompute_freqs_cis per fused attention",
            url="https://github.com/casper-hansen/AutoAWQ/blob/v0.1.6/awq/modules/fused/attn.py",
        ),
    )


def fused_copies_term(architecture: ModelArchitecture, fmt: WeightFormat, pp: Int) -> MemoryTerm:
    """Query, key and value projections a second time, until the originals are released after loading."""
    size: Int = 0
    for group in architecture.groups:
        for linear in group.linears:
            if linear.name in ("q_proj", "k_proj", "v_proj") and linear.role == "attention":
                stored = fmt.matrix_bytes(linear.in_features, linear.out_features).total_bytes
                size = size + ceil_div(group.count, pp) * stored
    return MemoryTerm(
        kind="weights",
        label="fused copies of q, k and v",
        size_bytes=size,
        formula="Σ q + k + v",
        source=_FUSED,
    )


def unsplit_cache_term(num_tensors: Int, tensor_bytes: Int) -> MemoryTerm:
    """Remainders of blocks that growing caches leave unsplit: half of 1 MiB per tensor above 1 MiB on average."""
    half = MIB // 2
    return MemoryTerm(
        kind="kv_cache",
        label="unsplit blocks",
        size_bytes=where(tensor_bytes > MIB, num_tensors * half, 0),
        low_bytes=0 * num_tensors,
        high_bytes=where(tensor_bytes > MIB, num_tensors * MIB, 0),
        formula="tensors × 0.5 MiB",
        inputs={"tensors": num_tensors},
        source=_ALLOCATOR,
    )


def unsplit_weights_term(
    architecture: ModelArchitecture, fmt: WeightFormat, compute_dtype: str, rules: EngineRules
) -> MemoryTerm:
    """Remainders of the blocks that hold the weights of the layers.

    A tensor of 10 MiB or more gets a segment of whole 2 MiB; up to 1 MiB left over stays part of its block. SGLang
    counts what the card has lost, which is whole segments.
    """
    size: Int = 0
    for group in architecture.groups:
        layers = ceil_div(group.count, rules.weights.pp)
        for tensor_bytes, copies in _tensors(group, fmt, compute_dtype, rules):
            size = size + layers * copies * _remainder(tensor_bytes, whole=rules.name == "sglang")
    return MemoryTerm(
        kind="weights",
        label="unsplit blocks of weights",
        size_bytes=size,
        formula="Σ 2 MiB − size mod 2 MiB, where at most 1 MiB",
        source=_ALLOCATOR,
    )


def _tensors(
    group: LayerGroup, fmt: WeightFormat, compute_dtype: str, rules: EngineRules
) -> list[tuple[Int, int]]:
    """Bytes and number of each weight tensor of one layer as the engine lays it out."""
    fused = _FUSED_BY.get(rules.name, ())
    plain = element_bytes(plain_dtype(fmt, compute_dtype))
    sizes: dict[str, Int] = {}
    copies: dict[str, int] = {}
    for linear in group.linears:
        stacked = linear.role == "expert" and (rules.name == "vllm" or not linear.is_module)
        each = linear.in_features * linear.out_features * (linear.count if stacked else 1)
        quantised = fmt.is_quantised and fmt.quantises(
            linear.role, is_module=linear.is_packable, kept=linear.keeps_precision
        )
        in_bytes = ceil_div(each * fmt.bits, BITS_PER_BYTE) if quantised else each * plain
        name = next((names for names in fused if linear.name in names), None)
        key = f"{linear.role} {'+'.join(name) if name else linear.name}"
        sizes[key] = sizes.get(key, 0) + ceil_div(in_bytes, rules.weights.tp)
        copies[key] = 1 if stacked else linear.count
    return [(sizes[key], copies[key]) for key in sizes]


def _remainder(size_bytes: Int, *, whole: bool) -> Int:
    left = -size_bytes % (2 * MIB)
    return where((size_bytes >= 10 * MIB) & (whole | (left <= MIB)), left, 0)
