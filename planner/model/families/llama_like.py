"""Families that are Llama with a few traits changed."""

from __future__ import annotations

from planner.model.architecture import ModelArchitecture
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
    """Llama and those that share its blocks: Granite, SmolLM3, Yi, InternLM-3."""
    bias = cfg.flag("attention_bias", "qkv_bias")
    o_bias = cfg.flag("attention_bias")
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
