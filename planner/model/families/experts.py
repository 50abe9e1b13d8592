"""Decoders of attention and mixture-of-experts blocks.

Layers without experts (the first ones, or every other one) keep a dense MLP and form a group of their own.
"""

from __future__ import annotations

from collections.abc import Callable

from planner.errors import RequestError
from planner.model.architecture import ModelArchitecture, MoeMlp
from planner.model.config_reader import ConfigReader
from planner.model.families.decoder import MoeTraits, Traits, build, every_nth_full, window_from_layer_types


def moe_of(
    cfg: ConfigReader,
    *,
    width: int | None = None,
    shared: int = 0,
    activation: str = "silu",
    gated: bool = True,
) -> MoeMlp:
    """The experts a config describes, under the names the families use for them."""
    experts = cfg.size("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    chosen = cfg.size("num_experts_per_tok", "moe_k", "num_experts_per_token", "moe_top_k")
    if chosen > experts:
        raise RequestError(f"num_experts_per_tok {chosen} in config.json exceeds the {experts} experts")
    return MoeMlp(
        num_experts=experts,
        num_experts_per_tok=chosen,
        moe_intermediate_size=width or cfg.size("moe_intermediate_size", "expert_ffn_hidden_size"),
        shared_intermediate_size=shared,
        gated=gated,
        activation=activation,
    )


def sparse_layers(cfg: ConfigReader) -> Callable[[int], bool]:
    """Which layers have experts: all, all but the first k, every n-th, or as ``mlp_layer_types`` says."""
    kinds = cfg.texts("mlp_layer_types")
    if kinds is not None:
        if len(kinds) < cfg.layers() or set(kinds) - {"dense", "sparse", "moe"}:
            raise cfg.refuse("this mlp_layer_types")
        return lambda index: kinds[index] != "dense"
    first = cfg.size("first_k_dense_replace", default=0, least=0)
    step = cfg.size("moe_layer_freq", "decoder_sparse_step", default=1)
    dense_only = cfg.sizes("mlp_only_layers") or ()
    return lambda index: index >= first and (index + (step > 1)) % step == 0 and index not in dense_only


def _window(cfg: ConfigReader) -> int | None:
    return cfg.size("sliding_window", default=0, least=0) or None


def mixtral(cfg: ConfigReader) -> ModelArchitecture:
    window = _window(cfg)
    moe = MoeTraits(mlp=moe_of(cfg, width=cfg.size("intermediate_size")))
    return build(cfg, Traits(moe=moe, window=lambda index: window))


def minimax_m2(cfg: ConfigReader) -> ModelArchitecture:
    """MiniMax-M2: q/k norms over all heads."""
    if cfg.flag("use_qk_norm", default=True) is False:
        raise cfg.refuse("MiniMax-M2 without q/k norms")
    return build(cfg, Traits(qk_norm="full", moe=MoeTraits(mlp=moe_of(cfg, width=cfg.size("intermediate_size")))))


def olmoe(cfg: ConfigReader) -> ModelArchitecture:
    bias = cfg.flag("attention_bias")
    moe = MoeTraits(mlp=moe_of(cfg, width=cfg.size("intermediate_size")))
    return build(cfg, Traits(qkv_bias=bias, o_bias=bias, qk_norm="full", moe=moe))


def granitemoe(cfg: ConfigReader) -> ModelArchitecture:
    bias = cfg.flag("attention_bias")
    moe = MoeTraits(mlp=moe_of(cfg, width=cfg.size("intermediate_size")), router_name="router")
    return build(cfg, Traits(qkv_bias=bias, o_bias=bias, moe=moe))


def phimoe(cfg: ConfigReader) -> ModelArchitecture:
    """Phi-3.5-MoE: LayerNorm, biased projections, a head with bias."""
    bias = cfg.flag("attention_bias")
    window = _window(cfg)
    traits = Traits(
        qkv_bias=bias,
        o_bias=bias,
        norm="layernorm",
        lm_head_bias=cfg.flag("lm_head_bias"),
        moe=MoeTraits(
            mlp=moe_of(cfg, width=cfg.size("intermediate_size")), router_name="router", router_is_module=True
        ),
        window=lambda index: window,
    )
    return build(cfg, traits)


def qwen2_moe(cfg: ConfigReader) -> ModelArchitecture:
    """Qwen1.5-MoE and Qwen2-57B: a shared expert behind a d x 1 gate."""
    shared = cfg.size("shared_expert_intermediate_size", default=0, least=0)
    moe = MoeTraits(mlp=moe_of(cfg, shared=shared), sparse_layer=sparse_layers(cfg), shared_gate=True)
    return build(cfg, Traits(qkv_bias=cfg.flag("qkv_bias", default=True), moe=moe))


def qwen3_moe(cfg: ConfigReader) -> ModelArchitecture:
    bias = cfg.flag("attention_bias")
    moe = MoeTraits(mlp=moe_of(cfg), sparse_layer=sparse_layers(cfg))
    return build(cfg, Traits(qkv_bias=bias, o_bias=bias, qk_norm="head", moe=moe))


def glm4_moe(cfg: ConfigReader) -> ModelArchitecture:
    """GLM-4.5 to 4.7: the first layers are dense; q/k norms in all but Air."""
    width = cfg.size("moe_intermediate_size")
    shared = width * cfg.size("n_shared_experts", default=0, least=0)
    traits = Traits(
        qkv_bias=cfg.flag("attention_bias"),
        qk_norm="head" if cfg.flag("use_qk_norm") else None,
        moe=MoeTraits(mlp=moe_of(cfg, shared=shared), sparse_layer=sparse_layers(cfg)),
    )
    return build(cfg, traits)


def gpt_oss(cfg: ConfigReader) -> ModelArchitecture:
    """gpt-oss: biases everywhere, also in the experts, an attention sink per head, every other layer windowed."""
    heads = cfg.size("num_attention_heads")
    window = _window(cfg)
    kinds = cfg.texts("layer_types")
    alternating = every_nth_full(window, 2)
    traits = Traits(
        qkv_bias=True,
        o_bias=True,
        extra_layer_params=heads,
        moe=MoeTraits(
            mlp=moe_of(cfg, width=cfg.size("intermediate_size")),
            router_name="router",
            router_bias=True,
            expert_bias=True,
        ),
        window=window_from_layer_types(cfg, kinds, window) if kinds else alternating,
    )
    return build(cfg, traits)


def llama4(cfg: ConfigReader) -> ModelArchitecture:
    """Llama-4 text: every n-th layer has experts and a shared one; every fourth layer attends to everything."""
    width = cfg.size("intermediate_size")
    step = cfg.size("interleave_moe_layer_step", default=1)
    listed = cfg.sizes("moe_layers")
    chunk = cfg.size("attention_chunk_size", default=8192)
    kinds = cfg.texts("layer_types")
    every_fourth = every_nth_full(chunk, cfg.size("no_rope_layer_interval", default=4))
    windows = window_from_layer_types(cfg, kinds, chunk) if kinds else every_fourth
    moe = MoeTraits(
        mlp=moe_of(cfg, width=width, shared=width),
        sparse_layer=lambda index: index in listed if listed else (index + 1) % step == 0,
        router_name="router",
        router_is_module=True,
        dense_intermediate_size=cfg.size("intermediate_size_mlp"),
    )
    bias = cfg.flag("attention_bias")
    traits = Traits(
        qkv_bias=bias, o_bias=bias, moe=moe, window=windows, rotary=lambda index: windows(index) is not None
    )
    return build(cfg, traits)


def dbrx(cfg: ConfigReader) -> ModelArchitecture:
    """DBRX keeps its sizes in ``attn_config`` and ``ffn_config``."""
    attention, ffn = cfg.sub("attn_config"), cfg.sub("ffn_config")
    traits = Traits(
        norm="layernorm-no-bias",
        fused_qkv_names=("Wqkv", "out_proj"),
        num_key_value_heads=attention.size("kv_n_heads", default=1),
        moe=MoeTraits(
            mlp=moe_of(ffn, width=ffn.size("ffn_hidden_size")), router_name="layer", router_is_module=True
        ),
    )
    return build(cfg, traits)


def grok(cfg: ConfigReader) -> ModelArchitecture:
    """Grok-1: four norms per layer, tied and scaled embeddings."""
    moe = MoeTraits(mlp=moe_of(cfg, width=cfg.size("intermediate_size")), router_name="router")
    return build(cfg, Traits(num_norms=4, moe=moe, tie_default=True, scale_embeddings=True, activation="gelu"))


def deepseek_moe(cfg: ConfigReader) -> ModelArchitecture:
    """DeepSeek-MoE 16B and dots.llm1: plain attention, the first layers dense, shared experts without a gate."""
    width = cfg.size("moe_intermediate_size")
    shared = width * cfg.size("n_shared_experts", default=0, least=0)
    bias = cfg.flag("attention_bias")
    traits = Traits(
        qkv_bias=bias,
        o_bias=bias,
        qk_norm="head" if cfg.model_type == "dots1" else None,
        moe=MoeTraits(mlp=moe_of(cfg, shared=shared), sparse_layer=sparse_layers(cfg)),
    )
    return build(cfg, traits)


def ernie_moe(cfg: ConfigReader) -> ModelArchitecture:
    """ERNIE-4.5: experts from ``moe_layer_start_index`` on, a selection bias per expert."""
    first = cfg.size("moe_layer_start_index", default=1, least=0)
    last = cfg.raw("moe_layer_end_index")
    last = cfg.layers() - 1 if last in (None, -1) else cfg.size("moe_layer_end_index", least=0)
    step = cfg.size("moe_layer_interval", default=1)
    shared = cfg.size("moe_num_shared_experts", default=0, least=0) * cfg.size("moe_intermediate_size")
    bias = cfg.flag("use_bias")
    traits = Traits(
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        tie_default=True,
        moe=MoeTraits(
            mlp=moe_of(cfg, shared=shared),
            sparse_layer=lambda index: (index + 1) % step == 0 and first <= index <= last,
            selection_bias=True,
        ),
    )
    return build(cfg, traits)
