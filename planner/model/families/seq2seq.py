"""Encoder-decoder models: the T5 and BART families.

Letters: d hidden size, P = num_heads * d_kv (T5's may differ from d), f MLP width.
"""

from __future__ import annotations

from dataclasses import replace

from planner.model import blocks
from planner.model.architecture import GroupedQueryAttention, LayerGroup, ModelArchitecture
from planner.model.config_reader import ConfigReader
from planner.model.params import assemble


def t5(cfg: ConfigReader) -> ModelArchitecture:
    """T5, FLAN-T5, mT5: no biases, RMSNorm, one relative-bias table of buckets x heads per stack.

    The gated variants (v1.1, FLAN, mT5) keep a head of their own; transformers 5 writes
    ``tie_word_embeddings: true`` into their configs all the same, so the gate decides.
    """
    d, f, heads = cfg.size("d_model", "hidden_size"), cfg.size("d_ff", "intermediate_size"), _heads(cfg)
    vocab = cfg.size("vocab_size")
    projection = cfg.text("feed_forward_proj", default="relu")
    gated = projection.startswith("gated")
    attention = GroupedQueryAttention(
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=cfg.size("d_kv", "head_dim", default=max(d // heads, 1)),
        rotary=False,
    )
    names = ("q", "k", "v", "o")
    self_attention = blocks.separate_qkv(d, attention, names=names)
    cross_attention = blocks.separate_qkv(d, attention, names=names, role="cross")
    mlp = (
        blocks.gated_mlp(d, f, names=("wi_0", "wi_1", "wo"))
        if gated
        else blocks.plain_mlp(d, f, names=("wi", "wo"))
    )
    # T5PreTrainedModel._keep_in_fp32_modules, which bitsandbytes leaves alone: transformers, modeling_t5.py
    mlp = tuple(replace(linear, keeps_precision=linear.name == "wo") for linear in mlp)
    activation = projection.removeprefix("gated-")
    if projection == "gated-gelu":
        activation = "gelu_new"  # T5Config takes it so, for the checkpoints of T5 1.1
    dense = blocks.dense(f, gated=gated, activation=activation)
    encoder = LayerGroup(
        count=cfg.layers("num_layers", "num_hidden_layers"),
        stack="encoder",
        mixer=attention,
        mlp=dense,
        linears=self_attention + mlp,
        num_norms=2,
        other_params=2 * d,
    )
    decoder = LayerGroup(
        count=cfg.layers("num_decoder_layers", "num_layers", "num_hidden_layers"),
        mixer=attention,
        cross_attention=attention,
        mlp=dense,
        linears=self_attention + cross_attention + mlp,
        num_norms=3,
        other_params=3 * d,
    )
    buckets = cfg.size("relative_attention_num_buckets", default=32)
    return assemble(
        model_type=cfg.model_type,
        kind="encoder-decoder",
        hidden_size=d,
        vocab_size=vocab,
        tie_word_embeddings=not gated and cfg.flag("tie_word_embeddings", default=True),
        norm="rmsnorm",
        max_position_embeddings=None,
        groups=(encoder, decoder),
        embedding_params=vocab * d,
        other_params=2 * buckets * heads + 2 * d,
    )


def _heads(cfg: ConfigReader) -> int:
    return cfg.size("num_heads", "num_attention_heads")


def bart(cfg: ConfigReader) -> ModelArchitecture:
    """BART: LayerNorm after each block, learned positions with two spare rows in both stacks."""
    positions = 2 * (cfg.size("max_position_embeddings") + 2)
    return _bart_like(cfg, position_rows=positions, embedding_norms=2, final_norms=0)


def mbart(cfg: ConfigReader) -> ModelArchitecture:
    """mBART: BART with a final norm in both stacks."""
    positions = 2 * (cfg.size("max_position_embeddings") + 2)
    return _bart_like(cfg, position_rows=positions, embedding_norms=2, final_norms=2)


def _bart_like(
    cfg: ConfigReader, *, position_rows: int, embedding_norms: int, final_norms: int
) -> ModelArchitecture:
    d, vocab = cfg.size("d_model", "hidden_size"), cfg.size("vocab_size")
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    activation = cfg.text("activation_function", default="gelu")

    def attention(key: str) -> GroupedQueryAttention:
        heads = cfg.size(key)
        return GroupedQueryAttention(
            num_attention_heads=heads, num_key_value_heads=heads, head_dim=max(d // heads, 1), rotary=False
        )

    encoder_attention, decoder_attention = (
        attention("encoder_attention_heads"),
        attention("decoder_attention_heads"),
    )
    encoder_f, decoder_f = cfg.size("encoder_ffn_dim"), cfg.size("decoder_ffn_dim")
    encoder = LayerGroup(
        count=cfg.layers("encoder_layers"),
        stack="encoder",
        mixer=encoder_attention,
        mlp=blocks.dense(encoder_f, gated=False, activation=activation),
        linears=blocks.separate_qkv(d, encoder_attention, qkv_bias=True, o_bias=True, names=names)
        + blocks.plain_mlp(d, encoder_f, bias=True, names=("fc1", "fc2")),
        num_norms=2,
        other_params=4 * d,
    )
    decoder = LayerGroup(
        count=cfg.layers("decoder_layers"),
        mixer=decoder_attention,
        cross_attention=decoder_attention,
        mlp=blocks.dense(decoder_f, gated=False, activation=activation),
        linears=blocks.separate_qkv(d, decoder_attention, qkv_bias=True, o_bias=True, names=names)
        + blocks.separate_qkv(d, decoder_attention, qkv_bias=True, o_bias=True, names=names, role="cross")
        + blocks.plain_mlp(d, decoder_f, bias=True, names=("fc1", "fc2")),
        num_norms=3,
        other_params=6 * d,
    )
    return assemble(
        model_type=cfg.model_type,
        kind="encoder-decoder",
        hidden_size=d,
        vocab_size=vocab,
        tie_word_embeddings=cfg.flag("tie_word_embeddings", default=True),
        norm="layernorm",
        max_position_embeddings=cfg.size("max_position_embeddings"),
        groups=(encoder, decoder),
        embedding_params=(vocab + position_rows) * d + embedding_norms * 2 * d,
        other_params=final_norms * 2 * d,
        scale_embeddings=cfg.flag("scale_embedding"),
    )
