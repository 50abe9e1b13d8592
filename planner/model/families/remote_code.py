"""Families published with their own code: module names are those of that code, as peft sees them.

Sources: the modelling files in the repositories Qwen/Qwen-7B, baichuan-inc/Baichuan2-7B-Base, THUDM/chatglm3-6b,
internlm/internlm-7b, internlm/internlm2-7b and microsoft/Phi-3-small-8k-instruct on https://huggingface.co.
"""

from __future__ import annotations

from planner.errors import RequestError
from planner.model.architecture import ModelArchitecture
from planner.model.config_reader import ConfigReader
from planner.model.families.decoder import Traits, build


def qwen(cfg: ConfigReader) -> ModelArchitecture:
    """Qwen (2023): the config counts the MLP twice (w1 and w2 together), only ``c_attn`` has a bias."""
    width = cfg.size("intermediate_size")
    if width % 2:
        raise RequestError(f"intermediate_size {width} in config.json is not even, as Qwen's is")
    bias = not cfg.flag("no_bias", default=True)
    traits = Traits(
        qkv_bias=True,
        o_bias=bias,
        mlp_bias=bias,
        fused_qkv_names=("c_attn", "c_proj"),
        mlp_names=("w2", "w1", "c_proj"),
        intermediate_size=width // 2,
    )
    return build(cfg, traits)


def baichuan(cfg: ConfigReader) -> ModelArchitecture:
    """Baichuan: one matrix for q, k and v; the 13B has ALiBi instead of rotary positions."""
    rotary = not cfg.has("model_max_length") or cfg.size("hidden_size") < 5120
    return build(cfg, Traits(fused_qkv_names=("W_pack", "o_proj"), rotary=lambda index: rotary))


def chatglm(cfg: ConfigReader) -> ModelArchitecture:
    """ChatGLM2 and 3, GLM-4 with its own code: grouped queries, one matrix for gate and up."""
    if not cfg.has("ffn_hidden_size"):
        raise cfg.refuse("the first ChatGLM-6B")
    if not cfg.flag("rmsnorm", default=True):
        raise cfg.refuse("ChatGLM with LayerNorm")
    heads = cfg.size("num_attention_heads")
    grouped = cfg.flag("multi_query_attention")
    bias = cfg.flag("add_bias_linear")
    values = {**cfg.values, "head_dim": cfg.size("kv_channels", default=128)}
    traits = Traits(
        qkv_bias=bias or cfg.flag("add_qkv_bias"),
        o_bias=bias,
        mlp_bias=bias,
        fused_qkv_names=("query_key_value", "dense"),
        fused_mlp_names=("dense_h_to_4h", "dense_4h_to_h"),
        intermediate_size=cfg.size("ffn_hidden_size"),
        num_key_value_heads=cfg.size("multi_query_group_num") if grouped else heads,
    )
    values["vocab_size"] = cfg.size("padded_vocab_size", "vocab_size")
    return build(ConfigReader(values), traits)


def internlm(cfg: ConfigReader) -> ModelArchitecture:
    """InternLM (2023): the 7B has a bias on q, k, v and o."""
    bias = cfg.flag("bias")
    return build(cfg, Traits(qkv_bias=bias, o_bias=bias))


def internlm2(cfg: ConfigReader) -> ModelArchitecture:
    """InternLM-2: one matrix for q, k and v."""
    bias = cfg.flag("bias")
    traits = Traits(qkv_bias=bias, o_bias=bias, fused_qkv_names=("wqkv", "wo"), mlp_names=("w1", "w3", "w2"))
    return build(cfg, traits)


def phi3small(cfg: ConfigReader) -> ModelArchitecture:
    """Phi-3-small: LayerNorm, biases everywhere, GEGELU; block-sparse attention is counted as full."""
    traits = Traits(
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        norm="layernorm",
        fused_qkv_names=("query_key_value", "dense"),
        fused_mlp_names=("up_proj", "down_proj"),
        intermediate_size=cfg.size("ff_intermediate_size", "intermediate_size"),
        activation="gegelu",
        tie_default=True,
    )
    return build(cfg, traits)
