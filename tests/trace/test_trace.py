"""Whole traces, each in its own process, as a user runs them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from planner.errors import EnvironmentProblemError, UnsupportedError
from planner.quantity import Quantity
from planner.request import AdapterSpec, Parallelism, PlanRequest, TrainingWorkload
from planner.units import KIB, MIB
from validate.trace import TraceResult, trace

LLAMA = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2000,
    "tie_word_embeddings": False,
}


def request(folder: Path, **workload: object) -> PlanRequest:
    path = folder / "config.json"
    path.write_text(json.dumps(LLAMA))
    defaults: dict[str, object] = {
        "method": "full",
        "batch_size": 2,
        "seq_len": 64,
        "gradient_checkpointing": "none",
    }
    return PlanRequest(model=str(path), workload=TrainingWorkload(**(defaults | workload)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> TraceResult:
    return trace(request(tmp_path_factory.mktemp("full")), num_steps=3)


def test_full_fine_tuning_holds_weights_gradients_and_two_states(full: TraceResult) -> None:
    weights = full.num_trainable * 2
    by_category: dict[str, int] = {}
    for group in full.live_at_peak():
        by_category[group.category] = by_category.get(group.category, 0) + group.size_bytes
    assert by_category["weights"] == weights
    assert by_category["optimizer"] == 2 * weights
    assert full.default.peak_phase == "optimizer"
    assert full.default.peak_allocated_bytes >= 4 * weights
    assert full.expandable.peak_reserved_bytes <= full.default.peak_reserved_bytes


def test_the_third_step_repeats_the_second_but_for_a_few_scalars(full: TraceResult) -> None:
    peaks = {(peak.phase, peak.step): peak.allocated_bytes for peak in full.default.phases}
    for phase in ("forward", "backward", "optimizer"):
        assert abs(peaks[phase, 2] - peaks[phase, 1]) <= 4 * KIB


def test_lora_trains_rank_times_both_sides(tmp_path: Path) -> None:
    adapter = AdapterSpec(rank=8, target_modules=("q_proj", "v_proj"))
    result = trace(request(tmp_path, method="lora", adapter=adapter))
    assert result.num_trainable == 3 * 8 * ((256 + 256) + (256 + 128))
    assert result.log.meta["num_params"] > result.num_trainable


def test_a_model_that_is_only_a_size_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="size alone"):
        trace(PlanRequest(model="params:7B", workload=TrainingWorkload()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"compile": True}, "torch.compile"), ({"loss": "fused"}, "fused loss"), ({"frozen_layers": 1}, "frozen"),
     ({"framework": "litgpt"}, "litgpt"), ({"objective": "dpo"}, "dpo")],
)  # fmt: skip
def test_what_is_not_run_is_refused_by_name(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=words):
        trace(request(tmp_path, **changes))


def test_ranks_that_hold_less_are_traced_beside_the_first(tmp_path: Path) -> None:
    result = trace(replace(request(tmp_path), parallelism=Parallelism(dp_shard=3)))
    assert [peaks.ranks for peaks in result.ranks] == [(0, 1), (2,)]
    first, last = (peaks.allocated_bytes for peaks in result.ranks)
    assert last < first == result.peak_bytes(Quantity.ALLOCATED)


def test_time_and_memory_limits_are_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match="longer than"):
        trace(request(tmp_path), timeout_s=0.2)
    with pytest.raises(EnvironmentProblemError, match="memory"):
        trace(request(tmp_path, seq_len=64), memory_bytes=64 * MIB + 4 * KIB)
