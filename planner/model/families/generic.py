"""A model type nobody described: taken as Llama blocks where its config holds nothing that says otherwise."""

from __future__ import annotations

import re

from planner.errors import UnsupportedError
from planner.model.architecture import ModelArchitecture
from planner.model.config_reader import ConfigReader
from planner.model.families.decoder import Traits, build, window_from_layer_types

_SHAPE = frozenset(
    ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
     "head_dim", "vocab_size", "max_position_embeddings", "hidden_act", "attention_bias", "mlp_bias", "qkv_bias",
     "tie_word_embeddings", "sliding_window", "layer_types")
)  # fmt: skip
_WITHOUT_SHAPE = (
    r"_?(model_type|architectures|auto_map|name_or_path|transformers_version|(torch_)?dtype|use_cache"
    r"|pretraining_tp|quantization_config|attn_implementation|chunk_size_feed_forward|problem_type"
    r"|output_\w+|return_dict|is_decoder|is_encoder_decoder|id2label|label2id|unsloth_\w+"
    r"|initializer_\w+|rope_\w+|rotary_\w+|partial_rotary_factor|\w+_eps|\w*_?epsilon|\w*dropout\w*|\w+_token_ids?"
    r"|logit_scale|logits_scaling|attention_multiplier|embedding_multiplier|residual_multiplier)"
)


def llama_shaped(cfg: ConfigReader) -> ModelArchitecture:
    """Raises UnsupportedError naming the model type, and the keys that stand in the way where there are some."""
    strange = [
        key
        for key, value in cfg.values.items()
        if key not in _SHAPE and value not in (None, False) and not re.fullmatch(_WITHOUT_SHAPE, key)
    ]
    what = f"the model type {cfg.model_type[:60]!r}"
    if strange:
        names = ", ".join(key[:40] for key in strange[:3]) + ("…" if len(strange) > 3 else "")
        raise UnsupportedError(f"{what} is not modelled", hint=f"its config says {names}; see plan models")
    bias = cfg.flag("attention_bias")
    window = cfg.size("sliding_window", default=0, least=0) or None
    kinds = cfg.texts("layer_types")
    traits = Traits(
        qkv_bias=bias or cfg.flag("qkv_bias"),
        o_bias=bias,
        mlp_bias=cfg.flag("mlp_bias"),
        activation=cfg.text("hidden_act", default="silu"),
        window=window_from_layer_types(cfg, kinds, window) if kinds else lambda index: window,
    )
    return build(cfg, traits)
