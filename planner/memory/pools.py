"""What an engine's start-up log says: weights, scratch, and how much is left for the KV cache.

pool = share × total − weights − scratch − outside the allocator, where vLLM's total is what CUDA reports and
SGLang's is what was free before loading.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from hardware_db.gpu import Gpu
from planner.memory.breakdown import MemoryTerm
from planner.memory.runtime import context_terms
from planner.memory.serving import serving_breakdown
from planner.memory.terms.kv_cache import token_bytes
from planner.memory.terms.serving_engines import POOLED, engine_rules, version_of
from planner.memory.terms.serving_passes import DEFAULT_SHARE, NON_TORCH_BYTES, NON_TORCH_TP_BYTES
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism, ServingWorkload
from planner.units import GIB, MIB

CUDA_VISIBLE = Fraction(988, 1000)
"""Share of the driver's total that CUDA programs see, as torch prints it in published logs: 79.25 of 80 GiB
(A100), 14.74 of 15 (T4), 22.16 of 22.49 (L4), 44.4 of 44.99 (L40S)."""
GRAPHS_COUNTED_SINCE = (0, 21)
"""vLLM takes CUDA graphs from the pool since 0.21 (its own log says so); before, they came on top of the share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A predicted number with the interval it should lie in."""

    expected: int
    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePools:
    """Bytes per GPU (``kv_cache_tokens``: tokens over all GPUs of one replica) after start-up."""

    weights: Range
    activation_peak: Range
    non_torch: Range
    cuda_graphs: Range
    kv_cache_bytes: Range | None
    """None where the pool depends on a GPU that is not named."""
    kv_cache_tokens: Range | None


def pools(
    architecture: ModelArchitecture,
    workload: ServingWorkload,
    parallelism: Parallelism,
    gpu: Gpu | None,
    *,
    cuda_total_bytes: int | None = None,
) -> EnginePools:
    """What the engine's log would print. ``cuda_total_bytes``: memory as torch reports it, where known."""
    rules = engine_rules(architecture, workload, parallelism)
    phases = serving_breakdown(architecture, workload, parallelism, gpu).phases
    weights = _weights(phases[0].terms)
    scratch = _range(_only(phases[-1].terms, "activations"))
    several = parallelism.num_gpus > 1
    non_torch = Range(
        expected=NON_TORCH_TP_BYTES if several else NON_TORCH_BYTES, low=32 * MIB, high=(4 if several else 2) * GIB
    )
    graphs = _range(_only(phases[-1].terms, "cuda_graphs"))
    pool: Range | None
    if rules.name not in POOLED:
        cache = sum(term.size_bytes for term in phases[-1].terms if term.kind == "kv_cache")
        pool = Range(expected=cache, low=cache, high=cache)
    else:
        total = cuda_total_bytes or (int(gpu.memory_bytes * CUDA_VISIBLE) if gpu else None)
        pool = None if total is None else _pool(workload, total, weights, scratch, non_torch, graphs, gpu)
    per_token = token_bytes(architecture, rules.cache)
    return EnginePools(
        weights=weights,
        activation_peak=scratch,
        non_torch=non_torch,
        cuda_graphs=graphs,
        kv_cache_bytes=pool,
        kv_cache_tokens=None if pool is None else _tokens(pool, per_token, rules.cache.block_tokens),
    )


def _weights(resident: tuple[MemoryTerm, ...]) -> Range:
    size = sum(term.size_bytes for term in resident if term.kind in ("weights", "adapter"))
    return Range(expected=size, low=size * 995 // 1000, high=size * 1015 // 1000)


def _only(terms: tuple[MemoryTerm, ...], kind: str) -> MemoryTerm | None:
    return next((term for term in terms if term.kind == kind), None)


def _range(term: MemoryTerm | None) -> Range:
    if term is None:
        return Range(expected=0, low=0, high=0)
    low = term.size_bytes if term.low_bytes is None else term.low_bytes
    high = term.size_bytes if term.high_bytes is None else term.high_bytes
    return Range(expected=term.size_bytes, low=low, high=high)


def _pool(
    workload: ServingWorkload,
    total: int,
    weights: Range,
    scratch: Range,
    non_torch: Range,
    graphs: Range,
    gpu: Gpu | None,
) -> Range:
    """The pool in bytes; its low end meets every high end of what is taken before it."""
    share = workload.gpu_memory_utilization
    if workload.engine == "vllm":
        fraction = DEFAULT_SHARE["vllm"] if share is None else Fraction(str(share))
        budget = int(total * fraction)
        taken = [weights, scratch, non_torch]
        version = version_of(workload.engine_version)
        if version is not None and version >= GRAPHS_COUNTED_SINCE:
            taken.append(graphs)
        expected = budget - sum(each.expected for each in taken)
        low = budget - sum(each.high for each in taken)
        high = budget - sum(each.low for each in taken)
    else:
        fraction = DEFAULT_SHARE["sglang"] if share is None else Fraction(str(share))
        context = context_terms(gpu, num_gpus=1)[0]
        occupied = _range(context)
        expected = int((total - occupied.expected) * fraction) - weights.expected
        low = int((total - occupied.high) * fraction) - weights.high
        high = int((total - occupied.low) * fraction) - weights.low
    return Range(expected=max(expected, 0), low=max(low, 0), high=max(high, 0))


def _tokens(pool: Range, per_token: int, block: int) -> Range:
    def whole(size: int) -> int:
        return size // (per_token * block) * block if per_token else 0

    return Range(expected=whole(pool.expected), low=whole(pool.low), high=whole(pool.high))
