"""Which terms are live in which phase of serving, on the worst rank.

Engines that allocate as they go (transformers, litgpt, AutoAWQ) peak while loading, in the prompt's pass or in the
last decoding step; those that plan ahead are in ``planner.memory.serving_planned``.
"""

from __future__ import annotations

from hardware_db.gpu import Gpu
from planner.dtypes import element_bytes, weight_format
from planner.memory.breakdown import MemoryBreakdown, MemoryTerm, PhaseBreakdown
from planner.memory.ops import Int, ceil_div, maximum
from planner.memory.runtime import context_terms, slack_term, workspace_term
from planner.memory.terms import serving_extras, serving_kernels
from planner.memory.terms.engine_formats import held_format
from planner.memory.terms.kv_cache import cache_terms, largest_layer_token_bytes
from planner.memory.terms.serving_activations import Scores, activation_terms
from planner.memory.terms.serving_engines import POOLED, EngineRules, engine_rules
from planner.memory.terms.weights import weight_terms
from planner.model.architecture import ModelArchitecture
from planner.quantity import Quantity
from planner.request import Parallelism, ServingWorkload


def serving_breakdown(
    architecture: ModelArchitecture, workload: ServingWorkload, parallelism: Parallelism, gpu: Gpu | None
) -> MemoryBreakdown:
    """Phases load, prefill and decode (load and serve for engines that plan ahead) of the worst rank.

    Numeric fields may be int64 arrays of one shape; sizes then are too. Raises UnsupportedError for an engine that
    is not known.
    """
    rules = engine_rules(architecture, workload, parallelism)
    resident = _resident(architecture, workload, rules)
    context = context_terms(gpu, num_gpus=parallelism.num_gpus)
    if rules.name in POOLED or rules.name == "llama.cpp":
        from planner.memory.serving_planned import planned_phases

        phases = planned_phases(architecture, workload, parallelism, rules, gpu, context)
    else:
        phases = _stepwise(architecture, workload, rules, gpu)
    return MemoryBreakdown(
        phases=tuple(_phase(name, resident, moving, context) for name, moving in phases.items())
    )


def _phase(
    name: str, resident: tuple[MemoryTerm, ...], moving: tuple[MemoryTerm, ...], context: tuple[MemoryTerm, ...]
) -> PhaseBreakdown:
    fixed: Int = sum((term.size_bytes for term in resident), start=0)
    inside = (term for term in moving if Quantity.RESERVED.includes(term.counts_in))
    loose: Int = sum((term.size_bytes for term in inside), start=0)
    return PhaseBreakdown(phase=name, terms=(*resident, *moving, slack_term(fixed, loose), *context))


def _resident(
    architecture: ModelArchitecture, workload: ServingWorkload, rules: EngineRules
) -> tuple[MemoryTerm, ...]:
    """Weights and tables, live from loading on."""
    fmt = held_format(workload)
    terms = list(weight_terms(architecture, fmt.name, workload.compute_dtype, rules.weights, held=fmt))
    if rules.name != "llama.cpp":
        terms.append(serving_kernels.unsplit_weights_term(architecture, fmt, workload.compute_dtype, rules))
    if rules.name == "autoawq":
        terms.append(serving_kernels.complex_rope_term(architecture, _cache_length(workload)))
    terms.extend(serving_kernels.rope_tables_terms(architecture, rules, workload))
    terms.extend(serving_extras.adapter_terms(architecture, workload, rules))
    terms.extend(serving_extras.draft_weight_terms(workload, rules))
    return tuple(terms)


def _cache_length(workload: ServingWorkload) -> Int:
    """AutoAWQ allocates its cache for the longer of prompt and output (``max_new_tokens`` of its benchmark)."""
    return maximum(workload.prompt_tokens, workload.output_tokens)


def _stepwise(
    architecture: ModelArchitecture, workload: ServingWorkload, rules: EngineRules, gpu: Gpu | None
) -> dict[str, tuple[MemoryTerm, ...]]:
    """Loading, the pass over the prompt, and the last decoding step."""
    prompt, sequences = workload.prompt_tokens, workload.concurrency
    total = prompt + workload.output_tokens
    encoder = prompt if architecture.kind == "encoder-decoder" else 0
    if architecture.kind == "encoder-decoder":
        prompt, total = 1, workload.output_tokens
    length = {"litgpt": total, "autoawq": _cache_length(workload)}.get(rules.name)
    workspace = workspace_term(gpu, handles=1)
    policy = rules.cache

    def cache(tokens: Int) -> tuple[MemoryTerm, ...]:
        held = tokens if length is None else length
        return cache_terms(architecture, held, sequences, policy, encoder_tokens=encoder)

    prefill = [*cache(prompt), *_pass(architecture, workload, rules, sequences * maximum(prompt, encoder), prompt)]
    decode = [*cache(total), *_pass(architecture, workload, rules, sequences, total, rows=sequences)]
    if length is None:
        decode.extend(_rebuilding(architecture, rules, decode[0], sequences * total))
    load: tuple[MemoryTerm, ...] = ()
    if rules.name == "autoawq":
        fmt = weight_format(workload.weight_dtype)
        load = (serving_kernels.fused_copies_term(architecture, fmt, rules.weights.pp), *cache(total))
    draft = serving_extras.draft_cache_terms(workload, rules, total)
    return {
        "load": load,
        "prefill": (*prefill, *draft, workspace),
        "decode": (*decode, *draft, workspace),
    }


def _pass(
    architecture: ModelArchitecture,
    workload: ServingWorkload,
    rules: EngineRules,
    tokens: Int,
    keys: Int,
    *,
    rows: Int | None = None,
) -> tuple[MemoryTerm, ...]:
    """Activations, logits and kernel buffers of one forward pass over ``tokens``."""
    if rows is None:
        rows = tokens if rules.prompt_logits else workload.concurrency
    element = element_bytes(workload.compute_dtype)
    scores = None
    if rules.name == "autoawq":
        scores = Scores(bytes_each=element + 8, copies_keys=True, streams=2)
    elif workload.attention == "eager":
        scores = Scores(bytes_each=2 * element + 4)
    terms = activation_terms(
        architecture,
        tokens=tokens,
        keys=keys,
        sequences=workload.concurrency,
        logit_rows=rows,
        element=element,
        scores=scores,
        tp=rules.weights.tp,
        upcast=rules.upcasts_logits,
        experts_at_once=rules.experts_at_once,
    )
    fmt = weight_format(workload.weight_dtype)
    kernel = serving_kernels.dequantised_term(architecture, fmt, rules, tokens, rules.weights.tp)
    return terms if kernel is None else (*terms, kernel)


def _rebuilding(
    architecture: ModelArchitecture, rules: EngineRules, cache: MemoryTerm, tokens: Int
) -> tuple[MemoryTerm, ...]:
    """What appending one token by concatenation holds beside the cache itself."""
    layers = sum(group.count for group in architecture.groups if group.stack == "decoder")
    tensor_bytes = tokens * largest_layer_token_bytes(architecture, rules.cache) // 2
    size = cache.size_bytes if rules.rebuilds_cache else tensor_bytes
    formula = "the whole cache again" if rules.rebuilds_cache else "one tensor of one layer"
    again = MemoryTerm(
        kind="kv_cache", label="cache being rebuilt", size_bytes=size, formula=formula, source=rules.source
    )
    num_tensors = 2 * ceil_div(layers, rules.weights.pp)
    return (again, serving_kernels.unsplit_cache_term(num_tensors, tensor_bytes))
