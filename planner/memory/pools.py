"""What an engine's start-up log says: weights, scratch, and how much is left for the KV cache.

pool = share × total − weights − scratch − outside the allocator, where vLLM's total is what CUDA reports and
SGLang's is what was free before loading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hardware_db.gpu import Gpu
from planner.memory.breakdown import MemoryTerm
from planner.memory.runtime import context_terms, generation
from planner.memory.serving import serving_breakdown
from planner.memory.terms.kv_cache import token_bytes
from planner.memory.terms.serving_engines import POOLED, engine_rules
from planner.memory.terms.serving_passes import claimed_bytes
from planner.memory.terms.sglang_start import LOADED_KERNELS_BYTES
from planner.memory.terms.vllm_start import vllm_start
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism, ServingWorkload
from planner.units import GIB, MIB

_CUDA_VISIBLE_PERMILLE = 988
_SMALL_VISIBLE_PERMILLE = 983
_HOPPER_VISIBLE_PERMILLE = 994
_SMALL_BYTES = 30 * GIB


def cuda_visible_bytes(gpu: Gpu) -> int:
    """What CUDA programs see of the driver's total, as torch prints it in published logs.

    79.2 of 80 GiB (A100), 39.5 of 40 (A100), 44.4 of 44.99 (L40S); 22.1 of 22.49 (A10G), 23.6 of 23.99 (RTX 4090),
    14.7 of 15 (T4); 79.2 of 79.65 (H100), 139.8 of 140.4 (H200).
    """
    small = gpu.memory_bytes < _SMALL_BYTES
    permille = _SMALL_VISIBLE_PERMILLE if small else _CUDA_VISIBLE_PERMILLE
    if generation(gpu) in (9, 10):
        permille = _HOPPER_VISIBLE_PERMILLE
    return gpu.memory_bytes * permille // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A predicted number with the interval it should lie in."""

    expected: int
    low: int
    high: int

    @property
    def ends(self) -> tuple[int, int, int]:
        """Expected, low and high."""
        return self.expected, self.low, self.high

    def plus(self, other: Range) -> Range:
        """Both together, where both go the same way."""
        return Range(
            expected=self.expected + other.expected, low=self.low + other.low, high=self.high + other.high
        )


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
    """As engines print it: windowed layers are counted as if they kept every token."""


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
    start = vllm_start(architecture, workload, gpu)
    weights = _weights(phases[0].terms, LOADED_KERNELS_BYTES if rules.name == "sglang" else 0)
    scratch = _range(phases[-1].terms, "activations")
    if rules.name == "vllm":
        scratch = scratch.plus(_range(phases[-1].terms, "workspace"))
    several = parallelism.num_gpus > 1
    non_torch = Range(
        expected=start.non_torch_tp_bytes if several else start.non_torch_bytes,
        low=16 * MIB,
        high=(4 if several else 2) * GIB,
    )
    graphs = _range(phases[-1].terms, "cuda_graphs")
    pool: Range | None = None
    if rules.name not in POOLED:
        cache = sum(term.size_bytes for term in phases[-1].terms if term.kind == "kv_cache")
        pool = Range(expected=cache, low=cache, high=cache)
    elif gpu is not None:
        total = cuda_total_bytes or cuda_visible_bytes(gpu)
        if rules.name == "vllm":
            taken = [weights, scratch, non_torch, *([graphs] if start.graphs_in_pool else [])]
            pool = _left_of(claimed_bytes(total, workload, parallelism, gpu), taken)
        else:
            contexts = [_range((term,), "context") for term in context_terms(gpu, num_gpus=parallelism.num_gpus)]
            free = _left_of(total, contexts)
            share = [claimed_bytes(free_bytes, workload, parallelism, gpu) for free_bytes in free.ends]
            claimed = Range(expected=share[0], low=share[1], high=share[2])
            pool = _left_of(claimed.expected, [weights], doubt=claimed)
    per_token = token_bytes(architecture, replace(rules.cache, windowed=False))
    return EnginePools(
        weights=weights,
        activation_peak=scratch,
        non_torch=non_torch,
        cuda_graphs=graphs,
        kv_cache_bytes=pool,
        kv_cache_tokens=None if pool is None else _tokens(pool, per_token, rules.cache.block_tokens),
    )


def _weights(resident: tuple[MemoryTerm, ...], beside: int) -> Range:
    size = beside + sum(term.size_bytes for term in resident if term.kind in ("weights", "buffers", "adapter"))
    return Range(expected=size, low=size * 995 // 1000, high=size * 1015 // 1000)


def _range(terms: tuple[MemoryTerm, ...], kind: str) -> Range:
    """The first term of ``kind``; nothing where there is none."""
    term = next((term for term in terms if term.kind == kind), None)
    if term is None:
        return Range(expected=0, low=0, high=0)
    low = term.size_bytes if term.low_bytes is None else term.low_bytes
    high = term.size_bytes if term.high_bytes is None else term.high_bytes
    return Range(expected=term.size_bytes, low=low, high=high)


def _left_of(total: int, taken: list[Range], *, doubt: Range | None = None) -> Range:
    """What ``taken`` leaves of ``total``, itself in ``doubt``. Deviations are independent: their squares add."""
    left = total - sum(each.expected for each in taken)
    below = [each.high - each.expected for each in taken]
    above = [each.expected - each.low for each in taken]
    if doubt is not None:
        below.append(doubt.expected - doubt.low)
        above.append(doubt.high - doubt.expected)
    low = left - math.isqrt(sum(deviation**2 for deviation in below))
    high = left + math.isqrt(sum(deviation**2 for deviation in above))
    return Range(expected=max(left, 0), low=max(low, 0), high=max(high, 0))


def _tokens(pool: Range, per_token: int, block: int) -> Range:
    def whole(size: int) -> int:
        return size // (per_token * block) * block if per_token else 0

    return Range(expected=whole(pool.expected), low=whole(pool.low), high=whole(pool.high))
