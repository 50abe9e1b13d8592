"""Models with recurrent layers: Mamba, Falcon-Mamba, Jamba, Qwen3-Next and Qwen3.5, Nemotron-H, LFM2, Granite-4.

A recurrent layer keeps a state of fixed size per sequence instead of a cache that grows with the context.
"""

from __future__ import annotations

from collections.abc import Callable

from planner.errors import RequestError
from planner.model import blocks
from planner.model.architecture import (
    DenseMlp,
    GroupedQueryAttention,
    LayerGroup,
    Linear,
    ModelArchitecture,
    MoeMlp,
    RecurrentMixer,
)
from planner.model.config_reader import ConfigReader
from planner.model.families.decoder import MoeTraits, head_dim_of, max_positions, moe_linears
from planner.model.families.experts import moe_of, sparse_layers
from planner.model.params import assemble

MixerParts = tuple[GroupedQueryAttention | RecurrentMixer, tuple[Linear, ...], int]
"""A mixer, its matrices, and its parameters outside them."""
MlpParts = tuple[DenseMlp | MoeMlp, tuple[Linear, ...]]


def recurrent(name: str, in_features: int, out_features: int, *, bias: bool = False) -> Linear:
    return Linear(name=name, in_features=in_features, out_features=out_features, bias=bias, role="recurrent")


def attention_parts(
    cfg: ConfigReader,
    d: int,
    *,
    out_name: str = "o_proj",
    qk_norm: bool = False,
    doubled_query: bool = False,
    rotary: bool = True,
) -> MixerParts:
    """Full attention of a hybrid; with ``doubled_query`` the query projection also computes an output gate."""
    heads = cfg.size("num_attention_heads")
    attention = GroupedQueryAttention(
        num_attention_heads=heads,
        num_key_value_heads=cfg.size("num_key_value_heads", default=heads),
        head_dim=head_dim_of(cfg, d, heads),
        qk_norm="head" if qk_norm else None,
        rotary=rotary,
    )
    bias = cfg.flag("attention_bias")
    query, *rest = blocks.separate_qkv(
        d, attention, qkv_bias=bias, o_bias=bias, names=("q_proj", "k_proj", "v_proj", out_name)
    )
    if doubled_query:
        width = 2 * query.out_features
        query = Linear(name="q_proj", in_features=d, out_features=width, bias=bias, role="attention")
    return attention, (query, *rest), 2 * attention.head_dim if qk_norm else 0


def mamba_parts(cfg: ConfigReader, d: int, inner: int, *, prefix: str = "", norms: bool = False) -> MixerParts:
    """Mamba-1 of width D: d 2D + D (r + 2n) + r D + D d in matrices; convolution, A (D n) and D outside them.

    Source: arXiv 2312.00752.
    """
    state = cfg.size(f"{prefix}state_size", f"{prefix}d_state", default=16)
    kernel = cfg.size(f"{prefix}conv_kernel", f"{prefix}d_conv", default=4)
    rank_keys = (f"{prefix}dt_rank", "time_step_rank")
    auto = cfg.raw(*rank_keys) in (None, "auto")
    rank = -(-d // 16) if auto else cfg.size(*rank_keys)
    bias = cfg.flag(f"{prefix}proj_bias", "use_bias")
    conv_bias = cfg.flag(f"{prefix}conv_bias", "use_conv_bias", default=True)
    mixer = RecurrentMixer(
        kind="mamba", inner_size=inner, state_elements=inner * state, conv_state_elements=inner * kernel
    )
    linears = (
        recurrent("in_proj", d, 2 * inner, bias=bias),
        recurrent("x_proj", inner, rank + 2 * state),
        recurrent("dt_proj", rank, inner, bias=True),
        recurrent("out_proj", inner, d, bias=bias),
    )
    other = inner * kernel + (inner if conv_bias else 0) + inner * state + inner
    return mixer, linears, other + (rank + 2 * state if norms else 0)


def mamba(cfg: ConfigReader) -> ModelArchitecture:
    """Mamba and Falcon-Mamba: every layer is a Mamba block behind one norm."""
    d = cfg.size("hidden_size", "d_model")
    inner = cfg.size("intermediate_size", default=d * cfg.size("expand", default=2))
    mixer, linears, other = mamba_parts(cfg, d, inner)
    layer = LayerGroup(
        count=cfg.layers(), mixer=mixer, mlp=None, linears=linears, num_norms=1, other_params=other + d
    )
    tied = cfg.flag("tie_word_embeddings", default=cfg.model_type == "mamba")
    return finish(cfg, d, (layer,), tied=tied)


def jamba(cfg: ConfigReader) -> ModelArchitecture:
    """Jamba: one attention layer in eight, experts in every other layer, norms inside the Mamba mixer."""
    d, f = cfg.size("hidden_size"), cfg.size("intermediate_size")
    attention = attention_parts(cfg, d, rotary=False)
    recurrence = mamba_parts(cfg, d, d * cfg.size("mamba_expand", default=2), prefix="mamba_", norms=True)
    moe = MoeTraits(mlp=moe_of(cfg, width=f), router_name="router")
    sparse: MlpParts = (moe.mlp, moe_linears(d, moe))
    dense: MlpParts = (blocks.dense(f, gated=True, activation="silu"), blocks.gated_mlp(d, f))
    attention_period = cfg.size("attn_layer_period", default=8)
    attention_offset = cfg.size("attn_layer_offset", default=4, least=0)
    expert_period = cfg.size("expert_layer_period", default=2)
    expert_offset = cfg.size("expert_layer_offset", default=1, least=0)
    layers = (
        mixer_and_mlp(
            d,
            attention if index % attention_period == attention_offset else recurrence,
            sparse if moe.mlp.num_experts > 1 and index % expert_period == expert_offset else dense,
        )
        for index in range(cfg.layers())
    )
    return finish(cfg, d, blocks.merge_layers(layers))


def qwen3_next(cfg: ConfigReader) -> ModelArchitecture:
    """Qwen3-Next and Qwen3.5: three gated delta-rule layers to one of full attention with an output gate.

    A delta-rule layer holds d (2K + 2V) + 2 d Hv in matrices, a convolution over 2K + V channels, two vectors of
    Hv and a norm of head_v, with K and V the widths of all key and value heads.
    Source: transformers ``modeling_qwen3_next``.
    """
    d = cfg.size("hidden_size")
    key_heads, value_heads = cfg.size("linear_num_key_heads"), cfg.size("linear_num_value_heads")
    key_dim, value_dim = cfg.size("linear_key_head_dim"), cfg.size("linear_value_head_dim")
    kernel = cfg.size("linear_conv_kernel_dim", default=4)
    keys, values = key_heads * key_dim, value_heads * value_dim
    channels = 2 * keys + values
    if cfg.model_type == "qwen3_next":
        inputs: tuple[Linear, ...] = (
            recurrent("in_proj_qkvz", d, channels + values),
            recurrent("in_proj_ba", d, 2 * value_heads),
        )
    else:
        inputs = (
            recurrent("in_proj_qkv", d, channels),
            recurrent("in_proj_z", d, values),
            recurrent("in_proj_b", d, value_heads),
            recurrent("in_proj_a", d, value_heads),
        )
    delta: MixerParts = (
        RecurrentMixer(
            kind="gated_deltanet",
            inner_size=values,
            state_elements=value_heads * key_dim * value_dim,
            conv_state_elements=channels * kernel,
            num_heads=value_heads,
        ),
        (*inputs, recurrent("out_proj", values, d)),
        channels * kernel + 2 * value_heads + value_dim,
    )
    attention = attention_parts(cfg, d, qk_norm=True, doubled_query=True)
    is_full = _full_attention_layers(cfg)
    has_experts = cfg.has("num_experts", "num_local_experts")
    sparse_layer = sparse_layers(cfg) if has_experts else lambda index: False
    sparse = _qwen_experts(cfg, d) if has_experts else None

    def mlp(index: int) -> MlpParts:
        if sparse is not None and sparse_layer(index):
            return sparse
        f = cfg.size("intermediate_size")
        return blocks.dense(f, gated=True, activation="silu"), blocks.gated_mlp(d, f)

    layers = (
        mixer_and_mlp(d, attention if is_full(index) else delta, mlp(index)) for index in range(cfg.layers())
    )
    return finish(cfg, d, blocks.merge_layers(layers))


def _qwen_experts(cfg: ConfigReader, d: int) -> MlpParts:
    shared = cfg.size("shared_expert_intermediate_size", default=0, least=0)
    moe = MoeTraits(mlp=moe_of(cfg, shared=shared), shared_gate=True)
    return moe.mlp, moe_linears(d, moe)


def _full_attention_layers(cfg: ConfigReader) -> Callable[[int], bool]:
    """Where ``layer_types`` or ``full_attention_interval`` puts full attention."""
    kinds = cfg.texts("layer_types")
    if kinds is None:
        every = cfg.size("full_attention_interval", default=4)
        return lambda index: (index + 1) % every == 0
    if set(kinds) - {"linear_attention", "full_attention"} or len(kinds) < cfg.layers():
        raise RequestError("layer_types in config.json does not name linear or full attention for every layer")
    return lambda index: kinds[index] == "full_attention"


def mixer_and_mlp(d: int, mixer: MixerParts, mlp: MlpParts) -> LayerGroup:
    """A mixer and an MLP, each behind one RMSNorm."""
    return LayerGroup(
        count=1,
        mixer=mixer[0],
        mlp=mlp[0],
        linears=mixer[1] + mlp[1],
        num_norms=2,
        other_params=2 * d + mixer[2],
    )


def finish(
    cfg: ConfigReader, d: int, groups: tuple[LayerGroup, ...], *, tied: bool | None = None
) -> ModelArchitecture:
    """Embedding, final norm and head around the layers."""
    vocab = cfg.size("vocab_size")
    return assemble(
        model_type=cfg.model_type,
        hidden_size=d,
        vocab_size=vocab,
        tie_word_embeddings=cfg.flag("tie_word_embeddings") if tied is None else tied,
        norm="rmsnorm",
        max_position_embeddings=max_positions(cfg),
        groups=groups,
        embedding_params=vocab * d,
        other_params=d,
    )
