"""How inference engines run a step: captured graphs or launches from Python, and what they do across GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTraits:
    """What of an engine decides its speed."""

    name: str
    execution: Literal["graph", "native", "eager"]
    """CUDA graphs or whole-program compilation; launches from C++; launches from Python."""
    fused_layer: bool
    """Whether norms, rotary embedding and activations are single kernels."""
    graph_context_limit: int | None = None
    """Contexts beyond this run without captured graphs."""
    accumulates_in_fp16: bool = False


_ENGINES = {
    engine.name: engine
    for engine in (
        EngineTraits(name="vllm", execution="graph", fused_layer=True),
        EngineTraits(name="sglang", execution="graph", fused_layer=True),
        EngineTraits(name="tensorrt-llm", execution="graph", fused_layer=True),
        EngineTraits(name="turbomind", execution="native", fused_layer=True),
        EngineTraits(name="gpt-fast", execution="graph", fused_layer=True),
        EngineTraits(name="exllama", execution="native", fused_layer=True, accumulates_in_fp16=True),
        EngineTraits(
            name="llama.cpp", execution="native", fused_layer=True,
            accumulates_in_fp16=True,
        ),
        EngineTraits(name="autoawq", execution="eager", fused_layer=True),
        EngineTraits(name="litgpt", execution="eager", fused_layer=False),
        EngineTraits(name="transformers", execution="eager", fused_layer=False),
    )
}  # fmt: skip
_ALIASES = {"lmdeploy": "turbomind", "trtllm": "tensorrt-llm", "tgi": "vllm", "ollama": "llama.cpp"}
_VLLM_WITHOUT_LIMIT = (0, 8)


def engine_traits(name: str, version: str | None = None) -> EngineTraits:
    """Traits of an engine; an unknown one is taken as a graph-capturing engine.

    vLLM before 0.8 (engine V0) captures graphs for contexts up to ``max_seq_len_to_capture`` = 8192 only:
    https://docs.vllm.ai/en/v0.6.0/models/engine_args.html.
    """
    key = _ALIASES.get(name.lower(), name.lower())
    found = _ENGINES.get(key) or EngineTraits(name=key, execution="graph", fused_layer=True)
    if key == "vllm" and version is not None and _release(version) < _VLLM_WITHOUT_LIMIT:
        return EngineTraits(name="vllm-v0", execution="graph", fused_layer=True, graph_context_limit=8192)
    return found


def _release(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.lstrip("v").split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
