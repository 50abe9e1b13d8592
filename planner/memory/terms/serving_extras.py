"""What serving holds beside one model: adapters of many tenants, and a draft model that guesses ahead."""

from __future__ import annotations

from dataclasses import replace

from planner.citation import Citation
from planner.dtypes import element_bytes
from planner.errors import UnsupportedError
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int, ceil_div
from planner.memory.terms.kv_cache import cache_terms
from planner.memory.terms.serving_engines import EngineRules
from planner.memory.terms.weights import weight_terms
from planner.model.architecture import ModelArchitecture
from planner.request import ServingWorkload

_MULTI_LORA = Citation(
    title="vLLM: max_loras slots, preallocated for every supported matrix at max_lora_rank",
    url="https://docs.vllm.ai/en/latest/features/lora.html",
)
_SPECULATIVE = Citation(
    title="vLLM: speculative decoding with a draft model",
    url="https://docs.vllm.ai/en/latest/features/spec_decode.html",
)


def adapter_terms(
    architecture: ModelArchitecture, workload: ServingWorkload, rules: EngineRules
) -> tuple[MemoryTerm, ...]:
    """Slots for ``num_lora_adapters`` adapters of ``lora_rank`` on every matrix of attention and MLP.

    The r × d_in halves are copied to every rank, the d_out halves are cut by tensor parallelism.
    """
    if isinstance(workload.num_lora_adapters, int) and workload.num_lora_adapters == 0:
        return ()
    per_rank: Int = 0
    for group in architecture.groups:
        for linear in group.linears:
            if linear.is_module and linear.role in ("attention", "mlp", "cross", "shared_expert"):
                outer = ceil_div(linear.out_features, rules.weights.tp)
                layers = ceil_div(group.count, rules.weights.pp)
                per_rank = per_rank + layers * linear.count * (linear.in_features + outer)
    size = workload.num_lora_adapters * workload.lora_rank * per_rank * element_bytes(workload.compute_dtype)
    return (
        MemoryTerm(
            kind="adapter",
            label="LoRA adapters",
            size_bytes=size,
            formula="N × r × Σ (d_in + d_out / tp) × e",
            inputs={"N": workload.num_lora_adapters, "r": workload.lora_rank},
            source=_MULTI_LORA,
        ),
    )


def _draft(workload: ServingWorkload) -> ModelArchitecture:
    from planner.model.registry import resolve

    architecture = resolve(workload.draft_model or "").architecture
    if architecture is None:
        raise UnsupportedError(
            f"the draft model {workload.draft_model} is known by size only", hint="name a model of plan models"
        )
    return architecture


def draft_weight_terms(workload: ServingWorkload, rules: EngineRules) -> tuple[MemoryTerm, ...]:
    """Weights of the draft model, in the compute dtype, spread as the target's are."""
    if workload.draft_model is None:
        return ()
    terms = weight_terms(_draft(workload), workload.compute_dtype, workload.compute_dtype, rules.weights)
    return tuple(replace(term, label=f"draft model {term.label}") for term in terms)


def draft_cache_terms(workload: ServingWorkload, rules: EngineRules, tokens: Int) -> tuple[MemoryTerm, ...]:
    """Cache of the draft model: the same tokens, and those guessed ahead."""
    if workload.draft_model is None:
        return ()
    length = tokens + workload.num_speculative_tokens
    terms = cache_terms(_draft(workload), length, workload.concurrency, rules.cache)
    return tuple(replace(term, label=f"draft model {term.label}", source=_SPECULATIVE) for term in terms)
