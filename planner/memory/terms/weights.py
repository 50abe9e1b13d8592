"""Resident weights of a model in a storage format, on one rank.

Letters: P parameters, tp tensor-parallel degree, pp pipeline stages, ep expert-parallel degree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from planner import gguf
from planner.citation import Citation
from planner.dtypes import WeightFormat, element_bytes, weight_format
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int, ceil_div, maximum, minimum
from planner.memory.terms.stored import StoredWeights, WeightSpread
from planner.model.architecture import (
    GroupedQueryAttention,
    LatentAttention,
    LayerGroup,
    Linear,
    ModelArchitecture,
    MoeMlp,
)

_CONFIG = Citation(
    title="shapes of the modules in transformers", url="https://github.com/huggingface/transformers"
)
QUANTISATION_STATE = "quantisation state"
"""Hangs on the weights as an attribute: FSDP shards parameters, so every rank keeps it whole."""
_KV_NAMES = frozenset({"k_proj", "v_proj", "key", "value"})
_FUSED_QKV_NAMES = frozenset({"qkv_proj", "query_key_value", "c_attn", "Wqkv", "W_pack"})
_REPLICATED_NAMES = frozenset({"q_a_proj", "kv_a_proj_with_mqa", "wq_a", "wkv_a"})


def weight_terms(
    architecture: ModelArchitecture,
    weight_dtype: str,
    compute_dtype: str,
    spread: WeightSpread | None = None,
    *,
    group_size: int | None = None,
    held: WeightFormat | None = None,
) -> tuple[MemoryTerm, ...]:
    """Weights on the fullest rank, in bytes: packed matrices, quantisation state, and the unquantised rest.

    ``held``: the format as an engine rearranges it.
    """
    fmt = weight_format(weight_dtype, group_size=group_size) if held is None else held
    stored = stored_on_rank(architecture, fmt, compute_dtype, spread or WeightSpread())
    inputs = {"P": architecture.params_total, "format": fmt.name, "dtype": compute_dtype}
    if not fmt.is_quantised:
        formula = f"P × {element_bytes(fmt.name)} B"
        return (_term("weights", stored.plain_bytes, formula, inputs, _CONFIG),)
    return (
        _term(f"{fmt.name} weights", stored.packed_bytes, f"Σ m × n × {fmt.bits} bits", inputs, fmt.source),
        _term(QUANTISATION_STATE, stored.state_bytes, "Σ scales + zeros + code books", inputs, fmt.source),
        _term("unquantised weights", stored.plain_bytes, "(P − quantised) × bytes", inputs, _CONFIG),
    )


def _term(label: str, size_bytes: Int, formula: str, inputs: dict[str, object], source: Citation) -> MemoryTerm:
    return MemoryTerm(
        kind="weights", label=label, size_bytes=size_bytes, formula=formula, inputs=inputs, source=source
    )


def stored_on_rank(
    architecture: ModelArchitecture, fmt: WeightFormat, compute_dtype: str, spread: WeightSpread
) -> StoredWeights:
    """Weights on the fullest rank: its share of the layers, and the ends of the model that stage holds."""
    total = StoredWeights()
    first_layer = 0
    for group in architecture.groups:
        layers = layers_of(architecture, group, fmt, compute_dtype, first_layer, spread.packs_experts)
        on_rank = (
            layers.sharded.over(spread.tp)
            + layers.kv.over(minimum(spread.tp, max(_num_kv_heads(group), 1)))
            + layers.experts.over(maximum(spread.tp, spread.ep))
            + layers.replicated
        )
        total += on_rank.over(group.count).times(ceil_div(group.count, spread.pp))
        first_layer += group.count
    embedding = StoredWeights() if spread.host_embedding else embedding_weights(architecture, fmt, compute_dtype)
    head = head_weights(
        architecture,
        fmt,
        compute_dtype,
        untied=spread.unties_head or spread.host_embedding,
        quantised=spread.quantises_head,
    )
    larger = embedding if embedding.total_bytes >= head.total_bytes else head
    together = spread.embeddings_with_head or (isinstance(spread.pp, int) and spread.pp == 1)
    ways = spread.tp if spread.shards_embeddings else 1
    ends = embedding.over(ways) + head.over(ways) if together else larger.over(ways)
    rest = StoredWeights(plain_bytes=architecture.other_params * element_bytes(plain_dtype(fmt, compute_dtype)))
    return total + ends + rest + _vision_weights(architecture, fmt, compute_dtype, spread)


def _vision_weights(
    architecture: ModelArchitecture, fmt: WeightFormat, compute_dtype: str, spread: WeightSpread
) -> StoredWeights:
    """The vision tower, which no format packs; llama.cpp reads it from a file of its own, in 16 bits."""
    dtype = "fp16" if fmt.scheme == "gguf" else plain_dtype(fmt, compute_dtype)
    tower = StoredWeights(plain_bytes=architecture.vision_params * element_bytes(dtype))
    return tower.over(spread.tp) if spread.shards_vision else tower


def plain_dtype(fmt: WeightFormat, compute_dtype: str) -> str:
    """The dtype of what the format leaves unquantised."""
    if fmt.scheme == "plain":
        return fmt.name
    return "fp32" if fmt.scheme == "gguf" else compute_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """All layers of one group, by how tensor and expert parallelism treat them."""

    sharded: StoredWeights
    kv: StoredWeights
    """Key and value projections: copied where tp exceeds the number of key/value heads."""
    experts: StoredWeights
    replicated: StoredWeights


@lru_cache(maxsize=4096)
def layers_of(
    architecture: ModelArchitecture,
    group: LayerGroup,
    fmt: WeightFormat,
    compute_dtype: str,
    first_layer: int,
    packs_experts: bool = False,
) -> LayerWeights:
    """Storage of every layer of ``group``, whose first layer is number ``first_layer`` of the model."""
    sharded = kv = experts = StoredWeights()
    replicated = StoredWeights(
        plain_bytes=group.count * group.other_params * element_bytes(plain_dtype(fmt, compute_dtype))
    )
    for linear in group.linears:
        stored = _linear_weights(architecture, group, linear, fmt, compute_dtype, first_layer, packs_experts)
        if linear.role == "expert":
            experts += stored
        elif linear.role == "router" or linear.name in _REPLICATED_NAMES:
            replicated += stored
        elif linear.name in _KV_NAMES and linear.role == "attention":
            kv += stored
        elif linear.name in _FUSED_QKV_NAMES and isinstance(group.mixer, GroupedQueryAttention):
            heads, kv_heads = group.mixer.num_attention_heads, group.mixer.num_key_value_heads
            kv_share = ceil_div(stored.total_bytes * 2 * kv_heads, heads + 2 * kv_heads)
            part = _part(stored, kv_share)
            kv += part
            sharded += _minus(stored, part)
        else:
            sharded += stored
    return LayerWeights(sharded=sharded, kv=kv, experts=experts, replicated=replicated)


def _part(stored: StoredWeights, share_bytes: int) -> StoredWeights:
    total = max(stored.total_bytes, 1)
    return StoredWeights(
        packed_bytes=stored.packed_bytes * share_bytes // total,
        state_bytes=stored.state_bytes * share_bytes // total,
        plain_bytes=stored.plain_bytes * share_bytes // total,
    )


def _minus(whole: StoredWeights, part: StoredWeights) -> StoredWeights:
    return whole + part.times(-1)


def _linear_weights(
    architecture: ModelArchitecture,
    group: LayerGroup,
    linear: Linear,
    fmt: WeightFormat,
    compute_dtype: str,
    first_layer: int,
    packs_experts: bool,
) -> StoredWeights:
    """One projection in every layer of the group."""
    copies = group.count * linear.count
    plain = element_bytes(plain_dtype(fmt, compute_dtype))
    bias = copies * linear.out_features * plain if linear.bias else 0
    weights = linear.in_features * linear.out_features
    if fmt.scheme == "gguf":
        rows = [
            _gguf_row(architecture, group, linear, fmt.mixture, layer)
            for layer in range(first_layer, first_layer + group.count)
        ]
        return StoredWeights(packed_bytes=sum(rows) * linear.out_features * linear.count, plain_bytes=bias)
    has_experts = any(isinstance(each.mlp, MoeMlp) for each in architecture.groups)
    is_module = linear.is_packable or (packs_experts and linear.role == "expert")
    kept = linear.keeps_precision
    quantised = fmt.quantises(linear.role, is_module=is_module, kept=kept, model_has_experts=has_experts)
    if not fmt.is_quantised or not quantised:
        return StoredWeights(plain_bytes=copies * weights * plain + bias)
    storage = fmt.matrix_bytes(linear.in_features, linear.out_features)
    untouched = min(2, group.count) * linear.count if fmt.mlp_only else 0
    packed = copies - untouched
    return StoredWeights(
        packed_bytes=packed * storage.packed_bytes,
        state_bytes=packed * storage.state_bytes,
        plain_bytes=untouched * weights * plain + bias,
    )


def _gguf_row(architecture: ModelArchitecture, group: LayerGroup, linear: Linear, mixture: str, layer: int) -> int:
    if linear.role == "router":
        return 4 * linear.in_features
    if mixture == "mxfp4_moe" and linear.role == "expert":
        return gguf.row_bytes("mxfp4", linear.in_features)
    mixer = group.mixer
    wide = (
        mixer.num_attention_heads // mixer.num_key_value_heads if isinstance(mixer, GroupedQueryAttention) else 1
    )
    experts = group.mlp.num_experts if isinstance(group.mlp, MoeMlp) else 0
    block = gguf.tensor_type(mixture, linear.name, layer, architecture.num_layers, wide, experts)
    return gguf.row_bytes(block, linear.in_features)


def _num_kv_heads(group: LayerGroup) -> int:
    if isinstance(group.mixer, GroupedQueryAttention):
        return group.mixer.num_key_value_heads
    if isinstance(group.mixer, LatentAttention):
        return group.mixer.num_attention_heads
    return 1


def embedding_weights(architecture: ModelArchitecture, fmt: WeightFormat, compute_dtype: str) -> StoredWeights:
    """Token, position and type embeddings; only GGUF quantises the token embedding."""
    plain = element_bytes(plain_dtype(fmt, compute_dtype))
    if fmt.scheme != "gguf":
        return StoredWeights(plain_bytes=architecture.embedding_params * plain)
    tokens = min(architecture.vocab_size * architecture.hidden_size, architecture.embedding_params)
    tied = architecture.tie_word_embeddings
    block = gguf.output_type(fmt.mixture) if tied else gguf.embedding_type(fmt.mixture)
    row = gguf.row_bytes(block, architecture.hidden_size)
    return StoredWeights(
        packed_bytes=row * architecture.vocab_size,
        plain_bytes=(architecture.embedding_params - tokens) * plain,
    )


def head_weights(
    architecture: ModelArchitecture,
    fmt: WeightFormat,
    compute_dtype: str,
    *,
    untied: bool = False,
    quantised: bool = False,
) -> StoredWeights:
    """The output head where it is not the embedding (or is held apart from it: ``untied``)."""
    plain = element_bytes(plain_dtype(fmt, compute_dtype))
    if not architecture.has_lm_head or (architecture.tie_word_embeddings and not untied):
        return StoredWeights()
    d, vocab = architecture.hidden_size, architecture.vocab_size
    bias = vocab * plain if architecture.lm_head_bias else 0
    if fmt.scheme == "gguf":
        row = gguf.row_bytes(gguf.output_type(fmt.mixture), d)
        return StoredWeights(packed_bytes=row * vocab, plain_bytes=bias)
    if quantised and fmt.is_quantised:
        storage = fmt.matrix_bytes(d, vocab)
        return StoredWeights(packed_bytes=storage.packed_bytes, state_bytes=storage.state_bytes, plain_bytes=bias)
    return StoredWeights(plain_bytes=vocab * d * plain + bias)
