"""The largest job that fits a GPU: requests at once and context when serving, batch and sequence when training.

Memory never shrinks when any of these grows, so the largest that fits is found by doubling and halving.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hardware_db.gpu import Gpu
from planner.memory.engine import estimate
from planner.memory.pools import pools
from planner.memory.terms.kv_cache import cache_size
from planner.memory.terms.serving_engines import POOLED, engine_rules
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism, ServingWorkload, TrainingWorkload

MOST_REQUESTS = 1 << 20
MOST_TOKENS = 1 << 27


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The largest value of one field that fits with the rest of the workload as it is; 0: not even one."""

    field: str
    """The field of the workload: concurrency, prompt_tokens, batch_size or seq_len."""
    largest: int
    limited_by_model: bool = False
    """True where the model's own context, or the engine's limit, ends before the memory does."""


def capacities(
    architecture: ModelArchitecture,
    workload: TrainingWorkload | ServingWorkload,
    parallelism: Parallelism,
    gpu: Gpu,
) -> tuple[Capacity, Capacity]:
    """How many sequences at once, and how long one may be, by the expected memory of the worst rank.

    vLLM and SGLang are asked for the pool they would set up, others for the memory the workload needs.
    """
    if isinstance(workload, TrainingWorkload):
        width, length = "batch_size", "seq_len"
    else:
        width, length = "concurrency", "prompt_tokens"
    fits = _fits(architecture, workload, parallelism, gpu)
    most, many = architecture.max_position_embeddings or MOST_TOKENS, MOST_REQUESTS
    if isinstance(workload, ServingWorkload):
        most = max(min(most, workload.max_model_len or most) - workload.output_tokens, 0)
        many = workload.max_num_seqs or many

    def with_value(field: str, value: int) -> TrainingWorkload | ServingWorkload:
        change: dict[str, Any] = {field: value}
        return replace(workload, **change)

    widest = largest(lambda value: fits(with_value(width, value)), many)
    longest = largest(lambda value: fits(with_value(length, value)), most)
    return (
        Capacity(field=width, largest=widest),
        Capacity(field=length, largest=longest, limited_by_model=longest == most),
    )


def _fits(
    architecture: ModelArchitecture,
    workload: TrainingWorkload | ServingWorkload,
    parallelism: Parallelism,
    gpu: Gpu,
) -> Callable[[TrainingWorkload | ServingWorkload], bool]:
    if isinstance(workload, ServingWorkload) and workload.engine in POOLED:
        pool = pools(architecture, workload, parallelism, gpu).kv_cache_bytes
        rules = engine_rules(architecture, workload, parallelism)

        def holds(asked: TrainingWorkload | ServingWorkload) -> bool:
            if not isinstance(asked, ServingWorkload) or pool is None:
                return False
            encoder = asked.prompt_tokens if architecture.kind == "encoder-decoder" else 0
            tokens = asked.output_tokens if encoder else asked.context_tokens
            need = cache_size(architecture, tokens, asked.concurrency, rules.cache, encoder_tokens=encoder)
            return bool(need.total_bytes <= pool.expected)

        return holds

    def needs_no_more(asked: TrainingWorkload | ServingWorkload) -> bool:
        return estimate(architecture, asked, parallelism, gpu).expected_bytes <= gpu.memory_bytes

    return needs_no_more


def largest(fits: Callable[[int], bool], limit: int) -> int:
    """The largest whole number from 1 to ``limit`` that fits; 0 where 1 does not. ``fits`` must not turn back."""
    if limit < 1 or not fits(1):
        return 0
    below, above = 1, 2
    while above <= limit and fits(above):
        below, above = above, above * 2
    above = min(above, limit + 1)
    while above - below > 1:
        middle = (below + above) // 2
        if fits(middle):
            below = middle
        else:
            above = middle
    return below
