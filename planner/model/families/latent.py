"""Multi-head latent attention: DeepSeek-V2, V3, V3.2, Kimi-K2, GLM-4.7-Flash, GLM-5, Mistral-4.

Letters: d hidden size, r q_lora_rank, c kv_lora_rank, H heads. Attention per layer:
d r + r + r H (nope + rope)  [d H (nope + rope) without q_lora_rank]  + d (c + rope) + c + c H (nope + v) + H v d.
"""

from __future__ import annotations

from planner.model import blocks
from planner.model.architecture import LatentAttention, LayerGroup, Linear, ModelArchitecture
from planner.model.config_reader import ConfigReader
from planner.model.families.decoder import MoeTraits, max_positions, moe_linears
from planner.model.families.experts import moe_of, sparse_layers
from planner.model.params import assemble


def latent(cfg: ConfigReader) -> ModelArchitecture:
    d, vocab = cfg.size("hidden_size"), cfg.size("vocab_size")
    attention = attention_of(cfg)
    linears, attention_norms = attention_linears(d, attention, bias=cfg.flag("attention_bias"))
    kinds = cfg.texts("layer_types") or ()
    if set(kinds) - {"full_attention", "indexed_attention"}:
        raise cfg.refuse("this mix of layer_types")
    activation = cfg.text("hidden_act", default="silu")
    f = cfg.size("intermediate_size")
    dense = blocks.dense(f, gated=True, activation=activation)
    moe = moe_traits(cfg, activation)

    def layer(index: int) -> LayerGroup:
        sparse = moe is not None and moe.sparse_layer(index)
        return LayerGroup(
            count=1,
            mixer=attention,
            mlp=moe.mlp if moe is not None and sparse else dense,
            linears=linears + (moe_linears(d, moe) if moe is not None and sparse else blocks.gated_mlp(d, f)),
            num_norms=2,
            other_params=2 * d + attention_norms,
        )

    return assemble(
        model_type=cfg.model_type,
        hidden_size=d,
        vocab_size=vocab,
        tie_word_embeddings=cfg.flag("tie_word_embeddings"),
        norm="rmsnorm",
        max_position_embeddings=max_positions(cfg),
        groups=blocks.merge_layers(layer(index) for index in range(cfg.layers())),
        embedding_params=vocab * d,
        other_params=d,
    )


def moe_traits(cfg: ConfigReader, activation: str) -> MoeTraits | None:
    """Routed and shared experts; None where the config has no experts (MiniCPM-3)."""
    if not cfg.has("n_routed_experts"):
        return None
    width = cfg.size("moe_intermediate_size")
    shared = width * cfg.size("n_shared_experts", default=0, least=0)
    return MoeTraits(mlp=moe_of(cfg, shared=shared, activation=activation), sparse_layer=sparse_layers(cfg))


def attention_of(cfg: ConfigReader) -> LatentAttention:
    return LatentAttention(
        num_attention_heads=cfg.size("num_attention_heads"),
        q_lora_rank=cfg.size("q_lora_rank") if cfg.has("q_lora_rank") else None,
        kv_lora_rank=cfg.size("kv_lora_rank"),
        qk_nope_head_dim=cfg.size("qk_nope_head_dim"),
        qk_rope_head_dim=cfg.size("qk_rope_head_dim"),
        v_head_dim=cfg.size("v_head_dim"),
        indexer_heads=cfg.size("index_n_heads", default=0, least=0),
        indexer_head_dim=cfg.size("index_head_dim", default=0, least=0),
    )


def attention_linears(d: int, attention: LatentAttention, *, bias: bool) -> tuple[tuple[Linear, ...], int]:
    """The projections of one layer and the parameters of the norms between them."""
    heads, rank = attention.num_attention_heads, attention.q_lora_rank
    query = heads * (attention.qk_nope_head_dim + attention.qk_rope_head_dim)
    c, rope = attention.kv_lora_rank, attention.qk_rope_head_dim
    expanded = heads * (attention.qk_nope_head_dim + attention.v_head_dim)

    def linear(name: str, in_features: int, out_features: int, with_bias: bool = False) -> Linear:
        return Linear(
            name=name, in_features=in_features, out_features=out_features, bias=with_bias, role="attention"
        )

    linears = [linear("q_proj", d, query)]
    norms = c
    if rank is not None:
        linears = [linear("q_a_proj", d, rank, bias), linear("q_b_proj", rank, query)]
        norms += rank
    linears += [
        linear("kv_a_proj_with_mqa", d, c + rope, bias),
        linear("kv_b_proj", c, expanded),
        linear("o_proj", heads * attention.v_head_dim, d, bias),
    ]
    if attention.indexer_heads:
        width = attention.indexer_head_dim
        linears += [
            linear("wq_b", rank or d, attention.indexer_heads * width),
            linear("wk", d, width),
            linear("weights_proj", d, attention.indexer_heads),
        ]
        norms += 2 * width
    return tuple(linears), norms
