"""Decoders of attention and MLP blocks, from the traits that tell the families apart.

Letters: d hidden size, P = num_attention_heads * head_dim, K = num_key_value_heads * head_dim, f MLP width,
E experts. Per layer: 2 d P + 2 d K for attention, 3 d f (2 d f without a gate) for the MLP, E times that for
experts plus d E for the router, and a vector of d for each norm; a bias adds the width of its projection's output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from planner.errors import RequestError
from planner.model import blocks
from planner.model.architecture import (
    DenseMlp,
    GroupedQueryAttention,
    LayerGroup,
    Linear,
    ModelArchitecture,
    MoeMlp,
)
from planner.model.blocks import Norm
from planner.model.config_reader import ConfigReader
from planner.model.params import assemble

Layers = Callable[[int], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeTraits:
    """A family's mixture of experts; ``sparse_layer`` says which layers have one."""

    mlp: MoeMlp
    sparse_layer: Callable[[int], bool] = lambda index: True
    router_name: str = "gate"
    router_bias: bool = False
    router_is_module: bool = False
    expert_bias: bool = False
    shared_names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    shared_fused_names: tuple[str, str] | None = None
    """Names of a shared expert whose gate and up projections are one matrix."""
    selection_bias: bool = False
    """One trained bias per expert beside the router."""
    shared_gate: bool = False
    """A d x 1 gate on the shared expert."""
    dense_intermediate_size: int | None = None
    """MLP width of the layers without experts where it is not ``intermediate_size``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What sets a family apart from plain Llama; every default is Llama's."""

    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    norm: Norm = "rmsnorm"
    num_norms: int = 2
    final_norm: bool = True
    qk_norm: str | None = None
    """"head": two vectors of head_dim; "full": vectors over all query and key heads."""
    qkv_names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj")
    fused_qkv_names: tuple[str, str] | None = None
    gated: bool = True
    mlp_names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    fused_mlp_names: tuple[str, str] | None = None
    plain_mlp_names: tuple[str, str] = ("fc1", "fc2")
    activation: str = "silu"
    intermediate_size: int | None = None
    num_key_value_heads: int | None = None
    window: Layers = lambda index: None
    rotary: Callable[[int], bool] = lambda index: True
    extra_layer_params: int = 0
    """Sinks, sub-norms and the like, per layer."""
    moe: MoeTraits | None = None
    tie_default: bool = False
    lm_head_bias: bool = False
    position_rows: int = 0
    """Rows of a learned position table."""
    embedding_norm: bool = False
    parallel_blocks: bool = False
    scale_embeddings: bool = False


def window_from_layer_types(cfg: ConfigReader, kinds: tuple[str, ...] | None, window: int | None) -> Layers:
    """The window of each layer: sliding and chunked ones have it, full ones look at everything."""
    if kinds is None:
        return lambda index: None
    known = {"full_attention": None, "sliding_attention": window, "chunked_attention": window}
    for kind in kinds:
        if kind not in known:
            raise cfg.refuse(f"the layer type {kind[:40]!r}")
    if len(kinds) < cfg.layers():
        raise RequestError(f"layer_types in config.json names {len(kinds)} layers of {cfg.layers()}")
    return lambda index: known[kinds[index]]


def every_nth_full(window: int | None, n: int) -> Layers:
    """Layers n-1, 2n-1, … attend to everything, the others within ``window``."""
    return lambda index: None if (index + 1) % n == 0 else window


def head_dim_of(cfg: ConfigReader, d: int, heads: int) -> int:
    if not cfg.has("head_dim") and d % heads:
        raise RequestError(f"hidden_size {d} in config.json is no multiple of {heads} attention heads")
    return cfg.size("head_dim", default=max(d // heads, 1))


def build(cfg: ConfigReader, traits: Traits) -> ModelArchitecture:
    """The architecture of a decoder with ``traits``."""
    d = cfg.size("hidden_size", "n_embd", "d_model")
    vocab = cfg.size("vocab_size", "padded_vocab_size")
    heads = cfg.size("num_attention_heads", "n_head", "n_heads", "num_heads")
    kv_heads = traits.num_key_value_heads or cfg.size("num_key_value_heads", default=heads)
    head_dim = head_dim_of(cfg, d, heads)
    if heads % kv_heads:
        raise RequestError(
            f"num_attention_heads {heads} in config.json is no multiple of {kv_heads} key/value heads"
        )
    tied = cfg.flag("tie_word_embeddings", default=traits.tie_default)

    def layer(index: int) -> LayerGroup:
        attention = GroupedQueryAttention(
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=head_dim,
            window=traits.window(index),
            qk_norm="head" if traits.qk_norm == "head" else "full" if traits.qk_norm else None,
            rotary=traits.rotary(index),
        )
        mlp, mlp_linears = mlp_of(cfg, d, traits, index)
        other = traits.num_norms * blocks.norm_params(traits.norm, d) + traits.extra_layer_params
        if isinstance(mlp, MoeMlp) and traits.moe is not None and traits.moe.selection_bias:
            other += mlp.num_experts
        other += {None: 0, "head": 2 * head_dim, "full": (heads + kv_heads) * head_dim}[traits.qk_norm]
        return LayerGroup(
            count=1,
            mixer=attention,
            mlp=mlp,
            linears=attention_linears(d, attention, traits) + mlp_linears,
            num_norms=traits.num_norms,
            other_params=other,
        )

    embedding = vocab * d + traits.position_rows * d
    embedding += blocks.norm_params(traits.norm, d) if traits.embedding_norm else 0
    return assemble(
        model_type=cfg.model_type,
        hidden_size=d,
        vocab_size=vocab,
        tie_word_embeddings=tied,
        lm_head_bias=traits.lm_head_bias,
        norm=traits.norm,
        max_position_embeddings=max_positions(cfg),
        groups=blocks.merge_layers(layer(index) for index in range(cfg.layers())),
        embedding_params=embedding,
        other_params=blocks.norm_params(traits.norm, d) if traits.final_norm else 0,
        parallel_blocks=traits.parallel_blocks,
        scale_embeddings=traits.scale_embeddings,
        logit_softcap=cfg.number("final_logit_softcapping"),
    )


def max_positions(cfg: ConfigReader) -> int | None:
    keys = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length")
    return cfg.size(*keys) if cfg.has(*keys) else None


def attention_linears(d: int, attention: GroupedQueryAttention, traits: Traits) -> tuple[Linear, ...]:
    if traits.fused_qkv_names is not None:
        return blocks.fused_qkv(
            d, attention, qkv_bias=traits.qkv_bias, o_bias=traits.o_bias, names=traits.fused_qkv_names
        )
    return blocks.separate_qkv(
        d, attention, qkv_bias=traits.qkv_bias, o_bias=traits.o_bias, names=traits.qkv_names
    )


def dense_linears(d: int, f: int, traits: Traits) -> tuple[Linear, ...]:
    if not traits.gated:
        return blocks.plain_mlp(d, f, bias=traits.mlp_bias, names=traits.plain_mlp_names)
    if traits.fused_mlp_names is not None:
        return blocks.fused_gated_mlp(d, f, bias=traits.mlp_bias, names=traits.fused_mlp_names)
    return blocks.gated_mlp(d, f, bias=traits.mlp_bias, names=traits.mlp_names)


def mlp_of(cfg: ConfigReader, d: int, traits: Traits, index: int) -> tuple[DenseMlp | MoeMlp, tuple[Linear, ...]]:
    moe = traits.moe
    if moe is not None and moe.sparse_layer(index):
        linears = moe_linears(d, moe)
        return moe.mlp, linears
    f = (moe.dense_intermediate_size if moe else None) or traits.intermediate_size
    f = f or cfg.size("intermediate_size", "ffn_dim", "n_inner")
    return blocks.dense(f, gated=traits.gated, activation=traits.activation), dense_linears(d, f, traits)


def moe_linears(d: int, moe: MoeTraits) -> tuple[Linear, ...]:
    """Router, routed experts, shared expert and its gate."""
    linears = (
        blocks.router(
            d, moe.mlp.num_experts, name=moe.router_name, bias=moe.router_bias, is_module=moe.router_is_module
        ),
        *blocks.fused_experts(d, moe.mlp, bias=moe.expert_bias),
    )
    shared = moe.mlp.shared_intermediate_size
    if not shared:
        return linears
    if moe.shared_fused_names is not None:
        linears += blocks.fused_gated_mlp(d, shared, names=moe.shared_fused_names, role="shared_expert")
    else:
        linears += blocks.gated_mlp(d, shared, names=moe.shared_names, role="shared_expert")
    if moe.shared_gate:
        linears += (Linear(name="shared_expert_gate", in_features=d, out_features=1, role="shared_expert"),)
    return linears
