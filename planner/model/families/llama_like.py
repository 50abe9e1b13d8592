"""Families that are Llama with a few traits changed."""

from __future__ import annotations

from dataclasses import replace

from planner.model.architecture import GroupedQueryAttention, ModelArchitecture
from planner.model.config_reader import ConfigReader
from planner.model.families.decoder import (
    Layers,
    Traits,
    build,
    every_nth_full,
    window_from_layer_types,
)


def _window(cfg: ConfigReader) -> int | None:
    value = cfg.size("sliding_window", default=0, least=0)
    return value or None


def _activation(cfg: ConfigReader, default: str = "silu") -> str:
    return cfg.text("hidden_act", "hidden_activation", "activation_function", default=default)


def _layer_windows(cfg: ConfigReader, otherwise: Layers) -> Layers:
    kinds = cfg.texts("layer_types")
    return otherwise if kinds is None else window_from_layer_types(cfg, kinds, _window(cfg))


def llama(cfg: ConfigReader) -> ModelArchitecture:
    """Llama and those that share its blocks: Granite, SmolLM3, Yi, InternLM-3, Seed-OSS."""
    bias = cfg.flag("attention_bias", "qkv_bias")
    o_bias = cfg.flag("attention_out_bias", "attention_bias")
    return build(
        cfg, Traits(qkv_bias=bias, o_bias=o_bias, mlp_bias=cfg.flag("mlp_bias"), activation=_activation(cfg))
    )


def mistral(cfg: ConfigReader) -> ModelArchitecture:
    """Every layer has the window where one is set (v0.1 only)."""
    window = _window(cfg)
    return build(cfg, Traits(activation=_activation(cfg), window=lambda index: window))


def phi3(cfg: ConfigReader) -> ModelArchitecture:
    window = _window(cfg)
    traits = Traits(
        fused_qkv_names=("qkv_proj", "o_proj"),
        fused_mlp_names=("gate_up_proj", "down_proj"),
        activation=_activation(cfg),
        window=lambda index: window,
    )
    return build(cfg, traits)


def _qwen_window(cfg: ConfigReader) -> Layers:
    """Qwen2 and Qwen3: a window only where ``use_sliding_window`` says so, from ``max_window_layers`` on."""
    window = _window(cfg) if cfg.flag("use_sliding_window") else None
    first = cfg.size("max_window_layers", default=28, least=0)
    return _layer_windows(cfg, lambda index: window if index >= first else None)


def qwen2(cfg: ConfigReader) -> ModelArchitecture:
    return build(cfg, Traits(qkv_bias=True, activation=_activation(cfg), window=_qwen_window(cfg)))


def qwen3(cfg: ConfigReader) -> ModelArchitecture:
    bias = cfg.flag("attention_bias")
    traits = Traits(
        qkv_bias=bias, o_bias=bias, qk_norm="head", activation=_activation(cfg), window=_qwen_window(cfg)
    )
    return build(cfg, traits)


def gemma(cfg: ConfigReader) -> ModelArchitecture:
    traits = Traits(activation=_activation(cfg, "gelu_pytorch_tanh"), tie_default=True, scale_embeddings=True)
    return build(cfg, traits)


def gemma2(cfg: ConfigReader) -> ModelArchitecture:
    """Windowed and full layers alternate, starting with a windowed one."""
    traits = Traits(
        num_norms=4,
        activation=_activation(cfg, "gelu_pytorch_tanh"),
        tie_default=True,
        scale_embeddings=True,
        window=_layer_windows(cfg, every_nth_full(_window(cfg), 2)),
    )
    return build(cfg, traits)


def gemma3(cfg: ConfigReader) -> ModelArchitecture:
    """Every sixth layer is full (``sliding_window_pattern``), the others are windowed."""
    pattern = cfg.size("sliding_window_pattern", "_sliding_window_pattern", default=6)
    traits = Traits(
        num_norms=4,
        qk_norm="head",
        activation=_activation(cfg, "gelu_pytorch_tanh"),
        tie_default=True,
        scale_embeddings=True,
        window=_layer_windows(cfg, every_nth_full(_window(cfg), pattern)),
    )
    return build(cfg, traits)


def glm(cfg: ConfigReader) -> ModelArchitecture:
    """GLM-4 of 2024: biased q, k, v and one matrix for gate and up."""
    return build(cfg, _glm_traits(cfg, num_norms=2))


def glm4(cfg: ConfigReader) -> ModelArchitecture:
    """GLM-4-0414: as GLM, with a norm after attention and one after the MLP."""
    return build(cfg, _glm_traits(cfg, num_norms=4))


def _glm_traits(cfg: ConfigReader, num_norms: int) -> Traits:
    return Traits(
        qkv_bias=cfg.flag("attention_bias"),
        num_norms=num_norms,
        fused_mlp_names=("gate_up_proj", "down_proj"),
        activation=_activation(cfg),
    )


def olmo(cfg: ConfigReader) -> ModelArchitecture:
    """OLMo-1: LayerNorm without parameters."""
    bias = cfg.flag("attention_bias")
    traits = Traits(qkv_bias=bias, o_bias=bias, norm="layernorm-no-params", activation=_activation(cfg))
    return build(cfg, traits)


def olmo2(cfg: ConfigReader) -> ModelArchitecture:
    """OLMo-2 and OLMo-3: q/k norms over all heads; OLMo-3 has a full layer after every three windowed ones."""
    bias = cfg.flag("attention_bias")
    windows = every_nth_full(_window(cfg), 4) if cfg.model_type == "olmo3" else lambda index: None
    traits = Traits(
        qkv_bias=bias,
        o_bias=bias,
        qk_norm="full",
        activation=_activation(cfg),
        window=_layer_windows(cfg, windows),
    )
    return build(cfg, traits)


def cohere(cfg: ConfigReader) -> ModelArchitecture:
    """Command-R: attention and MLP side by side behind one LayerNorm without bias."""
    bias = cfg.flag("attention_bias")
    pattern = cfg.size("sliding_window_pattern", "_sliding_window_pattern", default=4)
    windows = every_nth_full(_window(cfg), pattern) if cfg.model_type == "cohere2" else lambda index: None
    traits = Traits(
        qkv_bias=bias,
        o_bias=bias,
        norm="layernorm-no-bias",
        num_norms=1,
        qk_norm="full" if cfg.flag("use_qk_norm") else None,
        activation=_activation(cfg),
        tie_default=True,
        parallel_blocks=True,
        window=_layer_windows(cfg, windows),
    )
    return build(cfg, traits)


def stablelm(cfg: ConfigReader) -> ModelArchitecture:
    """StableLM 3B and 2: LayerNorm; the 12B has parallel blocks with one norm and a q/k norm per head."""
    parallel = cfg.flag("use_parallel_residual")
    traits = Traits(
        qkv_bias=cfg.flag("use_qkv_bias"),
        norm="layernorm",
        num_norms=1 if parallel else 2,
        qk_norm="full" if cfg.flag("qk_layernorm") else None,
        activation=_activation(cfg),
        parallel_blocks=parallel,
    )
    return build(cfg, traits)


def bitnet(cfg: ConfigReader) -> ModelArchitecture:
    """BitNet b1.58: a norm before the output projection (P) and one before the down projection (f)."""
    d, heads = cfg.size("hidden_size"), cfg.size("num_attention_heads")
    sub_norms = heads * cfg.size("head_dim", default=d // heads) + cfg.size("intermediate_size")
    return build(cfg, Traits(extra_layer_params=sub_norms, activation=_activation(cfg, "relu2")))


def starcoder2(cfg: ConfigReader) -> ModelArchitecture:
    bias, window = cfg.flag("use_bias", default=True), _window(cfg)
    traits = Traits(
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        norm="layernorm",
        gated=False,
        plain_mlp_names=("c_fc", "c_proj"),
        activation=_activation(cfg, "gelu_pytorch_tanh"),
        tie_default=True,
        window=lambda index: window,
    )
    return build(cfg, traits)


def ernie(cfg: ConfigReader) -> ModelArchitecture:
    bias = cfg.flag("use_bias")
    traits = Traits(qkv_bias=bias, o_bias=bias, mlp_bias=bias, activation=_activation(cfg), tie_default=True)
    return build(cfg, traits)


def mllama(cfg: ConfigReader) -> ModelArchitecture:
    """Llama-3.2-Vision: Llama blocks, and layers that attend to the image instead of the text.

    A cross-attention layer has q/k norms of head_dim and two gates; the embedding has eight spare rows.
    """
    d = cfg.size("hidden_size")
    plain = build(cfg, Traits(activation=_activation(cfg)))
    crossing = {index for index in cfg.sizes("cross_attention_layers") or () if index < cfg.layers()}
    if len(crossing) >= cfg.layers():
        raise cfg.refuse("Llama vision without text layers")
    (group,) = plain.groups
    if not isinstance(group.mixer, GroupedQueryAttention):
        raise cfg.refuse("this mixer")
    cross_layer = replace(
        group,
        count=len(crossing),
        mixer=None,
        cross_attention=replace(group.mixer, qk_norm="head", rotary=False),
        linears=tuple(
            replace(linear, role="cross") if linear.role == "attention" else linear for linear in group.linears
        ),
        other_params=group.other_params + 2 * group.mixer.head_dim + 2,
    )
    text_layers = replace(group, count=group.count - len(crossing))
    groups = (text_layers, cross_layer) if crossing else (text_layers,)
    extra = 8 * d + len(crossing) * (2 * group.mixer.head_dim + 2)
    return replace(
        plain,
        groups=groups,
        embedding_params=plain.embedding_params + 8 * d,
        params_total=plain.params_total + extra,
        params_active=plain.params_active + extra,
        unmodelled=("kv_cache", "activations"),
    )


def exaone4(cfg: ConfigReader) -> ModelArchitecture:
    """EXAONE-4: q/k norms, a norm after each block; where there is a window every fourth layer is without it.

    Published configs write the pattern as letters ("LLLG"), later ones as a number.
    """
    pattern = cfg.raw("sliding_window_pattern")
    every = len(pattern) if isinstance(pattern, str) else cfg.size("sliding_window_pattern", default=4)
    windows = every_nth_full(_window(cfg), max(every, 1))
    traits = Traits(qk_norm="head", activation=_activation(cfg), window=_layer_windows(cfg, windows))
    return build(cfg, traits)


def nemotron(cfg: ConfigReader) -> ModelArchitecture:
    """Nemotron-4 and Minitron: LayerNorm and an MLP without a gate."""
    bias = cfg.flag("attention_bias")
    traits = Traits(
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=cfg.flag("mlp_bias"),
        norm="layernorm",
        gated=False,
        plain_mlp_names=("up_proj", "down_proj"),
        activation=_activation(cfg, "relu2"),
    )
    return build(cfg, traits)
