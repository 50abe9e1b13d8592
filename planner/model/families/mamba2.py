"""Models with Mamba-2 or short-convolution layers: Nemotron-H, Granite-4, LFM2.

A Mamba-2 layer of H heads of width p, G groups and state n has an inner width D = H p and c = D + 2 G n convolved
channels: d (D + c + H) and D d in matrices, c k [+ c] of convolution, 3 H and a norm of D outside them.
Source: arXiv 2405.21060.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from planner.errors import RequestError
from planner.model import blocks
from planner.model.architecture import LayerGroup, Linear, ModelArchitecture, MoeMlp, RecurrentMixer
from planner.model.config_reader import ConfigReader
from planner.model.families.decoder import MoeTraits, moe_linears
from planner.model.families.experts import moe_of
from planner.model.families.hybrid import (
    MixerParts,
    MlpParts,
    attention_parts,
    finish,
    mixer_and_mlp,
    recurrent,
)

_NEMOTRON_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_RENAMED_IN_TRANSFORMERS_5 = {"linear_attention": "mamba", "full_attention": "attention"}


def mamba2_parts(
    d: int, *, heads: int, head_dim: int, groups: int, state: int, kernel: int, bias: bool, conv_bias: bool
) -> MixerParts:
    inner = heads * head_dim
    channels = inner + 2 * groups * state
    mixer = RecurrentMixer(
        kind="mamba2",
        inner_size=inner,
        state_elements=inner * state,
        conv_state_elements=channels * kernel,
        num_heads=heads,
    )
    linears = (
        recurrent("in_proj", d, inner + channels + heads, bias=bias),
        recurrent("out_proj", inner, d, bias=bias),
    )
    convolution = channels * kernel + (channels if conv_bias else 0)
    return mixer, linears, convolution + 3 * heads + inner


def mamba2(cfg: ConfigReader) -> ModelArchitecture:
    """Mamba-2: every layer is one norm and one Mamba-2 block."""
    d = cfg.size("hidden_size")
    heads = cfg.size("num_heads")
    mixer = mamba2_parts(
        d,
        heads=heads,
        head_dim=cfg.size("head_dim", default=max(d * cfg.size("expand", default=2) // heads, 1)),
        groups=cfg.size("n_groups"),
        state=cfg.size("state_size"),
        kernel=cfg.size("conv_kernel", default=4),
        bias=cfg.flag("use_bias"),
        conv_bias=cfg.flag("use_conv_bias", default=True),
    )
    layer = replace(_one_block(d, mixer=mixer), count=cfg.layers())
    return finish(cfg, d, (layer,))


def nemotron_h(cfg: ConfigReader) -> ModelArchitecture:
    """Nemotron-H and Nemotron-3: each layer is one norm and one block, by the letter of the pattern.

    Source: transformers ``modeling_nemotron_h`` (M Mamba-2, * attention, - MLP, E experts).
    """
    d = cfg.size("hidden_size")

    def mamba() -> LayerGroup:
        mixer = mamba2_parts(
            d,
            heads=cfg.size("mamba_num_heads"),
            head_dim=cfg.size("mamba_head_dim"),
            groups=cfg.size("n_groups"),
            state=cfg.size("ssm_state_size"),
            kernel=cfg.size("conv_kernel", default=4),
            bias=cfg.flag("mamba_proj_bias", "use_bias"),
            conv_bias=cfg.flag("use_conv_bias", default=True),
        )
        return _one_block(d, mixer=mixer)

    def attention() -> LayerGroup:
        return _one_block(d, mixer=attention_parts(cfg, d, rotary=False))

    def mlp() -> LayerGroup:
        f = cfg.size("intermediate_size")
        linears = blocks.plain_mlp(d, f, bias=cfg.flag("mlp_bias"), names=("up_proj", "down_proj"))
        dense = blocks.dense(f, gated=False, activation=cfg.text("mlp_hidden_act", default="relu2"))
        return _one_block(d, mlp=(dense, linears))

    builders: dict[str, Callable[[], LayerGroup]] = {
        "mamba": mamba,
        "attention": attention,
        "mlp": mlp,
        "moe": lambda: _one_block(d, mlp=_nemotron_experts(cfg, d)),
    }
    kinds = _nemotron_kinds(cfg)
    parts = {kind: builders[kind]() for kind in set(kinds)}
    return finish(cfg, d, blocks.merge_layers(parts[kind] for kind in kinds))


def _nemotron_kinds(cfg: ConfigReader) -> tuple[str, ...]:
    words = cfg.texts("layers_block_type")
    if words is None:
        words = tuple(_NEMOTRON_LETTERS.get(letter, letter) for letter in cfg.text("hybrid_override_pattern"))
    kinds = tuple(_RENAMED_IN_TRANSFORMERS_5.get(word, word) for word in words)
    unknown = set(kinds) - set(_NEMOTRON_LETTERS.values())
    if unknown or not kinds or len(kinds) > 10_000:
        raise RequestError("hybrid_override_pattern in config.json is not made of M, *, - and E")
    return kinds


def _nemotron_experts(cfg: ConfigReader, d: int) -> MlpParts:
    """Experts of two matrices, in a narrower latent space where ``moe_latent_size`` says so, and a shared one."""
    shared = cfg.size("moe_shared_expert_intermediate_size") * cfg.size("n_shared_experts", default=1, least=0)
    activation = cfg.text("mlp_hidden_act", default="relu2")
    mlp = moe_of(cfg, shared=shared, activation=activation, gated=False)
    latent = cfg.size("moe_latent_size", default=d)
    linears = (blocks.router(d, mlp.num_experts), *blocks.fused_experts(latent, mlp))
    if shared:
        linears += blocks.plain_mlp(d, shared, names=("up_proj", "down_proj"), role="shared_expert")
    if latent != d:
        linears += (
            Linear(name="fc1_latent_proj", in_features=d, out_features=latent, role="other"),
            Linear(name="fc2_latent_proj", in_features=latent, out_features=d, role="other"),
        )
    return mlp, linears


def _one_block(d: int, *, mixer: MixerParts | None = None, mlp: MlpParts | None = None) -> LayerGroup:
    return LayerGroup(
        count=1,
        mixer=mixer[0] if mixer else None,
        mlp=mlp[0] if mlp else None,
        linears=mixer[1] if mixer else mlp[1] if mlp else (),
        num_norms=1,
        other_params=d + (mixer[2] if mixer else 0),
    )


def granite_hybrid(cfg: ConfigReader) -> ModelArchitecture:
    """Granite-4: Mamba-2 or attention, then a shared gated MLP and, in the MoE sizes, experts beside it."""
    d = cfg.size("hidden_size")
    heads = cfg.size("mamba_n_heads", default=128)
    inner = d * cfg.size("mamba_expand", default=2)
    head_dim = inner // heads if cfg.raw("mamba_d_head") in (None, "auto") else cfg.size("mamba_d_head")
    words = cfg.texts("layer_types", "layers_block_type") or ()
    kinds = tuple(_RENAMED_IN_TRANSFORMERS_5.get(word, word) for word in words)
    if len(kinds) < cfg.layers() or set(kinds) - {"mamba", "attention"}:
        raise cfg.refuse("a Granite hybrid without layer_types of mamba and attention")
    mixers = {
        "mamba": mamba2_parts(
            d,
            heads=heads,
            head_dim=head_dim,
            groups=cfg.size("mamba_n_groups", default=1),
            state=cfg.size("mamba_d_state", default=256),
            kernel=cfg.size("mamba_d_conv", default=4),
            bias=cfg.flag("mamba_proj_bias"),
            conv_bias=cfg.flag("mamba_conv_bias", default=True),
        ),
        "attention": attention_parts(cfg, d, rotary=cfg.raw("position_embedding_type") == "rope"),
    }
    mlp = _granite_mlp(cfg, d)
    layers = (mixer_and_mlp(d, mixers[kinds[index]], mlp) for index in range(cfg.layers()))
    return finish(cfg, d, blocks.merge_layers(layers))


def _granite_mlp(cfg: ConfigReader, d: int) -> MlpParts:
    shared = cfg.size("shared_intermediate_size")
    names = ("input_linear", "output_linear")
    if not cfg.size("num_local_experts", default=0, least=0):
        return blocks.dense(shared, gated=True, activation="silu"), blocks.fused_gated_mlp(d, shared, names=names)
    moe = MoeTraits(
        mlp=moe_of(cfg, width=cfg.size("intermediate_size"), shared=shared),
        router_name="router",
        shared_fused_names=names,
    )
    return moe.mlp, moe_linears(d, moe)


def lfm2(cfg: ConfigReader) -> ModelArchitecture:
    """LFM2: gated short convolutions (3 d d and d d, k taps per channel) with a few attention layers.

    The MLP width is two thirds of ``intermediate_size``, rounded up to ``block_multiple_of``, unless
    ``block_auto_adjust_ff_dim`` is off. Source: transformers ``modeling_lfm2``.
    """
    d, depth = cfg.size("hidden_size"), cfg.layers()
    bias, kernel = cfg.flag("conv_bias"), cfg.size("conv_L_cache", default=3)
    mixer = RecurrentMixer(kind="short_conv", inner_size=d, state_elements=0, conv_state_elements=d * kernel)
    convolution: MixerParts = (
        mixer,
        (recurrent("in_proj", d, 3 * d, bias=bias), recurrent("out_proj", d, d, bias=bias)),
        d * kernel + (d if bias else 0),
    )
    attention = attention_parts(cfg, d, out_name="out_proj", qk_norm=True)
    full = _lfm2_attention_layers(cfg)
    dense = _lfm2_mlp(cfg, d)
    experts = _lfm2_experts(cfg, d) if cfg.has("num_experts") else None
    num_dense = cfg.size("num_dense_layers", default=0, least=0) if experts else depth
    layers = (
        mixer_and_mlp(
            d,
            attention if index in full else convolution,
            experts if experts is not None and index >= num_dense else dense,
        )
        for index in range(depth)
    )
    tied = cfg.flag("tie_embedding", "tie_word_embeddings", default=True)
    return finish(cfg, d, blocks.merge_layers(layers), tied=tied)


def _lfm2_attention_layers(cfg: ConfigReader) -> frozenset[int]:
    kinds = cfg.texts("layer_types")
    if kinds is not None:
        if set(kinds) - {"conv", "full_attention"} or len(kinds) < cfg.layers():
            raise cfg.refuse("this layer_types")
        return frozenset(index for index, kind in enumerate(kinds) if kind == "full_attention")
    listed = cfg.sizes("full_attn_idxs")
    return frozenset(range(cfg.layers()) if listed is None else listed)


def _lfm2_mlp(cfg: ConfigReader, d: int) -> MlpParts:
    f = cfg.size("intermediate_size", "block_ff_dim")
    if cfg.flag("block_auto_adjust_ff_dim", default=cfg.model_type == "lfm2"):
        if cfg.number("block_ffn_dim_multiplier") not in (None, 1.0):
            raise cfg.refuse("block_ffn_dim_multiplier other than 1")
        multiple = cfg.size("block_multiple_of", default=256)
        f = -(-(2 * f // 3) // multiple) * multiple
    return blocks.dense(f, gated=True, activation="silu"), blocks.gated_mlp(d, f, names=("w1", "w3", "w2"))


def _lfm2_experts(cfg: ConfigReader, d: int) -> tuple[MoeMlp, tuple[Linear, ...]]:
    moe = MoeTraits(mlp=moe_of(cfg))
    return moe.mlp, moe_linears(d, moe)
