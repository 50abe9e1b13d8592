"""Serving by engines that plan ahead (vLLM, SGLang, llama.cpp): weights, cache and one pass's scratch together."""

from __future__ import annotations

from hardware_db.gpu import Gpu
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int, maximum
from planner.memory.runtime import workspace_term
from planner.memory.terms import serving_extras, vllm_start
from planner.memory.terms.kv_cache import cache_terms
from planner.memory.terms.serving_engines import EngineRules
from planner.memory.terms.serving_passes import (
    claimed_bytes,
    compute_buffer_term,
    graphs_term,
    scratch_term,
    set_aside_term,
)
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism, ServingWorkload


def planned_phases(
    architecture: ModelArchitecture,
    workload: ServingWorkload,
    parallelism: Parallelism,
    rules: EngineRules,
    gpu: Gpu | None,
    context: tuple[MemoryTerm, ...],
) -> dict[str, tuple[MemoryTerm, ...]]:
    """Loading, and serving with the cache the workload needs."""
    total = workload.prompt_tokens + workload.output_tokens
    encoder = workload.prompt_tokens if architecture.kind == "encoder-decoder" else 0
    reserved = workload.max_model_len if rules.name == "llama.cpp" else None
    cache = cache_terms(
        architecture,
        total if reserved is None else maximum(reserved, total),
        workload.concurrency,
        rules.cache,
        encoder_tokens=encoder,
    )
    draft = serving_extras.draft_cache_terms(workload, rules, total)
    if rules.name == "llama.cpp":
        flash = workload.attention != "eager"
        length = (total if reserved is None else maximum(reserved, total)) * workload.concurrency
        scratch = compute_buffer_term(architecture, workload, length, flash_attention=flash)
        return {"load": (), "serve": (*cache, *draft, scratch)}
    scratch = scratch_term(architecture, workload, gpu, rules.weights.tp)
    graphs = graphs_term(workload)
    moving = (*cache, *draft, scratch, workspace_term(gpu, handles=1), *graphs)
    if gpu is None:
        return {"load": (), "serve": moving}
    outside = [*context, *(() if rules.name == "vllm" and vllm_start.graphs_in_share(workload) else graphs)]
    if rules.name == "sglang":
        outside.append(scratch)
    beside: Int = sum((term.size_bytes for term in outside), start=0)
    claimed = claimed_bytes(gpu.memory_bytes, workload, parallelism, gpu)
    return {"load": (), "serve": (*moving, set_aside_term(claimed, gpu, beside, rules.name))}
