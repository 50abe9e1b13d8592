"""What a search varies: experts over ranks, formats, methods; and objectives with references."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from hardware_db.catalog import find_gpu
from planner.memory import engine
from planner.model import registry
from planner.quantity import Quantity
from planner.request import HardwareWish, Parallelism, PlanRequest, ServingWorkload, TrainingWorkload
from planner.search import Axes, search
from planner.search.axes import layouts
from planner.throughput import ServingThroughput, TrainingThroughput, throughput
from tui.cli import run

MIXTRAL = registry.resolve("mistralai/Mixtral-8x7B-v0.1")
FULL = TrainingWorkload(method="full", num_tokens=10_000_000)
WISH = HardwareWish(gpus=("h100-sxm5-80gb", "h200-sxm"), max_gpus=16)
FEW = Axes(
    optimizers=("adamw",), losses=("fused",), attention=("sdpa",), micro_batches=(1, 4), cpu_offload=("none",)
)


def peak(parallelism: Parallelism, kind: str) -> int:
    assert MIXTRAL.architecture is not None
    memory = engine.breakdown(MIXTRAL.architecture, FULL, parallelism, find_gpu("h100"))
    terms = memory.peak_phase(Quantity.DEVICE).terms
    return sum(term.size_bytes for term in terms if term.kind == kind)


def test_experts_are_dealt_out_over_ranks_of_a_mixture_alone() -> None:
    result = search(PlanRequest(model="mixtral-8x7b", workload=FULL, hardware=WISH), axes=FEW)
    degrees = {candidate.parallelism.ep for candidate in result.candidates}
    assert max(degrees) > 1
    for candidate in result.candidates:
        spread = candidate.parallelism
        assert 8 % spread.ep == 0
        assert (spread.dp_shard if spread.dp_shard > 1 else spread.dp_replicate) % spread.ep == 0
    dense = registry.resolve("llama-8b").architecture
    assert dense is not None
    assert all(table.degrees["ep"] == 1 for table in layouts(FULL, dense, FEW, (8,)))


def test_mixtures_agree_with_their_own_single_plans() -> None:
    result = search(PlanRequest(model="mixtral-8x7b", workload=FULL, hardware=WISH), axes=FEW)
    assert MIXTRAL.architecture is not None
    for candidate in random.Random(2).sample(result.candidates, min(4, len(result.candidates))):
        single = engine.estimate(MIXTRAL.architecture, candidate.workload, candidate.parallelism, candidate.gpu)
        assert candidate.expected_bytes == single.expected_bytes
        speed = throughput(MIXTRAL.architecture, candidate.workload, candidate.parallelism, candidate.gpu)
        assert isinstance(speed, TrainingThroughput)
        if not candidate.small_machines:
            assert candidate.tokens_per_s == pytest.approx(speed.tokens_per_s.expected, rel=1e-9)


def test_expert_parallel_ranks_hold_their_experts_and_shards_are_cut_once() -> None:
    replicated, dealt = Parallelism(dp_replicate=8), Parallelism(dp_replicate=8, ep=8)
    for kind in ("weights", "gradients", "optimizer"):
        assert 6 < peak(replicated, kind) / peak(dealt, kind) < 8, kind
    sharded, both = Parallelism(dp_shard=8), Parallelism(dp_shard=8, ep=8)
    for kind in ("weights", "gradients", "optimizer"):
        assert peak(sharded, kind) == pytest.approx(peak(both, kind), rel=1e-6), kind
    assert peak(both, "gathered") <= peak(sharded, "gathered")


def test_dealing_out_experts_trades_gathering_for_crossing() -> None:
    assert MIXTRAL.architecture is not None

    def communication(parallelism: Parallelism, batch_size: int) -> float:
        assert MIXTRAL.architecture is not None
        workload = replace(FULL, batch_size=batch_size)
        speed = throughput(MIXTRAL.architecture, workload, parallelism, find_gpu("h100"))
        assert isinstance(speed, TrainingThroughput)
        return sum(part.seconds for part in speed.parts if part.kind == "communication")

    sharded, both = Parallelism(dp_shard=8), Parallelism(dp_shard=8, ep=8)
    assert communication(both, 1) < communication(sharded, 1)
    grown = communication(both, 16) / communication(both, 1)
    assert grown > communication(sharded, 16) / communication(sharded, 1), "tokens cross, weights do not"


def test_formats_of_weights_and_cache_are_tried_and_the_cheapest_is_that_of_single_searches() -> None:
    base = PlanRequest(
        model="llama-70b", workload=ServingWorkload(engine="vllm", concurrency=16),
        hardware=HardwareWish(gpus=("h100-sxm5-80gb",), max_gpus=8),
    )  # fmt: skip
    axes = Axes(weight_dtypes=("bf16", "fp8", "awq-int4"), kv_cache_dtypes=("bf16", "fp8"))
    together = search(base, axes=axes)
    alone = []
    for weights in axes.weight_dtypes:
        for cache in axes.kv_cache_dtypes:
            workload = replace(base.workload, weight_dtype=weights, kv_cache_dtype=cache)  # type: ignore[type-var]
            found = search(replace(base, workload=workload)).best
            assert found is not None
            alone.append((found.usd_per_hour, found.seconds_per_step))
    assert together.best is not None
    assert (together.best.usd_per_hour, together.best.seconds_per_step) == min(alone)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("objective", "passes"), [("dpo", 2 * 4 / 3), ("kto", 2.0), ("orpo", 2.0), ("reward", 2.0), ("sft", 1.0)]
)
def test_preference_steps_take_their_pairs_and_reference_passes(objective: str, passes: float) -> None:
    """In units of forward work: a step without checkpointing is 3 of them, a reference pass 1 more."""
    model = registry.resolve("llama-8b").architecture
    assert model is not None
    plain = TrainingWorkload(method="full", batch_size=8, seq_len=4096, gradient_checkpointing="none")
    assert isinstance(before := throughput(model, plain, Parallelism(), find_gpu("h200")), TrainingThroughput)
    asked = replace(plain, objective=objective)
    assert isinstance(after := throughput(model, asked, Parallelism(), find_gpu("h200")), TrainingThroughput)
    assert after.step_time_s.expected / before.step_time_s.expected == pytest.approx(passes, rel=0.1)
    pairs = 2 if objective in ("dpo", "orpo", "reward") else 1
    assert after.tokens_per_step == pairs * before.tokens_per_step


@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto", "reward"])
def test_preference_jobs_are_searched(objective: str) -> None:
    workload = TrainingWorkload(method="lora", objective=objective, num_tokens=1_000_000)
    wish = HardwareWish(gpus=("a100-sxm4-80gb",), num_gpus=1)
    best = search(PlanRequest(model="llama-8b", workload=workload, hardware=wish), axes=FEW).best
    assert best is not None
    speed = throughput(registry.resolve("llama-8b").architecture, best.workload, best.parallelism, best.gpu)  # type: ignore[arg-type]
    assert not isinstance(speed, ServingThroughput)
    assert best.tokens_per_s == pytest.approx(speed.tokens_per_s.expected)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--task", "serve", "--search-weights", "fp8,nf44"), "nf44"),
        (("--task", "serve", "--search-kv", "fp9"), "fp9"),
        (("--method", "lora", "--search-kv", "fp8"), "serving"),
        (("--task", "serve", "--search-methods", "lora"), "training"),
        (("--search-methods", "lora,qlorra"), "qlorra"),
    ],
)
def test_unknown_alternatives_are_refused(
    args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["search", "--model", "llama-8b", *args]) in (2, 3)
    assert said in capsys.readouterr().err
