"""What must hold of serving whatever the request: monotone, whole, and the same by scalar and by table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from planner.errors import UnsupportedError
from planner.memory.breakdown import MemoryBreakdown
from planner.memory.serving import serving_breakdown
from planner.model.registry import resolve
from planner.quantity import Quantity
from planner.request import Parallelism, ServingWorkload

MODELS = (
    "meta-llama/Llama-2-7b-hf",
    "google/gemma-2-9b",
    "deepseek-ai/DeepSeek-V3",
    "Qwen/Qwen3.5-27B",
    "google-t5/t5-3b",
    "openai/gpt-oss-20b",
)
FORMATS = {
    "transformers": ("bf16", "int8", "nf4", "gptq-int4", "awq-int4", "fp8"),
    "vllm": ("bf16", "nf4", "gptq-int4", "awq-int4", "fp8", "mxfp4", "gguf-q4_k_m"),
    "sglang": ("bf16", "awq-int4", "fp8"),
    "llama.cpp": ("bf16", "gguf-q4_k_m", "gguf-iq2_xs"),
    "litgpt": ("bf16", "int8", "nf4-dq"),
    "autoawq": ("awq-int4",),
}
ENGINES = tuple(FORMATS)
SERVED = [(engine, name) for engine, names in FORMATS.items() for name in names]


def served(pair: tuple[str, str], **fields: Any) -> ServingWorkload:
    engine, weight_dtype = pair
    return ServingWorkload(engine=engine, weight_dtype=weight_dtype, **fields)


requests = st.builds(
    served,
    st.sampled_from(SERVED),
    attention=st.sampled_from(("eager", "sdpa", "flash-attention-2")),
    kv_cache_dtype=st.sampled_from(("bf16", "fp8", "int8", "int4")),
    concurrency=st.integers(1, 256),
    prompt_tokens=st.integers(1, 100_000),
    output_tokens=st.integers(1, 10_000),
    num_lora_adapters=st.integers(0, 8),
)
models = st.sampled_from(MODELS)


def memory(model: str, workload: ServingWorkload, parallelism: Parallelism) -> MemoryBreakdown:
    architecture = resolve(model).architecture
    assert architecture is not None
    try:
        return serving_breakdown(architecture, workload, parallelism, None)
    except UnsupportedError:
        reject()


def peak(model: str, workload: ServingWorkload, parallelism: Parallelism) -> int:
    return memory(model, workload, parallelism).peak_bytes(Quantity.DEVICE)


def remainders(model: str, workload: ServingWorkload) -> int:
    """What the allocator leaves unused in blocks of weights: a smaller block may fit its segment better."""
    terms = memory(model, workload, Parallelism()).phases[0].terms
    return sum(term.size_bytes for term in terms if term.label == "unsplit blocks of weights")


@settings(max_examples=40, deadline=None)
@given(model=models, workload=requests, more=st.integers(1, 1000))
def test_more_of_anything_never_needs_less(model: str, workload: ServingWorkload, more: int) -> None:
    base = peak(model, workload, Parallelism())
    for field in ("concurrency", "prompt_tokens", "output_tokens", "num_lora_adapters"):
        larger = replace(workload, **{field: getattr(workload, field) + more})
        assert peak(model, larger, Parallelism()) >= base, field


@settings(max_examples=40, deadline=None)
@given(model=models, workload=requests, tp=st.sampled_from((2, 4, 8)))
def test_ranks_together_hold_at_least_the_whole(model: str, workload: ServingWorkload, tp: int) -> None:
    whole = peak(model, workload, Parallelism()) - remainders(model, workload)
    assert tp * peak(model, workload, Parallelism(tp=tp)) >= whole


@settings(max_examples=30, deadline=None)
@given(
    model=models,
    workload=requests,
    table=st.lists(
        st.tuples(st.integers(1, 64), st.integers(1, 20_000), st.integers(1, 4_000), st.sampled_from((1, 2, 4))),
        min_size=1,
        max_size=6,
    ),
)
def test_a_table_of_requests_agrees_with_each_alone_to_the_byte(
    model: str, workload: ServingWorkload, table: list[tuple[int, int, int, int]]
) -> None:
    memory(model, workload, Parallelism())
    architecture = resolve(model).architecture
    assert architecture is not None
    columns = [np.array(column, dtype=np.int64) for column in zip(*table, strict=True)]
    together = serving_breakdown(
        architecture,
        replace(workload, concurrency=columns[0], prompt_tokens=columns[1], output_tokens=columns[2]),
        Parallelism(tp=columns[3]),
        None,
    )
    for index, (concurrency, prompt, output, tp) in enumerate(table):
        alone = serving_breakdown(
            architecture,
            replace(workload, concurrency=concurrency, prompt_tokens=prompt, output_tokens=output),
            Parallelism(tp=tp),
            None,
        )
        for phase, other in zip(alone.phases, together.phases, strict=True):
            for quantity in Quantity:
                sizes = np.broadcast_to(np.asarray(other.size_bytes(quantity)), len(table))
                assert phase.size_bytes(quantity) == sizes[index], (phase.phase, quantity)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_peak_is_the_sum_of_what_is_live(engine: str) -> None:
    architecture = resolve(MODELS[0]).architecture
    assert architecture is not None
    memory = serving_breakdown(architecture, served((engine, FORMATS[engine][0])), Parallelism(), None)
    for phase in memory.phases:
        assert phase.size_bytes(Quantity.DEVICE) == sum(term.size_bytes for term in phase.terms)
    assert memory.peak_bytes(Quantity.DEVICE) == max(each.size_bytes(Quantity.DEVICE) for each in memory.phases)
