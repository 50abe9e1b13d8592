"""DeepSeek-V4: one shared key/value head, compressed caches, hyper-connections.

Its parameters are exact; its cache (a window of raw entries beside entries compressed 4 or 128 times) and the four
residual streams are not expressed by the layer groups, so serving and training are refused.
"""

from __future__ import annotations

from dataclasses import replace

from planner.model import blocks
from planner.model.architecture import GroupedQueryAttention, LayerGroup, Linear, ModelArchitecture
from planner.model.config_reader import ConfigReader
from planner.model.families.decoder import MoeTraits, max_positions, moe_linears
from planner.model.families.experts import moe_of
from planner.model.params import assemble

_RATIOS = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}


def deepseek_v4(cfg: ConfigReader) -> ModelArchitecture:
    d, vocab, depth = cfg.size("hidden_size"), cfg.size("vocab_size"), cfg.layers()
    heads, width = cfg.size("num_attention_heads"), cfg.size("head_dim")
    rank, out_rank, out_groups = cfg.size("q_lora_rank"), cfg.size("o_lora_rank"), cfg.size("o_groups")
    streams = cfg.size("hc_mult", default=4)
    attention = GroupedQueryAttention(
        num_attention_heads=heads,
        num_key_value_heads=1,
        head_dim=width,
        window=cfg.size("sliding_window", default=128),
    )
    projections = (
        _linear("q_a_proj", d, rank),
        _linear("q_b_proj", rank, heads * width),
        _linear("kv_proj", d, width),
        _linear("o_a_proj", heads * width // out_groups, out_groups * out_rank),
        _linear("o_b_proj", out_groups * out_rank, d),
    )
    expert_width = cfg.size("moe_intermediate_size")
    moe = MoeTraits(mlp=moe_of(cfg, shared=expert_width * cfg.size("n_shared_experts", default=1, least=0)))
    mixing = streams * 2 + streams**2
    hyper_connections = 2 * (mixing * streams * d + mixing + 3)

    def layer(kind: str) -> LayerGroup:
        linears, compressor = _compressor(cfg, kind, d, width, rank)
        return LayerGroup(
            count=1,
            mixer=attention,
            mlp=moe.mlp,
            linears=projections + linears + moe_linears(d, moe),
            num_norms=2,
            other_params=2 * d + heads + rank + width + compressor + hyper_connections,
        )

    kinds = _layer_kinds(cfg, depth)
    architecture = assemble(
        model_type=cfg.model_type,
        hidden_size=d,
        vocab_size=vocab,
        tie_word_embeddings=cfg.flag("tie_word_embeddings"),
        norm="rmsnorm",
        max_position_embeddings=max_positions(cfg),
        groups=blocks.merge_layers(layer(kind) for kind in kinds),
        embedding_params=vocab * d,
        other_params=d + streams * streams * d + streams + 1,
    )
    return replace(architecture, unmodelled=("kv_cache", "activations"))


def _linear(name: str, in_features: int, out_features: int) -> Linear:
    return Linear(name=name, in_features=in_features, out_features=out_features, role="attention")


def _layer_kinds(cfg: ConfigReader, depth: int) -> tuple[str, ...]:
    kinds = cfg.texts("layer_types")
    if kinds is None:
        ratios = cfg.sizes("compress_ratios")
        if ratios is None:
            raise cfg.refuse("a DeepSeek-V4 config without compress_ratios or layer_types")
        kinds = tuple(_RATIOS.get(ratio, "") for ratio in ratios)
    if len(kinds) < depth or set(kinds) - set(_RATIOS.values()):
        raise cfg.refuse("this mix of attention layers")
    return kinds[:depth]


def _compressor(cfg: ConfigReader, kind: str, d: int, width: int, rank: int) -> tuple[tuple[Linear, ...], int]:
    """Matrices of the cache compressor of one layer, and its position biases and norms."""
    if kind == "sliding_attention":
        return (), 0
    if kind == "heavily_compressed_attention":
        return (_linear("kv_proj", d, width), _linear("gate_proj", d, width)), 128 * width + width
    index_heads, index_width = cfg.size("index_n_heads"), cfg.size("index_head_dim")
    linears = (
        _linear("kv_proj", d, 2 * width),
        _linear("gate_proj", d, 2 * width),
        _linear("kv_proj", d, 2 * index_width),
        _linear("gate_proj", d, 2 * index_width),
        _linear("q_b_proj", rank, index_heads * index_width),
        _linear("weights_proj", d, index_heads),
    )
    return linears, 4 * 2 * width + width + 4 * 2 * index_width + index_width
