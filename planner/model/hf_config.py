"""From a Hugging Face ``config.json`` to an architecture: the single builder of every description."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from planner.errors import RequestError, UnsupportedError
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
}


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
    architecture = _builder(reader.model_type)(reader)
    return replace(architecture, name=name, confidence=confidence, source=source, doubts=doubts)


def _builder(model_type: str) -> Callable[[ConfigReader], ModelArchitecture]:
    place = _BUILDERS.get(model_type)
    if place is None:
        raise UnsupportedError(
            f"the model type {model_type[:60]!r} is not modelled", hint="see plan models for those that are"
        )
    module, function = place.split(":")
    builder: Callable[[ConfigReader], ModelArchitecture] = getattr(
        importlib.import_module(f"planner.model.families.{module}"), function
    )
    return builder


def checkpoint_weight_dtype(config: Mapping[str, Any]) -> str | None:
    """Weight format of a quantised checkpoint from its ``quantization_config``; None where there is none.

    Raises UnsupportedError for a scheme that is not known.
    """
    quantization = config.get("quantization_config")
    if quantization is None and isinstance(config.get("text_config"), Mapping):
        quantization = config["text_config"].get("quantization_config")
    if not isinstance(quantization, Mapping):
        return None
    from planner.model.checkpoint_format import weight_format_name

    return weight_format_name(quantization)
