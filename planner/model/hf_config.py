"""From a Hugging Face ``config.json`` to an architecture: the single builder of every description."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from planner.errors import RequestError
from planner.model.architecture import ModelArchitecture
from planner.model.config_reader import ConfigReader

_BUILDERS = {
    "llama": "llama_like:llama",
    "granite": "llama_like:llama",
    "smollm3": "llama_like:llama",
    "internlm3": "llama_like:llama",
    "mistral": "llama_like:mistral",
    "ministral3": "llama_like:mistral",
    "phi3": "llama_like:phi3",
    "qwen2": "llama_like:qwen2",
    "qwen3": "llama_like:qwen3",
    "gemma": "llama_like:gemma",
    "gemma2": "llama_like:gemma2",
    "gemma3_text": "llama_like:gemma3",
    "glm": "llama_like:glm",
    "glm4": "llama_like:glm4",
    "olmo": "llama_like:olmo",
    "olmo2": "llama_like:olmo2",
    "olmo3": "llama_like:olmo2",
    "cohere": "llama_like:cohere",
    "cohere2": "llama_like:cohere",
    "stablelm": "llama_like:stablelm",
    "bitnet": "llama_like:bitnet",
    "starcoder2": "llama_like:starcoder2",
    "gpt2": "classic:gpt2",
    "gpt_bigcode": "classic:gpt_bigcode",
    "gpt_neox": "classic:gpt_neox",
    "gptj": "classic:gptj",
    "gpt_neo": "classic:gpt_neo",
    "opt": "classic:opt",
    "bloom": "classic:bloom",
    "mpt": "classic:mpt",
    "falcon": "classic:falcon",
    "RefinedWeb": "classic:falcon",
    "RefinedWebModel": "classic:falcon",
    "phi": "classic:phi",
    "mixtral": "experts:mixtral",
    "minimax_m2": "experts:minimax_m2",
    "olmoe": "experts:olmoe",
    "granitemoe": "experts:granitemoe",
    "phimoe": "experts:phimoe",
    "qwen2_moe": "experts:qwen2_moe",
    "qwen3_moe": "experts:qwen3_moe",
    "glm4_moe": "experts:glm4_moe",
    "gpt_oss": "experts:gpt_oss",
    "llama4_text": "experts:llama4",
    "dbrx": "experts:dbrx",
    "grok-1": "experts:grok",
    "bert": "encoder:bert",
    "camembert": "encoder:bert",
    "roberta": "encoder:bert",
    "xlm-roberta": "encoder:bert",
    "distilbert": "encoder:distilbert",
    "modernbert": "encoder:modernbert",
    "t5": "seq2seq:t5",
    "mt5": "seq2seq:t5",
    "bart": "seq2seq:bart",
    "mbart": "seq2seq:mbart",
    "deepseek_v2": "latent:latent",
    "deepseek_v3": "latent:latent",
    "deepseek_v32": "latent:latent",
    "kimi_k2": "latent:latent",
    "glm4_moe_lite": "latent:latent",
    "glm_moe_dsa": "latent:latent",
    "mistral4": "latent:latent",
    "mamba": "hybrid:mamba",
    "falcon_mamba": "hybrid:mamba",
    "jamba": "hybrid:jamba",
    "qwen3_next": "hybrid:qwen3_next",
    "qwen3_5_text": "hybrid:qwen3_next",
    "qwen3_5_moe_text": "hybrid:qwen3_next",
    "nemotron_h": "mamba2:nemotron_h",
    "granitemoehybrid": "mamba2:granite_hybrid",
    "lfm2": "mamba2:lfm2",
    "lfm2_moe": "mamba2:lfm2",
    "Yi": "llama_like:llama",
    "aquila": "llama_like:llama",
    "mimo": "llama_like:qwen2",
    "seed_oss": "llama_like:llama",
    "exaone4": "llama_like:exaone4",
    "nemotron": "llama_like:nemotron",
    "mamba2": "mamba2:mamba2",
    "stablelm_epoch": "llama_like:stablelm",
    "ernie4_5": "llama_like:ernie",
    "ernie4_5_moe": "experts:ernie_moe",
    "deepseek": "experts:deepseek_moe",
    "dots1": "experts:deepseek_moe",
    "qwen": "remote_code:qwen",
    "baichuan": "remote_code:baichuan",
    "chatglm": "remote_code:chatglm",
    "internlm": "remote_code:internlm",
    "internlm2": "remote_code:internlm2",
    "phi3small": "remote_code:phi3small",
    "qwen2_vl_text": "llama_like:qwen2",
    "qwen2_5_vl_text": "llama_like:qwen2",
    "qwen3_vl_text": "llama_like:qwen3",
    "qwen3_vl_moe_text": "experts:qwen3_moe",
    "mllama_text_model": "llama_like:mllama",
    "gemma4_text": "gemma_recent:gemma4",
    "gemma4_unified_text": "gemma_recent:gemma4",
    "gemma3n_text": "gemma_recent:gemma3n",
    "deepseek_v4": "compressed:deepseek_v4",
}


_MAY_BE_LEFT_OUT = (
    "num_key_value_heads", "head_dim", "sliding_window", "attention_bias", "tie_word_embeddings",
)  # fmt: skip
_TEXT_MODELS = {
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "gemma4_unified": "gemma4_unified_text",
    "kimi_k25": "deepseek_v3",
    "llama4": "llama4_text",
    "llava": "llama",
    "mistral3": "mistral",
    "mllama": "mllama_text_model",
    "paligemma": "gemma",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen2_vl": "qwen2_vl_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
}
_VISION_MODELS = {
    "gemma3": "siglip_vision_model",
    "paligemma": "siglip_vision_model",
    "llava": "clip_vision_model",
    "mistral3": "pixtral",
    "llama4": "llama4_vision_model",
    "mllama": "mllama_vision_model",
}
"""Models with a vision tower, and the language model each has unless its ``text_config`` says otherwise."""


def architecture_from_config(
    config: Mapping[str, Any],
    *,
    name: str,
    confidence: Literal["A", "B", "C"] = "B",
    source: str = "config.json",
    doubts: str = "",
) -> ModelArchitecture:
    """The architecture a config describes.

    Raises RequestError for a broken or incomplete config, UnsupportedError for one that is not modelled.
    """
    if not isinstance(config, Mapping):
        raise RequestError("config.json does not hold an object", hint="expected {…} with model_type and sizes")
    reader = ConfigReader(config)
    if not reader.has("model_type"):
        raise RequestError("config.json has no model_type", hint="is it a Hugging Face model config?")
    reader.defaults = _optional(_class_defaults(reader.model_type))
    build = _multimodal if reader.model_type in _TEXT_MODELS else _builder(reader.model_type)
    architecture = build(reader)
    if reader.model_type not in _TEXT_MODELS and reader.model_type not in _BUILDERS:
        confidence = "C"
        doubts = f"{reader.model_type} is not a known model type; by the keys of its config it is taken as Llama"
    return replace(architecture, name=name, confidence=confidence, source=source, doubts=doubts)


def _multimodal(wrapper: ConfigReader) -> ModelArchitecture:
    """A language model behind a vision tower; nested configs leave out what their classes imply."""
    text = _text_reader(wrapper)
    architecture = replace(_builder(text.model_type)(text), model_type=wrapper.model_type)
    vision = wrapper.raw("vision_config")
    if vision is None:
        return architecture
    if not isinstance(vision, Mapping):
        raise RequestError("vision_config in config.json is not an object", hint="check the model's config.json")
    from planner.model.families.towers import tower_params

    kind = vision.get("model_type") or _VISION_MODELS.get(wrapper.model_type, f"{wrapper.model_type}_vision")
    tower = ConfigReader({"model_type": kind, **vision}, defaults=_class_defaults(kind))
    count = tower_params(tower, wrapper, architecture.hidden_size)
    return replace(
        architecture,
        vision_params=count,
        params_total=architecture.params_total + count,
        params_active=architecture.params_active + count,
    )


def _text_reader(wrapper: ConfigReader) -> ConfigReader:
    """The language model's config; Qwen2-VL once kept it flat beside ``vision_config``."""
    implied = _TEXT_MODELS[wrapper.model_type]
    if not wrapper.has("text_config"):
        return ConfigReader({**wrapper.values, "model_type": implied})
    values = dict(wrapper.sub("text_config").values)
    kind = values.get("model_type") or implied
    if wrapper.has("tie_word_embeddings"):
        values["tie_word_embeddings"] = wrapper.raw("tie_word_embeddings")
    return ConfigReader({**values, "model_type": kind}, defaults=_class_defaults(kind))


def _class_defaults(model_type: object) -> Mapping[str, Any]:
    text = (Path(__file__).parent / "data" / "class_defaults.json").read_text(encoding="utf-8")
    defaults: dict[str, dict[str, Any]] = json.loads(text)
    return defaults.get(model_type, {}) if isinstance(model_type, str) else {}


def _optional(defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config that states its sizes may still leave to its class."""
    return {key: value for key, value in defaults.items() if key in _MAY_BE_LEFT_OUT}


def _builder(model_type: str) -> Callable[[ConfigReader], ModelArchitecture]:
    module, function = _BUILDERS.get(model_type, "generic:llama_shaped").split(":")
    builder: Callable[[ConfigReader], ModelArchitecture] = getattr(
        importlib.import_module(f"planner.model.families.{module}"), function
    )
    return builder


def checkpoint_weight_dtype(config: Mapping[str, Any]) -> str | None:
    """Weight format of a quantised checkpoint from its ``quantization_config``; None where there is none.

    Raises UnsupportedError for a scheme that is not known.
    """
    quantization = quantization_of(config)
    if quantization is None:
        return None
    from planner.model.checkpoint_format import weight_format_name

    return weight_format_name(quantization)


def quantization_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """``quantization_config`` of a config or of its language model; None where there is none."""
    quantization = config.get("quantization_config")
    if quantization is None and isinstance(config.get("text_config"), Mapping):
        quantization = config["text_config"].get("quantization_config")
    return quantization if isinstance(quantization, Mapping) else None
