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
