"""The search against a plain loop over single plans, and what it says when nothing meets the wish."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from hardware_db import catalog
from planner.errors import RequestError, UnsupportedError
from planner.memory import engine
from planner.model import registry
from planner.rental import cheapest_rental
from planner.request import HardwareWish, Parallelism, PlanRequest, ServingWorkload, TrainingWorkload
from planner.search import Axes, SearchResult, search
from planner.search.axes import counts, layouts, offloads, variants
from planner.search.solve import solve
from planner.throughput import throughput

TOKENS = 10_000_000
JOB = TrainingWorkload(method="qlora", weight_dtype="nf4-dq", seq_len=1024, num_tokens=TOKENS)
WISH = HardwareWish(gpus=("a100-sxm4-80gb", "rtx-4090", "h100-sxm5-80gb"), max_gpus=8)
REQUEST = PlanRequest(model="meta-llama/Llama-2-70b-hf", workload=JOB, hardware=WISH)
FEW = Axes(optimizers=("adamw", "adamw-8bit"), losses=("standard",), attention=("sdpa",), micro_batches=(1, 2, 4))


def brute_force(request: PlanRequest, axes: Axes) -> tuple[Decimal, str, int, Parallelism]:
    """The cheapest plan by asking for every single one with the scalar engine."""
    architecture = registry.resolve(request.model).architecture
    assert architecture is not None
    assert isinstance(request.workload, TrainingWorkload)
    best: tuple[Decimal, str, int, Parallelism] | None = None
    for workload, offload in variants(request.workload, axes):
        assert isinstance(workload, TrainingWorkload)
        for table in layouts(workload, architecture, axes, counts(request.hardware.max_gpus or 64, None)):
            if not offloads(table, offload):
                continue
            for index in range(len(table)):
                parallelism = table.one(index, offload)
                single = replace(workload, batch_size=int(table.batch_size[index]))
                for name in request.hardware.gpus:
                    gpu = catalog.find_gpu(name)
                    rental = cheapest_rental(catalog.offers_for(gpu.id), parallelism.num_gpus, request.hardware)
                    if rental is None:
                        continue
                    memory = engine.estimate(architecture, single, parallelism, gpu)
                    if memory.high_bytes > gpu.memory_bytes:
                        continue
                    speed = throughput(architecture, single, parallelism, gpu)
                    hours = TOKENS / speed.tokens_per_s.expected / 3600  # type: ignore[union-attr]
                    usd = rental.usd_per_hour * Decimal(str(hours))
                    if best is None or usd < best[0]:
                        best = usd, gpu.id, parallelism.num_gpus, parallelism
    assert best is not None
    return best


def test_the_winner_is_that_of_a_plain_loop_over_single_plans() -> None:
    result = search(REQUEST, axes=replace(FEW, cpu_offload=("none",), checkpointing=("full",)))
    usd, *where = brute_force(REQUEST, replace(FEW, cpu_offload=("none",), checkpointing=("full",)))
    assert result.best is not None
    assert result.best.usd is not None
    # The loop rents single machines; the search knows groups of small ones as well.
    (cheapest, *_) = [candidate for candidate in result.candidates if not candidate.small_machines]
    assert float(cheapest.usd or 0) == pytest.approx(float(usd))
    assert (cheapest.gpu.id, cheapest.num_gpus, cheapest.parallelism) == tuple(where)


@pytest.mark.parametrize("seed", range(3))
def test_every_candidate_agrees_with_its_own_single_plan(seed: int) -> None:
    result = search(REQUEST, axes=FEW)
    architecture = registry.resolve(REQUEST.model).architecture
    assert architecture is not None
    for candidate in random.Random(seed).sample(result.candidates, 3):
        single = engine.estimate(architecture, candidate.workload, candidate.parallelism, candidate.gpu)
        assert candidate.expected_bytes == single.expected_bytes
        assert candidate.high_bytes == pytest.approx(single.high_bytes, abs=64 * 1024 * 1024 // 200)
        speed = throughput(architecture, candidate.workload, candidate.parallelism, candidate.gpu)
        if not candidate.small_machines:
            assert candidate.tokens_per_s == pytest.approx(speed.tokens_per_s.expected, rel=1e-9)  # type: ignore[union-attr]


def test_the_front_trades_money_for_time() -> None:
    front = search(REQUEST, axes=FEW).pareto
    money = [candidate.usd for candidate in front if candidate.usd is not None]
    hours = [candidate.hours for candidate in front if candidate.hours is not None]
    assert money == sorted(money)
    assert hours == sorted(hours, reverse=True)


@pytest.mark.parametrize("by", ["cost", "time", "headroom"])
def test_ranking_follows_the_objective(by: str) -> None:
    candidates = search(REQUEST, by=by, axes=FEW).candidates  # type: ignore[arg-type]
    key = {
        "cost": [candidate.usd for candidate in candidates],
        "time": [candidate.hours for candidate in candidates],
        "headroom": [-candidate.headroom_bytes / candidate.gpu.memory_bytes for candidate in candidates],
    }[by]
    assert key == sorted(key)  # type: ignore[type-var]


def limited(**limits: object) -> SearchResult:
    return search(replace(REQUEST, hardware=replace(WISH, **limits)), axes=FEW)  # type: ignore[arg-type]


def test_a_budget_nothing_meets_names_the_nearest_miss() -> None:
    result = limited(max_usd=Decimal("0.10"))
    assert result.best is None
    (miss,) = [miss for miss in result.near_misses if miss.kind == "price"]
    assert miss.candidate.usd is not None
    assert miss.candidate.usd == min(
        candidate.usd for candidate in search(REQUEST, axes=FEW).candidates if candidate.usd is not None
    )
    assert "over the budget" in miss.reason


def test_hours_nothing_meets_name_the_fastest() -> None:
    result = limited(max_hours=0.001)
    (miss,) = [miss for miss in result.near_misses if miss.kind == "hours"]
    assert "too long" in miss.reason


def test_memory_that_is_too_small_says_by_how_much() -> None:
    wish = HardwareWish(gpus=("rtx-4090",), num_gpus=1)
    result = search(replace(REQUEST, hardware=wish), axes=FEW)
    assert result.best is None
    (miss,) = [miss for miss in result.near_misses if miss.kind == "memory"]
    assert "short on each RTX 4090" in miss.reason


def test_a_data_frame_carries_the_ranking() -> None:
    frame = search(REQUEST, axes=FEW).to_frame()
    assert list(frame["usd"]) == sorted(frame["usd"])
    assert {"gpu", "num_gpus", "hours", "optimizer", "pareto"} <= set(frame.columns)


def test_serving_searches_spreads_and_formats() -> None:
    workload = ServingWorkload(engine="vllm", concurrency=8, prompt_tokens=1024)
    request = PlanRequest(model="meta-llama/Llama-3.1-8B", workload=workload, hardware=HardwareWish(max_gpus=4))
    result = search(request, axes=Axes(weight_dtypes=("bf16", "fp8"), kv_cache_dtypes=("bf16", "fp8")))
    assert result.best is not None
    best = result.best
    assert best.workload.concurrency * best.parallelism.dp_replicate >= 8  # type: ignore[union-attr]
    rents = [candidate.usd_per_hour for candidate in result.candidates if candidate.usd_per_hour is not None]
    assert rents == sorted(rents)
    assert {candidate.workload.weight_dtype for candidate in result.candidates} <= {"bf16", "fp8"}


def test_a_size_alone_cannot_be_searched() -> None:
    with pytest.raises(UnsupportedError, match="only the size"):
        search(PlanRequest(model="params:7B", workload=JOB))


def test_nobody_offering_is_said() -> None:
    with pytest.raises(RequestError, match="offered"):
        search(replace(REQUEST, hardware=HardwareWish(providers=("no-such-cloud",))))


def test_the_solved_value_fits_and_the_next_does_not() -> None:
    workload = TrainingWorkload(method="lora", seq_len=512)
    request = PlanRequest(
        model="meta-llama/Llama-3.1-8B", workload=workload, hardware=HardwareWish(gpus=("rtx-4090",), num_gpus=1)
    )
    (solution,) = solve(request, "seq-len")
    architecture = registry.resolve(request.model).architecture
    assert architecture is not None

    def high(seq_len: int) -> int:
        single = replace(workload, seq_len=seq_len)
        return engine.estimate(architecture, single, Parallelism(), solution.gpu).high_bytes

    assert high(solution.largest) <= solution.gpu.memory_bytes < high(solution.largest + 1)
    assert solution.largest_expected >= solution.largest


def test_solving_for_what_the_workload_does_not_have_is_refused() -> None:
    with pytest.raises(RequestError, match="belongs to serving"):
        solve(REQUEST, "concurrency")
    full = replace(REQUEST, workload=TrainingWorkload(method="full"))
    with pytest.raises(RequestError, match="rank"):
        solve(full, "lora-rank")


def test_pandas_waits_until_a_frame_is_asked_for() -> None:
    code = "import sys; import planner.search, planner.advice, planner.export; print('pandas' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "False"


def test_a_job_whose_speed_is_not_predicted_is_not_ranked_by_it() -> None:
    with pytest.raises(UnsupportedError, match="grpo"):
        search(PlanRequest(model="llama-1b", workload=TrainingWorkload(objective="grpo")))
