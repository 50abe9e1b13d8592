"""What serving engines do differently where memory is concerned: one row per engine, each with its source."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from planner.citation import Citation
from planner.dtypes import weight_format
from planner.errors import UnsupportedError
from planner.memory.terms.kv_cache import CachePolicy
from planner.memory.terms.stored import WeightSpread
from planner.model.architecture import ModelArchitecture, RecurrentMixer
from planner.request import Parallelism, ServingWorkload

_GITHUB = "https://github.com"
TRANSFORMERS = Citation(
    title="transformers: generate and its caches",
    url=f"{_GITHUB}/huggingface/transformers/blob/main/src/transformers/cache_utils.py",
)
LITGPT = Citation(
    title="litgpt: key/value cache of the whole request, heads expanded",
    url=f"{_GITHUB}/Lightning-AI/litgpt/blob/main/litgpt/model.py",
)
AUTOAWQ = Citation(
    title="AutoAWQ: fused modules with preallocated caches",
    url=f"{_GITHUB}/casper-hansen/AutoAWQ/blob/v0.1.6/awq/modules/fused/attn.py",
)
VLLM = Citation(
    title="vLLM: what a profile run leaves of gpu_memory_utilization becomes the KV cache",
    url=f"{_GITHUB}/vllm-project/vllm/blob/main/vllm/v1/worker/gpu_worker.py",
)
SGLANG = Citation(
    title="SGLang: mem_fraction_static of the free memory holds weights and KV pool",
    url=f"{_GITHUB}/sgl-project/sglang/blob/main/python/sglang/srt/model_executor/model_runner.py",
)
LLAMA_CPP = Citation(
    title="llama.cpp: model, KV and compute buffers",
    url=f"{_GITHUB}/ggml-org/llama.cpp/blob/master/src/llama-context.cpp",
)

POOLED = ("vllm", "sglang")
LLAMA_UBATCH = 512
"""llama.cpp's ``n_ubatch`` where none is named."""
_CELLS = 256
"""llama.cpp's caches hold a multiple of so many tokens."""
_SWA_CACHES_SINCE = 5437
"""First build of llama.cpp that gives windowed layers a cache of their own (May 2025, pull request 13194)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRules:
    """How one engine, of one version, holds weights, cache and logits."""

    name: str
    source: Citation
    cache: CachePolicy
    weights: WeightSpread
    prompt_logits: bool = False
    """Logits of every prompt token are computed, not only of the last."""
    upcasts_logits: bool = True
    experts_at_once: bool = True
    """All experts of a layer run in one grouped product (transformers 5); before, one after another."""
    rebuilds_cache: bool = False
    """Each step builds a new cache while the caller still holds the old one (transformers' legacy tuples)."""
    layer_rope_tables: bool = False
    """Every layer keeps cosine and sine tables for the whole context of the model."""


def version_of(text: str | None) -> tuple[int, ...] | None:
    """(4, 38, 2) of "4.38.2"; None where no number is given, which means the newest."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", text or "")
    return tuple(int(part) for part in match.group(1).split(".")) if match else None


def _build_of(text: str | None) -> int:
    """5437 of "b5437" or "build 5437 (c02e5ab2)"; the newest where no build is named."""
    match = re.search(r"\bb(?:uild)?[ :]*(\d{3,6})\b", text or "", re.IGNORECASE)
    return int(match.group(1)) if match else 1_000_000


def _before(version: tuple[int, ...] | None, *limit: int) -> bool:
    return version is not None and version < limit


_SCHEMES: dict[str, tuple[str, ...]] = {
    "llama.cpp": ("plain", "gguf"),
    "litgpt": ("plain", "bitsandbytes"),
    "autoawq": ("awq",),
    "transformers": ("plain", "bitsandbytes", "gptq", "awq", "fp8", "mxfp4", "nvfp4", "bitnet"),
}
"""Formats an engine keeps packed; transformers unpacks GGUF files into 16 or 32 bits while loading."""


def require_format(engine: str, weight_dtype: str) -> None:
    """Refuse a storage format the engine does not serve from."""
    fmt = weight_format(weight_dtype)
    schemes = _SCHEMES.get(engine)
    if schemes is None or fmt.scheme in schemes:
        return
    others = [name for name, known in _SCHEMES.items() if fmt.scheme in known]
    if engine == "llama.cpp":
        hint = "name a GGUF format such as gguf-q4_k_m or gguf-bf16"
    else:
        hint = f"use --engine {' or '.join([*others, 'vllm'])}"
    raise UnsupportedError(f"{engine} does not serve {fmt.name} weights", hint=hint)


_DECODERS_ONLY = ("litgpt", "autoawq", "vllm", "sglang")
"""Engines without models that read with an encoder and write with a decoder, Whisper aside."""
_NO_ENCODERS = ("litgpt", "autoawq")
"""Engines that only generate, and know no recurrent layers."""
_VLLM_BART_UNTIL = (0, 11)
"""vLLM served BART before it gave up encoder-decoder models: https://github.com/vllm-project/vllm/pull/24907."""


def require_model(architecture: ModelArchitecture, workload: ServingWorkload) -> None:
    """Refuse a kind of model an engine has no implementation of."""
    engine = workload.engine
    recurrent = any(isinstance(group.mixer, RecurrentMixer) for group in architecture.groups)
    kind = "recurrent" if recurrent else architecture.kind
    refused = engine in _NO_ENCODERS and kind in ("encoder", "recurrent")
    if engine in _DECODERS_ONLY and kind == "encoder-decoder":
        bart = engine == "vllm" and architecture.model_type in ("bart", "mbart")
        refused = not (bart and _before(version_of(workload.engine_version), *_VLLM_BART_UNTIL))
    if refused:
        raise UnsupportedError(
            f"{engine} does not serve {kind} models such as {architecture.name}", hint="use --engine transformers"
        )


def engine_rules(
    architecture: ModelArchitecture, workload: ServingWorkload, parallelism: Parallelism
) -> EngineRules:
    """The rules of ``workload.engine``; raises UnsupportedError for an engine that is not known."""
    require_format(workload.engine, workload.weight_dtype)
    require_model(architecture, workload)
    version = version_of(workload.engine_version)
    dtype, tp, pp = workload.kv_cache_dtype, parallelism.tp, parallelism.pp
    spread = WeightSpread(tp=tp, pp=pp, ep=parallelism.ep)
    if workload.engine == "transformers":
        return EngineRules(
            name="transformers",
            source=TRANSFORMERS,
            cache=CachePolicy(
                dtype=dtype, latent=not _before(version, 5), windowed=not _before(version, 4, 56), tp=tp, pp=pp
            ),
            weights=spread,
            prompt_logits=_before(version, 4, 45),
            experts_at_once=not _before(version, 5),
            rebuilds_cache=_before(version, 4, 42),
            layer_rope_tables=_before(version, 4, 45) and architecture.model_type not in ("llama", "gemma"),
        )
    if workload.engine == "litgpt":
        packs = weight_format(workload.weight_dtype).scheme == "bitsandbytes"
        staged = pp != 1 if isinstance(pp, int) else True
        return EngineRules(
            name="litgpt",
            source=LITGPT,
            cache=CachePolicy(dtype="fp32" if staged else dtype, windowed=False, expand_heads=True, tp=tp, pp=pp),
            weights=WeightSpread(
                tp=tp,
                pp=pp,
                shards_embeddings=False,
                embeddings_with_head=True,
                unties_head=True,
                quantises_head=packs,
            ),
            prompt_logits=True,
            upcasts_logits=False,
        )
    if workload.engine == "autoawq":
        return EngineRules(
            name="autoawq",
            source=AUTOAWQ,
            cache=CachePolicy(dtype=dtype, windowed=False, tp=tp, pp=pp),
            weights=spread,
            prompt_logits=True,
        )
    if workload.engine in POOLED:
        block = 16 if workload.engine == "vllm" else 1
        windowed = workload.engine == "vllm" and not _before(version, 0, 9)
        return EngineRules(
            name=workload.engine,
            source=VLLM if workload.engine == "vllm" else SGLANG,
            cache=CachePolicy(dtype=dtype, block_tokens=block, windowed=windowed, tp=tp, pp=pp),
            weights=replace(spread, shards_vision=True),
        )
    if workload.engine == "llama.cpp":
        ubatch = workload.max_num_batched_tokens
        return EngineRules(
            name="llama.cpp",
            source=LLAMA_CPP,
            cache=CachePolicy(
                dtype=dtype,
                windowed=_build_of(workload.engine_version) >= _SWA_CACHES_SINCE,
                block_tokens=_CELLS,
                shared_blocks=True,
                window_slack=LLAMA_UBATCH if ubatch is None else ubatch,
                tp=tp,
                pp=pp,
            ),
            weights=WeightSpread(tp=tp, pp=pp, host_embedding=True, embeddings_with_head=True),
        )
    raise UnsupportedError(
        f"the engine {workload.engine[:40]!r} is not modelled",
        hint="transformers, vllm, sglang, llama.cpp, litgpt and autoawq are",
    )
