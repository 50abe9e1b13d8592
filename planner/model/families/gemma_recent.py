"""Gemma-3n and Gemma-4: per-layer embeddings, shared key/value layers, global layers of another shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planner.errors import RequestError
from planner.model import blocks
from planner.model.architecture import GroupedQueryAttention, LayerGroup, Linear, ModelArchitecture, MoeMlp
from planner.model.config_reader import ConfigReader
from planner.model.families.decoder import max_positions
from planner.model.params import assemble


def _is_full(cfg: ConfigReader, pattern: int) -> tuple[bool, ...]:
    """Whether each layer attends to everything; the last layer always does in Gemma-4."""
    depth = cfg.layers()
    kinds = cfg.texts("layer_types")
    if kinds is None:
        return tuple((index + 1) % pattern == 0 for index in range(depth))
    if len(kinds) < depth or set(kinds) - {"full_attention", "sliding_attention"}:
        raise RequestError("layer_types in config.json does not name sliding or full attention for every layer")
    return tuple(kind == "full_attention" for kind in kinds[:depth])


def _other(name: str, in_features: int, out_features: int) -> Linear:
    return Linear(name=name, in_features=in_features, out_features=out_features, role="other")


def _attention_linears(
    d: int, attention: GroupedQueryAttention, *, values: bool, bias: bool
) -> tuple[Linear, ...]:
    """Query and output only where keys and values are those of an earlier layer; no value where it is the key."""
    query, key, value, out = blocks.separate_qkv(d, attention, qkv_bias=bias, o_bias=bias)
    if attention.shares_kv_with_earlier_layer:
        return query, out
    return (query, key, value, out) if values else (query, key, out)


def _qk_norm_params(attention: GroupedQueryAttention) -> int:
    return attention.head_dim * (1 if attention.shares_kv_with_earlier_layer else 2)


def gemma4(cfg: ConfigReader) -> ModelArchitecture:
    """Gemma-4 text. Global layers have their own head size and, with ``attention_k_eq_v``, keys as values.

    Layers with experts run them beside the dense MLP: three more norms, a scale of d and one per expert in the
    router. With ``hidden_size_per_layer_input`` every layer reads its own slice of a second embedding.
    """
    d, vocab, depth = cfg.size("hidden_size"), cfg.size("vocab_size"), cfg.layers()
    f, heads = cfg.size("intermediate_size"), cfg.size("num_attention_heads")
    window = cfg.size("sliding_window", default=512)
    bias, keys_as_values = cfg.flag("attention_bias"), cfg.flag("attention_k_eq_v")
    activation = cfg.text("hidden_activation", default="gelu_pytorch_tanh")
    local = GroupedQueryAttention(
        num_attention_heads=heads,
        num_key_value_heads=cfg.size("num_key_value_heads", default=heads),
        head_dim=cfg.size("head_dim", default=256),
        window=window,
        qk_norm="head",
    )
    everywhere = _global_attention(cfg, local, keys_as_values)
    full = (*_is_full(cfg, 6)[:-1], True)
    first_sharing = depth - cfg.size("num_kv_shared_layers", default=0, least=0, most=depth)
    per_layer = cfg.size("hidden_size_per_layer_input", default=0, least=0)
    moe, expert_linears, router_params = _gemma4_experts(cfg, d, activation)

    def layer(index: int) -> LayerGroup:
        shares = index >= first_sharing
        attention = replace(everywhere if full[index] else local, shares_kv_with_earlier_layer=shares)
        width = 2 * f if shares and cfg.flag("use_double_wide_mlp") else f
        linears = _attention_linears(d, attention, values=not (full[index] and keys_as_values), bias=bias)
        linears += blocks.gated_mlp(d, width) + expert_linears
        norms = 4 + (3 if moe else 0) + (1 if per_layer else 0)
        if per_layer:
            linears += (
                _other("per_layer_input_gate", d, per_layer),
                _other("per_layer_projection", per_layer, d),
            )
        dense = blocks.dense(width, gated=True, activation=activation)
        return LayerGroup(
            count=1,
            mixer=attention,
            mlp=replace(moe, dense_intermediate_size=width) if moe else dense,
            linears=linears,
            num_norms=norms,
            other_params=norms * d + _qk_norm_params(attention) + router_params,
        )

    second_embedding = cfg.size("vocab_size_per_layer_input", default=vocab) * depth * per_layer
    projection = d * depth * per_layer + per_layer
    return assemble(
        model_type=cfg.model_type,
        hidden_size=d,
        vocab_size=vocab,
        tie_word_embeddings=cfg.flag("tie_word_embeddings", default=True),
        norm="rmsnorm",
        max_position_embeddings=max_positions(cfg),
        groups=blocks.merge_layers(layer(index) for index in range(depth)),
        embedding_params=vocab * d + second_embedding,
        other_params=d + projection,
        scale_embeddings=True,
        logit_softcap=cfg.number("final_logit_softcapping"),
    )


def _global_attention(
    cfg: ConfigReader, local: GroupedQueryAttention, keys_as_values: bool
) -> GroupedQueryAttention:
    """Published configs write ``global_head_dim``; transformers 5 saves the same as ``per_layer_config``."""
    head_dim = cfg.size("global_head_dim", default=512)
    kv_heads = local.num_key_value_heads
    if keys_as_values:
        kv_heads = cfg.size("num_global_key_value_heads", default=kv_heads)
    overrides = cfg.raw("per_layer_config")
    if isinstance(overrides, Mapping) and overrides:
        first = next(iter(overrides.values()))
        if not isinstance(first, Mapping) or any(other != first for other in overrides.values()):
            raise cfg.refuse("this per_layer_config")
        reader = ConfigReader(first)
        head_dim = reader.size("head_dim", default=head_dim)
        kv_heads = reader.size("num_key_value_heads", default=kv_heads)
    return replace(local, window=None, head_dim=head_dim, num_key_value_heads=kv_heads)


def _gemma4_experts(cfg: ConfigReader, d: int, activation: str) -> tuple[MoeMlp | None, tuple[Linear, ...], int]:
    """The experts, their matrices, and the router's scales."""
    if not cfg.flag("enable_moe_block"):
        return None, (), 0
    experts = cfg.size("num_experts")
    moe = MoeMlp(
        num_experts=experts,
        num_experts_per_tok=cfg.size("top_k_experts", "num_experts_per_tok", most=experts),
        moe_intermediate_size=cfg.size("moe_intermediate_size"),
        activation=activation,
    )
    router = blocks.router(d, experts, name="proj", is_module=True)
    return moe, (router, *blocks.fused_experts(d, moe)), d + experts


def gemma3n(cfg: ConfigReader) -> ModelArchitecture:
    """Gemma-3n text: four residual streams (AltUp), low-rank side paths (LAuReL), per-layer embeddings.

    The streams multiply activations in a way the formulas do not follow, so training is refused.
    """
    d, vocab, depth = cfg.size("hidden_size"), cfg.size("vocab_size"), cfg.layers()
    heads, streams = cfg.size("num_attention_heads"), cfg.size("altup_num_inputs", default=4)
    rank, per_layer = cfg.size("laurel_rank", default=64), cfg.size("hidden_size_per_layer_input", default=256)
    window = cfg.size("sliding_window", default=512)
    full = _is_full(cfg, 5)
    first_sharing = depth - cfg.size("num_kv_shared_layers", default=15, least=0, most=depth)
    listed = cfg.raw("intermediate_size")
    one_width = not isinstance(listed, list | tuple)
    widths = (cfg.size("intermediate_size"),) * depth if one_width else cfg.sizes("intermediate_size") or ()
    if len(widths) < depth or not all(widths):
        raise RequestError("intermediate_size in config.json does not name a width for every layer")
    activation = cfg.text("hidden_activation", default="gelu_pytorch_tanh")

    def layer(index: int) -> LayerGroup:
        attention = GroupedQueryAttention(
            num_attention_heads=heads,
            num_key_value_heads=cfg.size("num_key_value_heads", default=heads),
            head_dim=cfg.size("head_dim", default=256),
            window=None if full[index] else window,
            qk_norm="head",
            shares_kv_with_earlier_layer=index >= first_sharing,
        )
        side_paths = (
            _other("correction_coefs", streams, streams),
            _other("prediction_coefs", streams, streams**2),
            _other("modality_router", d, streams),
            _other("linear_left", d, rank),
            _other("linear_right", rank, d),
            _other("per_layer_input_gate", d, per_layer),
            _other("per_layer_projection", per_layer, d),
        )
        norms = 7
        return LayerGroup(
            count=1,
            mixer=attention,
            mlp=blocks.dense(widths[index], gated=True, activation=activation),
            linears=_attention_linears(d, attention, values=True, bias=cfg.flag("attention_bias"))
            + blocks.gated_mlp(d, widths[index])
            + side_paths,
            num_norms=norms,
            other_params=norms * d + d + _qk_norm_params(attention),
        )

    second_embedding = cfg.size("vocab_size_per_layer_input", default=vocab) * depth * per_layer
    architecture = assemble(
        model_type=cfg.model_type,
        hidden_size=d,
        vocab_size=vocab,
        tie_word_embeddings=cfg.flag("tie_word_embeddings", default=True),
        norm="rmsnorm",
        max_position_embeddings=max_positions(cfg),
        groups=blocks.merge_layers(layer(index) for index in range(depth)),
        embedding_params=vocab * d + second_embedding,
        other_params=d + d * depth * per_layer + per_layer + 2 * (streams - 1) * d * d,
        scale_embeddings=True,
        logit_softcap=cfg.number("final_logit_softcapping"),
    )
    return replace(architecture, unmodelled=("activations",))
