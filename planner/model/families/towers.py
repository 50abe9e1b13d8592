"""Parameters of vision and audio towers and of the projectors that join them to the language model.

Letters: v vision width, f its MLP width, d hidden size of the language model. Only the count is known to the
planner: images and sound are not part of a workload.
Every count is held against the model class of transformers 5.23 by the tests.
"""

from __future__ import annotations

from collections.abc import Callable

from planner.model.config_reader import ConfigReader


def tower_params(tower: ConfigReader, wrapper: ConfigReader, d: int) -> int:
    """Parameters of the vision tower and projector of ``wrapper`` in front of a language model of width ``d``."""
    count = _TOWERS.get(wrapper.model_type)
    if count is None:
        raise wrapper.refuse("this vision tower")
    return count(tower, wrapper, d)


def _linear(in_features: int, out_features: int, bias: bool = True) -> int:
    return in_features * out_features + (out_features if bias else 0)


def _plain_layer(v: int, f: int, attention_bias: bool = True) -> int:
    """Pre-norm layer with LayerNorm: 4 v v + 2 v f with biases, two norms."""
    return 4 * _linear(v, v, attention_bias) + _linear(v, f) + _linear(f, v) + 4 * v


def _patch_pixels(tower: ConfigReader) -> int:
    return tower.size("num_channels", "in_channels", default=3) * tower.size("patch_size") ** 2


def _patches(tower: ConfigReader) -> int:
    return (tower.size("image_size") // tower.size("patch_size")) ** 2


def _siglip(tower: ConfigReader) -> int:
    v, f, depth = tower.size("hidden_size"), tower.size("intermediate_size"), tower.layers()
    head = 0
    if tower.flag("vision_use_head", default=True):
        head = v + 4 * _linear(v, v) + 2 * v + _linear(v, f) + _linear(f, v)
    return _linear(_patch_pixels(tower), v) + _patches(tower) * v + depth * _plain_layer(v, f) + 2 * v + head


def _gemma3(tower: ConfigReader, wrapper: ConfigReader, d: int) -> int:
    v = tower.size("hidden_size")
    return _siglip(tower) + v * d + v


def _paligemma(tower: ConfigReader, wrapper: ConfigReader, d: int) -> int:
    projected = wrapper.size("projection_dim", default=2048)
    return _siglip(tower) + _linear(tower.size("hidden_size"), projected)


def _clip(tower: ConfigReader) -> int:
    """A class token, patches without bias, a norm before and after the layers."""
    v, f, depth = tower.size("hidden_size"), tower.size("intermediate_size"), tower.layers()
    return v + _patch_pixels(tower) * v + (_patches(tower) + 1) * v + depth * _plain_layer(v, f) + 4 * v


def _pixtral(tower: ConfigReader) -> int:
    """RMSNorm, gated MLP, no biases."""
    v, f, depth = tower.size("hidden_size"), tower.size("intermediate_size"), tower.layers()
    return _patch_pixels(tower) * v + v + depth * (4 * v * v + 3 * v * f + 2 * v)


def _llava(tower: ConfigReader, wrapper: ConfigReader, d: int) -> int:
    kind = tower.model_type
    if kind not in _LLAVA_TOWERS:
        raise wrapper.refuse(f"LLaVA with a {kind[:40]} tower")
    bias = wrapper.flag("multimodal_projector_bias", default=True)
    feature_layers = wrapper.raw("vision_feature_layer")
    count = len(feature_layers) if isinstance(feature_layers, list) else 1
    projector = _linear(count * tower.size("hidden_size"), d, bias) + _linear(d, d, bias)
    return _LLAVA_TOWERS[kind](tower) + projector


def _mistral3(tower: ConfigReader, wrapper: ConfigReader, d: int) -> int:
    """Pixtral with a patch merger in the projector."""
    v, merge = tower.size("hidden_size"), wrapper.size("spatial_merge_size", default=2)
    bias = wrapper.flag("multimodal_projector_bias")
    return _pixtral(tower) + v + v * v * merge**2 + _linear(v, d, bias) + _linear(d, d, bias)


def _llama4(tower: ConfigReader, wrapper: ConfigReader, d: int) -> int:
    v, f, depth = tower.size("hidden_size"), tower.size("intermediate_size"), tower.layers()
    layers = depth * (4 * _linear(v, v) + _linear(v, f) + _linear(f, v) + 4 * v)
    embedding = v + (_patches(tower) + 1) * v + _patch_pixels(tower) * v + 4 * v
    projected = tower.size("projector_output_dim")
    adapter = f * tower.size("projector_input_dim") + tower.size("projector_input_dim") * projected
    return layers + embedding + adapter + tower.size("vision_output_dim") * d


def _mllama(tower: ConfigReader, wrapper: ConfigReader, d: int) -> int:
    """Llama-3.2-Vision: local and gated global layers, position tables per tile and aspect ratio."""
    v, f = tower.size("hidden_size"), tower.size("intermediate_size")
    local, gated = tower.layers(), tower.layers("num_global_layers")
    layer = _plain_layer(v, f, attention_bias=False)
    positions, tiles = _patches(tower) + 1, tower.size("max_num_tiles")
    ratios = tower.raw("supported_aspect_ratios")
    rows = (len(ratios) if isinstance(ratios, list) else 8) + 1
    tables = 1 + positions * v + rows * tiles * positions * v + 2 * (1 + rows * tiles * v)
    embedding = v + _patch_pixels(tower) * v + tables + 4 * v
    return embedding + local * layer + gated * (layer + 2) + _linear(tower.size("vision_output_dim"), d)


def _qwen2_vl(tower: ConfigReader, wrapper: ConfigReader, d: int) -> int:
    v = tower.size("embed_dim")
    f = v * tower.size("mlp_ratio", default=4)
    merged = v * tower.size("spatial_merge_size", default=2) ** 2
    patch = _patch_pixels(tower) * tower.size("temporal_patch_size", default=2) * v
    merger = 2 * v + _linear(merged, merged) + _linear(merged, tower.size("hidden_size", default=d))
    return patch + tower.layers("depth") * _plain_layer(v, f) + merger


def _qwen2_5_vl(tower: ConfigReader, wrapper: ConfigReader, d: int) -> int:
    """RMSNorm and a gated MLP with biases."""
    v, f = tower.size("hidden_size"), tower.size("intermediate_size")
    merged = v * tower.size("spatial_merge_size", default=2) ** 2
    patch = _patch_pixels(tower) * tower.size("temporal_patch_size", default=2) * v
    layer = 4 * _linear(v, v) + 2 * _linear(v, f) + _linear(f, v) + 2 * v
    merger = v + _linear(merged, merged) + _linear(merged, tower.size("out_hidden_size", default=d))
    return patch + tower.layers("depth") * layer + merger


def _qwen3_vl(tower: ConfigReader, wrapper: ConfigReader, d: int) -> int:
    """Learned positions and a merger, one more for each layer that feeds the language model directly."""
    v, f = tower.size("hidden_size"), tower.size("intermediate_size")
    merged = v * tower.size("spatial_merge_size", default=2) ** 2
    patch = _linear(_patch_pixels(tower) * tower.size("temporal_patch_size", default=2), v)
    out = _linear(merged, merged) + _linear(merged, tower.size("out_hidden_size", default=d))
    deep = len(tower.sizes("deepstack_visual_indexes") or ())
    layers = tower.layers("depth") * _plain_layer(v, f)
    return patch + tower.size("num_position_embeddings") * v + layers + 2 * v + out + deep * (2 * merged + out)


def _gemma4(tower: ConfigReader, wrapper: ConfigReader, d: int) -> int:
    """RMSNorm before and after both blocks, gated MLP, q/k norms, one position table per axis."""
    v, f, head_dim = tower.size("hidden_size"), tower.size("intermediate_size"), tower.size("head_dim")
    heads, kv = tower.size("num_attention_heads"), tower.size("num_key_value_heads")
    attention = 2 * v * heads * head_dim + 2 * v * kv * head_dim + 2 * head_dim
    layers = tower.layers() * (attention + 3 * v * f + 4 * v)
    positions = 2 * tower.size("position_embedding_size") * v
    audio = _gemma4_audio(wrapper.sub("audio_config"), d) if wrapper.has("audio_config") else 0
    return _patch_pixels(tower) * v + positions + layers + v * d + audio


def _gemma4_audio(tower: ConfigReader, d: int) -> int:
    """Conformer layers of width a: two MLPs of 4 a, attention with relative keys, a gated convolution."""
    a, out = tower.size("hidden_size", default=1024), tower.size("output_proj_dims", default=1536)
    heads, kernel = tower.size("num_attention_heads", default=8), tower.size("conv_kernel_size", default=5)
    first, second = tower.sizes("subsampling_conv_channels") or (128, 32)
    subsampling = 9 * first + first + 9 * first * second + second + a * a
    mlps = 2 * (8 * a * a + 2 * a)
    attention = 5 * a * a + a // heads
    convolution = 3 * a * a + a * kernel + 2 * a
    layer = mlps + attention + convolution + 3 * a
    return subsampling + tower.size("num_hidden_layers", default=12) * layer + _linear(a, out) + out * d


def _gemma4_unified(tower: ConfigReader, wrapper: ConfigReader, d: int) -> int:
    """No tower: merged patches and audio frames are embedded directly."""
    width = tower.size("mm_embed_dim", default=3840)
    side = tower.size("patch_size", default=16) * tower.size("pooling_kernel_size", default=3)
    pixels = 3 * side * side
    positions = 2 * tower.size("mm_posemb_size", default=1120) * width
    vision = positions + 2 * pixels + _linear(pixels, width) + 4 * width + width * d
    if not wrapper.has("audio_config"):
        return vision
    return vision + wrapper.sub("audio_config").size("audio_embed_dim", default=640) * d


_LLAVA_TOWERS: dict[str, Callable[[ConfigReader], int]] = {
    "clip_vision_model": _clip,
    "siglip_vision_model": _siglip,
    "pixtral": _pixtral,
}
_TOWERS: dict[str, Callable[[ConfigReader, ConfigReader, int], int]] = {
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "gemma4_unified": _gemma4_unified,
    "paligemma": _paligemma,
    "llava": _llava,
    "mistral3": _mistral3,
    "llama4": _llama4,
    "mllama": _mllama,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "qwen3_vl_moe": _qwen3_vl,
    "qwen3_5": _qwen3_vl,
    "qwen3_5_moe": _qwen3_vl,
}
