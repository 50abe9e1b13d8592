"""Encoders: BERT and its relatives. The description is the bare model with its pooler, without a task head."""

from __future__ import annotations

from planner.model import blocks
from planner.model.architecture import GroupedQueryAttention, LayerGroup, Linear, ModelArchitecture
from planner.model.config_reader import ConfigReader
from planner.model.families.decoder import head_dim_of, window_from_layer_types
from planner.model.params import assemble


def bert(cfg: ConfigReader) -> ModelArchitecture:
    """BERT, RoBERTa, XLM-RoBERTa: type embeddings, a norm on the embedding, a pooler of d x d."""
    d = cfg.size("hidden_size")
    types = cfg.size("type_vocab_size", default=2, least=0)
    return _post_norm_encoder(
        cfg,
        d=d,
        heads=cfg.size("num_attention_heads"),
        f=cfg.size("intermediate_size"),
        attention_names=("query", "key", "value", "dense"),
        mlp_names=("dense", "dense"),
        activation=cfg.text("hidden_act", default="gelu"),
        extra_embedding_rows=types,
        pooler_params=d * d + d,
    )


def distilbert(cfg: ConfigReader) -> ModelArchitecture:
    """DistilBERT: no type embeddings and no pooler."""
    return _post_norm_encoder(
        cfg,
        d=cfg.size("dim", "hidden_size"),
        heads=cfg.size("n_heads", "num_attention_heads"),
        f=cfg.size("hidden_dim", "intermediate_size"),
        attention_names=("q_lin", "k_lin", "v_lin", "out_lin"),
        mlp_names=("lin1", "lin2"),
        activation=cfg.text("activation", default="gelu"),
        extra_embedding_rows=0,
        pooler_params=0,
    )


def _post_norm_encoder(
    cfg: ConfigReader,
    *,
    d: int,
    heads: int,
    f: int,
    attention_names: tuple[str, str, str, str],
    mlp_names: tuple[str, str],
    activation: str,
    extra_embedding_rows: int,
    pooler_params: int,
) -> ModelArchitecture:
    if cfg.flag("is_decoder") or cfg.flag("add_cross_attention"):
        raise cfg.refuse("an encoder used as decoder")
    vocab = cfg.size("vocab_size")
    positions = cfg.size("max_position_embeddings")
    attention = GroupedQueryAttention(
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_dim_of(cfg, d, heads),
        rotary=False,
    )
    layer = LayerGroup(
        count=cfg.layers(),
        stack="encoder",
        mixer=attention,
        mlp=blocks.dense(f, gated=False, activation=activation),
        linears=blocks.separate_qkv(d, attention, qkv_bias=True, o_bias=True, names=attention_names)
        + blocks.plain_mlp(d, f, bias=True, names=mlp_names),
        num_norms=2,
        other_params=4 * d,
    )
    return assemble(
        model_type=cfg.model_type,
        kind="encoder",
        hidden_size=d,
        vocab_size=vocab,
        tie_word_embeddings=True,
        has_lm_head=False,
        norm="layernorm",
        max_position_embeddings=positions,
        groups=(layer,),
        embedding_params=(vocab + positions + extra_embedding_rows) * d + 2 * d,
        other_params=pooler_params,
    )


def modernbert(cfg: ConfigReader) -> ModelArchitecture:
    """ModernBERT with its masked-language head (d x d, a norm, a bias over the tied vocabulary).

    The first layer has no norm before attention; every third layer is full, the others see ``local_attention``
    tokens, half to each side.
    """
    d, vocab, f = cfg.size("hidden_size"), cfg.size("vocab_size"), cfg.size("intermediate_size")
    heads = cfg.size("num_attention_heads")
    norm: blocks.Norm = "layernorm" if cfg.flag("norm_bias") else "layernorm-no-bias"
    attention_bias, mlp_bias = cfg.flag("attention_bias"), cfg.flag("mlp_bias")
    window = cfg.size("local_attention", default=128)
    every = cfg.size("global_attn_every_n_layers", default=3)
    kinds = cfg.texts("layer_types")
    windows = (
        window_from_layer_types(cfg, kinds, window)
        if kinds
        else lambda index: None if index % every == 0 else window
    )

    def layer(index: int) -> LayerGroup:
        attention = GroupedQueryAttention(
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=head_dim_of(cfg, d, heads),
            window=windows(index),
        )
        norms = 1 if index == 0 else 2
        return LayerGroup(
            count=1,
            stack="encoder",
            mixer=attention,
            mlp=blocks.dense(f, gated=True, activation=cfg.text("hidden_activation", default="gelu")),
            linears=blocks.fused_qkv(
                d, attention, qkv_bias=attention_bias, o_bias=attention_bias, names=("Wqkv", "Wo")
            )
            + blocks.fused_gated_mlp(d, f, bias=mlp_bias, names=("Wi", "Wo")),
            num_norms=norms,
            other_params=norms * blocks.norm_params(norm, d),
        )

    head = Linear(
        name="dense", in_features=d, out_features=d, bias=cfg.flag("classifier_bias"), role="other"
    ).num_params
    return assemble(
        model_type=cfg.model_type,
        kind="encoder",
        hidden_size=d,
        vocab_size=vocab,
        tie_word_embeddings=cfg.flag("tie_word_embeddings", default=True),
        lm_head_bias=cfg.flag("decoder_bias", default=True),
        norm=norm,
        max_position_embeddings=cfg.size("max_position_embeddings"),
        groups=blocks.merge_layers(layer(index) for index in range(cfg.layers())),
        embedding_params=vocab * d + blocks.norm_params(norm, d),
        other_params=2 * blocks.norm_params(norm, d) + head,
    )
