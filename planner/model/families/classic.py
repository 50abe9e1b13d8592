"""Decoders before Llama: GPT-2 and its relatives, with LayerNorm and MLPs without a gate."""

from __future__ import annotations

from dataclasses import replace

from planner.model.architecture import ModelArchitecture
from planner.model.config_reader import ConfigReader
from planner.model.families.decoder import Traits, build

_GPT2 = Traits(
    qkv_bias=True,
    o_bias=True,
    mlp_bias=True,
    norm="layernorm",
    gated=False,
    fused_qkv_names=("c_attn", "c_proj"),
    plain_mlp_names=("c_fc", "c_proj"),
    activation="gelu_new",
    tie_default=True,
    rotary=lambda index: False,
)


def _inner(cfg: ConfigReader, *keys: str) -> int:
    """MLP width, four times the hidden size where the config leaves it out."""
    return cfg.size(*keys, default=4 * cfg.size("hidden_size", "n_embd", "d_model"))


def gpt2(cfg: ConfigReader) -> ModelArchitecture:
    """GPT-2: learned positions, ``Conv1D`` projections."""
    if cfg.flag("add_cross_attention"):
        raise cfg.refuse("GPT-2 with cross attention")
    traits = replace(
        _GPT2,
        intermediate_size=_inner(cfg, "n_inner", "intermediate_size"),
        position_rows=cfg.size("n_positions", "max_position_embeddings"),
        activation=cfg.text("activation_function", default="gelu_new"),
    )
    return build(cfg, traits)


def gpt_bigcode(cfg: ConfigReader) -> ModelArchitecture:
    """SantaCoder and StarCoder: GPT-2 with one key/value head."""
    heads = cfg.size("n_head", "num_attention_heads")
    traits = replace(
        _GPT2,
        intermediate_size=_inner(cfg, "n_inner", "intermediate_size"),
        position_rows=cfg.size("n_positions", "max_position_embeddings"),
        num_key_value_heads=1 if cfg.flag("multi_query", default=True) else heads,
        activation=cfg.text("activation_function", default="gelu_pytorch_tanh"),
    )
    return build(cfg, traits)


def gpt_neox(cfg: ConfigReader) -> ModelArchitecture:
    """GPT-NeoX, Pythia, Dolly and StableLM-alpha."""
    bias = cfg.flag("attention_bias", default=True)
    traits = Traits(
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=True,
        norm="layernorm",
        gated=False,
        fused_qkv_names=("query_key_value", "dense"),
        plain_mlp_names=("dense_h_to_4h", "dense_4h_to_h"),
        activation=cfg.text("hidden_act", default="gelu"),
        parallel_blocks=cfg.flag("use_parallel_residual", default=True),
    )
    return build(cfg, traits)


def gptj(cfg: ConfigReader) -> ModelArchitecture:
    """GPT-J: one norm for attention and MLP side by side, no attention biases, a head with bias."""
    traits = Traits(
        mlp_bias=True,
        norm="layernorm",
        num_norms=1,
        gated=False,
        qkv_names=("q_proj", "k_proj", "v_proj", "out_proj"),
        plain_mlp_names=("fc_in", "fc_out"),
        intermediate_size=_inner(cfg, "n_inner", "intermediate_size"),
        activation=cfg.text("activation_function", default="gelu_new"),
        lm_head_bias=True,
        parallel_blocks=True,
    )
    return build(cfg, traits)


def gpt_neo(cfg: ConfigReader) -> ModelArchitecture:
    """GPT-Neo: full and windowed layers alternate, only the output projection has a bias."""
    window = cfg.size("window_size", default=256)
    kinds = cfg.texts("attention_layers")
    local = [kind == "local" for kind in kinds] if kinds else None
    traits = replace(
        _GPT2,
        qkv_bias=False,
        fused_qkv_names=None,
        qkv_names=("q_proj", "k_proj", "v_proj", "out_proj"),
        intermediate_size=_inner(cfg, "intermediate_size"),
        position_rows=cfg.size("max_position_embeddings"),
        window=lambda index: window if (local[index % len(local)] if local else index % 2) else None,
        activation=cfg.text("activation_function", default="gelu_new"),
    )
    return build(cfg, traits)


def opt(cfg: ConfigReader) -> ModelArchitecture:
    """OPT: two spare position rows; the 350M embeds in a narrower space and has no final norm."""
    d = cfg.size("hidden_size")
    bias = cfg.flag("enable_bias", default=True)
    pre_norm = cfg.flag("do_layer_norm_before", default=True)
    traits = replace(
        _GPT2,
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        fused_qkv_names=None,
        qkv_names=("q_proj", "k_proj", "v_proj", "out_proj"),
        plain_mlp_names=("fc1", "fc2"),
        intermediate_size=cfg.size("ffn_dim", "intermediate_size"),
        position_rows=cfg.size("max_position_embeddings") + 2,
        activation=cfg.text("activation_function", default="relu"),
        final_norm=pre_norm and not cfg.flag("_remove_final_layer_norm"),
    )
    architecture = build(cfg, traits)
    width = cfg.size("word_embed_proj_dim", default=d)
    if width == d:
        return architecture
    if not architecture.tie_word_embeddings:
        raise cfg.refuse("OPT with a narrow embedding and an untied head")
    difference = 2 * d * width - architecture.vocab_size * (d - width)
    return replace(
        architecture,
        embedding_params=architecture.embedding_params + difference,
        params_total=architecture.params_total + difference,
        params_active=architecture.params_active + difference,
    )


def bloom(cfg: ConfigReader) -> ModelArchitecture:
    """BLOOM: ALiBi instead of positions, a norm on the embedding."""
    traits = replace(
        _GPT2,
        fused_qkv_names=("query_key_value", "dense"),
        plain_mlp_names=("dense_h_to_4h", "dense_4h_to_h"),
        intermediate_size=_inner(cfg, "n_inner", "intermediate_size"),
        embedding_norm=True,
        activation="bloom_gelu",
    )
    return build(cfg, traits)


def mpt(cfg: ConfigReader) -> ModelArchitecture:
    """MPT: ALiBi, no biases, LayerNorm weights only."""
    if not cfg.flag("no_bias", default=True):
        raise cfg.refuse("MPT with biases")
    d = cfg.size("d_model", "hidden_size")
    traits = replace(
        _GPT2,
        qkv_bias=False,
        o_bias=False,
        mlp_bias=False,
        norm="layernorm-no-bias",
        fused_qkv_names=("Wqkv", "out_proj"),
        plain_mlp_names=("up_proj", "down_proj"),
        intermediate_size=d * cfg.size("expansion_ratio", default=4),
        activation="gelu",
    )
    return build(cfg, traits)


def falcon(cfg: ConfigReader) -> ModelArchitecture:
    """Falcon: multi-query (7B), grouped-query with two norms (40B, 180B), or ALiBi and biases (RW).

    The first checkpoints call themselves RefinedWeb and write ``n_head_kv``.
    """
    d = cfg.size("hidden_size")
    heads = cfg.size("num_attention_heads", "n_head")
    new = cfg.flag("new_decoder_architecture", default=cfg.model_type == "RefinedWeb")
    multi_query = cfg.flag("multi_query", default=True)
    parallel = cfg.flag("parallel_attn", default=True)
    kv_heads = cfg.size("num_kv_heads", "n_head_kv", default=heads) if new else 1 if multi_query else heads
    parallel_norms = cfg.size("num_ln_in_parallel_attn", default=2 if new else 1, most=2)
    bias = cfg.flag("bias")
    traits = replace(
        _GPT2,
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        num_norms=parallel_norms if new or parallel else 2,
        fused_qkv_names=("query_key_value", "dense"),
        plain_mlp_names=("dense_h_to_4h", "dense_4h_to_h"),
        num_key_value_heads=kv_heads,
        intermediate_size=cfg.size("ffn_hidden_size", default=4 * d),
        activation=cfg.text("activation", default="gelu"),
        rotary=lambda index: not cfg.flag("alibi"),
        parallel_blocks=parallel,
    )
    return build(cfg, traits)


def phi(cfg: ConfigReader) -> ModelArchitecture:
    """Phi-1, 1.5 and 2: one norm for attention and MLP side by side, biases everywhere, also on the head."""
    if cfg.flag("qk_layernorm"):
        raise cfg.refuse("Phi with q/k norms")
    traits = Traits(
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        norm="layernorm",
        num_norms=1,
        gated=False,
        qkv_names=("q_proj", "k_proj", "v_proj", "dense"),
        activation=cfg.text("hidden_act", default="gelu_new"),
        lm_head_bias=True,
        parallel_blocks=True,
    )
    return build(cfg, traits)
