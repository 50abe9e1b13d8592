"""Laws of the training engine: more never needs less, parts add up, tables agree with their rows."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import UnsupportedError
from planner.memory.engine import breakdown, estimate
from planner.model.architecture import ModelArchitecture
from planner.model.registry import resolve
from planner.quantity import Quantity
from planner.request import AdapterSpec, Parallelism, TrainingWorkload

MODELS = (
    "meta-llama/Llama-3.2-1B", "google/gemma-2-2b", "mistralai/Mixtral-8x7B-v0.1", "deepseek-ai/DeepSeek-V2-Lite",
    "google/flan-t5-xl", "google-bert/bert-large-uncased", "LiquidAI/LFM2-1.2B", "tiiuae/falcon-7b",
)  # fmt: skip
METHODS = (
    "full", "lora", "qlora", "dora", "rslora", "adalora", "ia3", "vera", "prompt-tuning", "p-tuning",
    "bottleneck", "layernorm", "mezo",
)  # fmt: skip


@cache
def model(name: str) -> ModelArchitecture:
    architecture = resolve(name).architecture
    assert architecture is not None
    return architecture


workloads = st.builds(
    TrainingWorkload,
    method=st.sampled_from(METHODS),
    batch_size=st.integers(1, 16),
    seq_len=st.integers(1, 64).map(lambda blocks: blocks * 64),
    gradient_accumulation_steps=st.sampled_from((1, 4)),
    gradient_checkpointing=st.sampled_from(("none", "full", "selective", "offload")),
    attention=st.sampled_from(("eager", "sdpa", "flash-attention-2")),
    loss=st.sampled_from(("standard", "chunked", "fused")),
    optimizer=st.sampled_from(
        ("adamw", "adamw-fused", "adamw-8bit", "paged-adamw-8bit", "sgd", "adafactor", "lion")
    ),
    adapter=st.builds(AdapterSpec, rank=st.integers(1, 128)),
    framework=st.sampled_from(("transformers", "peft", "unsloth", "torchtitan")),
    padding_mask=st.booleans(),
).map(lambda each: replace(each, weight_dtype="nf4") if each.method == "qlora" else each)
spreads = st.builds(
    Parallelism,
    dp_replicate=st.sampled_from((1, 2)),
    dp_shard=st.sampled_from((1, 2, 8)),
    tp=st.sampled_from((1, 2)),
    pp=st.sampled_from((1, 2)),
    zero_stage=st.sampled_from((1, 2, 3)),
)
models = st.sampled_from(MODELS).map(model)


def peak(architecture: ModelArchitecture, workload: TrainingWorkload, spread: Parallelism) -> int:
    return breakdown(architecture, workload, spread, None).peak_bytes(Quantity.DEVICE)


@settings(max_examples=40, deadline=None)
@given(models, workloads, spreads, st.sampled_from(("batch_size", "seq_len", "rank")))
def test_more_work_never_needs_less(
    architecture: ModelArchitecture, workload: TrainingWorkload, spread: Parallelism, field: str
) -> None:
    if field == "rank":
        more = replace(workload, adapter=replace(workload.adapter, rank=workload.adapter.rank + 7))
    else:
        more = replace(workload, **{field: getattr(workload, field) * 2})
    assert peak(architecture, more, spread) >= peak(architecture, workload, spread)


@settings(max_examples=30, deadline=None)
@given(models, workloads)
def test_more_layers_never_need_less(architecture: ModelArchitecture, workload: TrainingWorkload) -> None:
    taller = replace(
        architecture,
        groups=tuple(replace(group, count=group.count + 2) for group in architecture.groups),
        params_total=architecture.params_total + 2 * sum(group.params_per_layer for group in architecture.groups),
    )
    assert peak(taller, workload, Parallelism()) >= peak(architecture, workload, Parallelism())


@settings(max_examples=40, deadline=None)
@given(models, workloads, spreads)
def test_ranks_together_hold_at_least_the_whole(
    architecture: ModelArchitecture, workload: TrainingWorkload, spread: Parallelism
) -> None:
    def resident(where: Parallelism) -> int:
        phases = breakdown(architecture, workload, where, None).phases
        held = {"weights", "adapter", "optimizer"}
        return max(sum(term.size_bytes for term in phase.terms if term.kind in held) for phase in phases)

    assert resident(spread) * spread.num_gpus >= resident(Parallelism())


@settings(max_examples=40, deadline=None)
@given(models, workloads, spreads, st.sampled_from(Quantity))
def test_terms_add_up_and_lie_inside_their_bounds(
    architecture: ModelArchitecture, workload: TrainingWorkload, spread: Parallelism, quantity: Quantity
) -> None:
    answer = estimate(architecture, workload, spread, None, quantity)
    assert answer.breakdown is not None
    assert sum(term.size_bytes for term in answer.terms) == answer.expected_bytes
    assert answer.expected_bytes == max(phase.size_bytes(quantity) for phase in answer.breakdown.phases)
    assert answer.low_bytes <= answer.expected_bytes <= answer.high_bytes
    assert all(term.size_bytes >= 0 and term.source.url for term in answer.terms)


@settings(max_examples=25, deadline=None)
@given(models, workloads, st.integers(0, 2**32 - 1))
def test_a_table_agrees_with_its_rows_to_the_byte(
    architecture: ModelArchitecture, workload: TrainingWorkload, seed: int
) -> None:
    rows = np.random.default_rng(seed).integers(1, 9, (5, 6))
    batch, seq, rank, shard, tp = rows[0], rows[1] * 64, rows[2] * 4, rows[3], 2 ** (rows[4] % 3)
    table = replace(workload, batch_size=batch, seq_len=seq, adapter=replace(workload.adapter, rank=rank))
    together = breakdown(architecture, table, Parallelism(dp_shard=shard, tp=tp), None)  # type: ignore[arg-type]
    for row in range(6):
        alone = replace(
            workload, batch_size=int(batch[row]), seq_len=int(seq[row]),
            adapter=replace(workload.adapter, rank=int(rank[row])),
        )  # fmt: skip
        spread = Parallelism(dp_shard=int(shard[row]), tp=int(tp[row]))
        for quantity in Quantity:
            peaks = np.broadcast_to(together.peak_bytes(quantity), (6,))
            assert breakdown(architecture, alone, spread, None).peak_bytes(quantity) == peaks[row]


@pytest.mark.parametrize("weight_dtype", ["int8", "nf4", "gptq-int4", "fp8", "bitnet"])
def test_quantised_weights_are_trained_behind_adapters_only(weight_dtype: str) -> None:
    workload = TrainingWorkload(method="full", weight_dtype=weight_dtype)
    with pytest.raises(UnsupportedError, match="inference") as refused:
        breakdown(model(MODELS[0]), workload, Parallelism(), None)
    assert "qlora" in str(refused.value.hint)
