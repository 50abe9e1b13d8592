"""vLLM inside a GRPO run: its share of the card beside the training step, and given back while it sleeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hardware_db.catalog import find_gpu
from planner.checks import check_training
from planner.errors import RequestError
from planner.memory.breakdown import PhaseBreakdown
from planner.memory.training import training_breakdown
from planner.model.registry import resolve
from planner.quantity import Quantity
from planner.request import Parallelism, TrainingWorkload
from planner.units import GIB

GRPO = TrainingWorkload(
    method="lora", objective="grpo", batch_size=8, gradient_accumulation_steps=4, seq_len=1024, completion_len=768
)
COLOCATED = replace(GRPO, use_vllm=True)
ASLEEP = replace(COLOCATED, vllm_enable_sleep_mode=True)
A100 = find_gpu("A100 SXM4 80GB")


def phases(workload: TrainingWorkload, *, on_gpu: bool = True) -> dict[str, PhaseBreakdown]:
    architecture = resolve("Qwen/Qwen2.5-1.5B-Instruct").architecture
    assert architecture is not None
    memory = training_breakdown(architecture, workload, Parallelism(), A100 if on_gpu else None)
    return {phase.phase: phase for phase in memory.phases}


def engine_bytes(phase: PhaseBreakdown) -> int:
    return sum(term.size_bytes for term in phase.terms if "generation engine" in term.label)


def test_the_engine_takes_its_share_of_the_card_beside_every_moment() -> None:
    share = int(0.3 * A100.memory_bytes)
    live = phases(COLOCATED)
    assert engine_bytes(live["rollout"]) == share
    scratch = next(term for term in live["rollout"].terms if term.label == "generation engine scratch")
    for name in ("forward", "backward", "optimizer step"):
        assert engine_bytes(live[name]) == share - scratch.size_bytes
        without = phases(GRPO)[name].size_bytes(Quantity.ALLOCATED)
        assert live[name].size_bytes(Quantity.ALLOCATED) == without + share - scratch.size_bytes


def test_asleep_it_leaves_the_step_alone() -> None:
    awake, asleep = phases(COLOCATED), phases(ASLEEP)
    assert engine_bytes(asleep["rollout"]) == engine_bytes(awake["rollout"])
    assert engine_bytes(asleep["backward"]) < GIB // 2 < engine_bytes(awake["backward"])


def test_its_own_weights_are_counted_in_the_format_it_loads() -> None:
    def weights(workload: TrainingWorkload) -> int:
        terms = phases(workload)["rollout"].terms
        return next(term.size_bytes for term in terms if term.label == "generation engine weights")

    assert weights(COLOCATED) == 2 * 1_543_714_304
    packed = weights(replace(COLOCATED, method="qlora", weight_dtype="nf4-dq"))
    assert packed < weights(COLOCATED) // 2


def test_without_a_gpu_the_pool_is_what_completions_need() -> None:
    pool = next(t for t in phases(COLOCATED, on_gpu=False)["rollout"].terms if t.label == "generation engine pool")
    assert pool.size_bytes == 32 * 1024 * 28 * 2 * 2 * 128 * 2


def test_it_replaces_generate() -> None:
    labels = {term.label for term in phases(COLOCATED)["rollout"].terms}
    assert "KV cache of generations" in {term.label for term in phases(GRPO)["rollout"].terms}
    assert "KV cache of generations" not in labels


def test_only_grpo_generates_with_vllm() -> None:
    check_training(COLOCATED)
    with pytest.raises(RequestError, match="not for sft"):
        check_training(replace(COLOCATED, objective="sft"))
    with pytest.raises(RequestError, match="between 0 and 1"):
        check_training(replace(COLOCATED, vllm_gpu_memory_utilization=1.5))
