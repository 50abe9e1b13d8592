"""Speeds learn from timed runs: by what binds a step, from all cards inward, drawn outward where runs are few."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from hardware_db.catalog import find_gpu
from planner.calibration import Calibration
from planner.calibration_file import load
from planner.model import registry
from planner.pace import Pace, pace_of, paced, ratios
from planner.request import HardwareWish, Parallelism, PlanRequest, ServingWorkload, TrainingWorkload
from planner.search import search
from planner.target import Target, target_of
from planner.throughput import ServingThroughput, TrainingThroughput, throughput
from validate.calibrate import save
from validate.measure.environment import Environment
from validate.measure.spec import PhaseReading, RunFacts, RunResult, RunSpec
from validate.measurement import Measurement
from validate.paces import paces

H100, H200 = find_gpu("h100-sxm5-80gb"), find_gpu("h200-sxm")
LLAMA = registry.resolve("meta-llama/Llama-3.1-8B")
SHAPES = [(1, 2048), (2, 2048), (4, 1024), (8, 1024), (1, 8192), (4, 4096)]


def run_of(
    slower: float, batch_size: int = 4, seq_len: int = 2048, *, gpu_id: str = H200.id, torch: str = "2.13.0",
    **facts: object,
) -> Measurement:  # fmt: skip
    """A full step on a GPU that takes ``slower`` times what the formulas say."""
    assert LLAMA.config is not None
    assert LLAMA.architecture is not None
    gpu = find_gpu(gpu_id)
    workload = TrainingWorkload(method="full", batch_size=batch_size, seq_len=seq_len)
    speed = throughput(LLAMA.architecture, workload, Parallelism(), gpu)
    assert isinstance(speed, TrainingThroughput)
    known = {"params_total": 1, "step_s": speed.step_time_s.expected * slower} | facts
    return Measurement(
        made_at="2026-11-20", command="test",
        environment=Environment(
            device="cuda", gpu_name=gpu.name, gpu_id=gpu.id, generation=gpu.architecture, memory_bytes=10**11,
            python="3.11", platform="Linux", libraries=(("torch", torch),),
        ),
        spec=RunSpec(model="llama", config=LLAMA.config, workload=workload),
        result=RunResult(
            outcome="ok", facts=RunFacts(**known),  # type: ignore[arg-type]
            phases=(PhaseReading(phase="forward", allocated_bytes=1, allocated_end_bytes=1),),
        ),
    ).identified()  # fmt: skip


def step_ratio(runs: list[Measurement], target: Target) -> float:
    pace = pace_of(paces(runs), "step", "gpu", target)
    return 1.0 if pace is None else pace.ratio


def test_one_run_moves_an_answer_part_of_the_way_and_many_most_of_it() -> None:
    here = Target(gpu=H200.id, generation="Hopper")
    one = step_ratio([run_of(1.5)], here)
    many = step_ratio([run_of(1.5, batch, length) for batch, length in SHAPES], here)
    assert 1.05 < one < 1.3
    assert 1.35 < many <= 1.5
    again = [replace(run_of(1.5), made_at=f"2026-11-{day}").identified() for day in range(10, 20)]
    assert step_ratio(again, here) == pytest.approx(one), "repeats of a shape are one shape"


def test_runs_that_contradict_each_other_move_little() -> None:
    here = Target(gpu=H200.id)
    runs = [run_of(0.6 if index % 2 else 1.6, batch, length) for index, (batch, length) in enumerate(SHAPES)]
    assert step_ratio(runs, here) == pytest.approx(1.0, abs=0.1)


def test_an_outlier_does_not_move_the_median() -> None:
    runs = [run_of(1.2 if index else 50.0, batch, length) for index, (batch, length) in enumerate(SHAPES)]
    assert 1.1 < step_ratio(runs, Target(gpu=H200.id)) < 1.3


def test_the_nearest_scope_answers_and_others_are_drawn_from_it() -> None:
    runs = [run_of(1.4, batch, length) for batch, length in SHAPES]
    learnt = paces(runs)
    same, alike, other = (
        pace_of(learnt, "step", "gpu", target)
        for target in (
            Target(gpu=H200.id, generation="Hopper"),
            Target(gpu=H100.id, generation="Hopper"),
            Target(gpu="a100-sxm4-80gb", generation="Ampere"),
        )
    )
    assert [pace and pace.scope for pace in (same, alike, other)] == ["gpu", "generation", "all"]
    assert pace_of(learnt, "step", "gpu", Target(gpu="cpu")) is None
    assert pace_of(learnt, "step", "host", Target(gpu=H200.id)) is None, "no step that waits for the host was run"
    assert pace_of(learnt, "token", "gpu", Target(gpu=H200.id)) is None


def test_runs_on_both_sides_of_the_generation_keep_each_card_its_own() -> None:
    slow = [run_of(1.5, batch, length) for batch, length in SHAPES]
    fast = [run_of(0.8, batch, length, gpu_id=H100.id) for batch, length in SHAPES]
    assert step_ratio([*slow, *fast], Target(gpu=H200.id, generation="Hopper")) > 1.2
    assert step_ratio([*slow, *fast], Target(gpu=H100.id, generation="Hopper")) < 0.95


def test_intervals_narrow_with_runs_that_agree_and_hold_what_was_not_seen() -> None:
    draw = random.Random(1)
    shapes = [(batch, length) for batch in (1, 2, 3, 4, 6, 8) for length in (1024, 2048, 4096, 8192)]
    truths = [1.3 * math.exp(draw.gauss(0, 0.03)) for _ in shapes]
    learnt = paces([run_of(truth, *shape) for truth, shape in zip(truths, shapes, strict=True)])
    pace = pace_of(learnt, "step", "gpu", Target(gpu=H200.id))
    assert pace is not None
    assert pace.high_ratio / pace.low_ratio < 1.25
    assert pace.median_error is not None
    assert pace.median_error < 0.05
    fresh = [1.3 * math.exp(draw.gauss(0, 0.03)) / pace.ratio for _ in range(200)]
    assert sum(pace.low_ratio <= ratio <= pace.high_ratio for ratio in fresh) > 160


def test_what_teaches_nothing_is_left_out() -> None:
    spec = replace(run_of(2.0).spec, lengths=(128, 256))
    assert paces([run_of(2.0, step_s=None)]) == ()
    assert paces([replace(run_of(2.0), result=RunResult(outcome="crashed"))]) == ()
    assert paces([replace(run_of(2.0), spec=spec)]) == ()
    here = run_of(2.0).environment
    assert paces([replace(run_of(2.0), environment=replace(here, device="cpu", gpu_id="cpu"))]) == ()


def file_with(tmp_path: Path, ratio: float, kind: str = "step") -> Path:
    path = tmp_path / "calibration.json"
    learnt = tuple(
        Pace(
            kind=kind,
            bound=bound,
            scope="gpu",
            key=H200.id,
            ratio=ratio,
            low_ratio=0.9,
            high_ratio=1.2,
            num_runs=5,
        )  # type: ignore[arg-type]
        for bound in ("host", "gpu")
    )
    save(Calibration(paces=learnt), path)
    assert load(path).paces == learnt
    return path


def test_a_training_answer_is_scaled_and_says_why(tmp_path: Path) -> None:
    learnt = load(file_with(tmp_path, 2.0)).paces
    assert LLAMA.architecture is not None
    request = PlanRequest(model="llama", workload=TrainingWorkload())
    plain = throughput(LLAMA.architecture, request.workload, Parallelism(), H200)
    after = paced(plain, request.workload, H200, learnt)
    assert isinstance(plain, TrainingThroughput)
    assert isinstance(after, TrainingThroughput)
    assert after.step_time_s.expected == pytest.approx(2 * plain.step_time_s.expected)
    assert after.tokens_per_s.expected == pytest.approx(plain.tokens_per_s.expected / 2)
    assert after.tokens_per_s.low == pytest.approx(after.tokens_per_s.expected / 1.2)
    assert after.calibration == "speed calibrated on 5 runs on this H200 SXM"
    assert paced(plain, request.workload, H100, learnt) is plain


def test_a_serving_answer_keeps_the_prefill_it_was_not_measured_by(tmp_path: Path) -> None:
    learnt = load(file_with(tmp_path, 2.0, "token")).paces
    assert LLAMA.architecture is not None
    request = PlanRequest(model="llama", workload=ServingWorkload(engine="vllm", concurrency=8))
    plain = throughput(LLAMA.architecture, request.workload, Parallelism(), H200)
    after = paced(plain, request.workload, H200, learnt)
    assert isinstance(plain, ServingThroughput)
    assert isinstance(after, ServingThroughput)
    assert after.tpot_s.expected == pytest.approx(2 * plain.tpot_s.expected)
    assert after.ttft_s == plain.ttft_s
    assert 1 < plain.output_tokens_per_s.expected / after.output_tokens_per_s.expected < 2


def test_a_search_ranks_by_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wish = HardwareWish(gpus=("h200", "h100"), num_gpus=1)
    request = PlanRequest(
        model="meta-llama/Llama-3.1-8B", workload=TrainingWorkload(num_tokens=10**6), hardware=wish
    )
    monkeypatch.setenv("GPU_PLANNER_CALIBRATION", str(tmp_path / "none.json"))
    plain = {found.gpu.id: found for found in search(request, by="time").candidates}
    monkeypatch.setenv("GPU_PLANNER_CALIBRATION", str(file_with(tmp_path, 3.0)))
    after = {found.gpu.id: found for found in search(request, by="time").candidates}
    raw = {found.gpu.id: found for found in search(replace(request, calibrated=False), by="time").candidates}
    assert after[H200.id].seconds_per_step / after[H200.id].workload.batch_size == pytest.approx(  # type: ignore[union-attr]
        3 * plain[H200.id].seconds_per_step / plain[H200.id].workload.batch_size,
        rel=1e-9,  # type: ignore[union-attr]
    )
    assert after[H100.id].hours == plain[H100.id].hours
    assert raw[H200.id].hours == plain[H200.id].hours
    single = after[H200.id]
    speed = throughput(LLAMA.architecture, single.workload, single.parallelism, H200)  # type: ignore[arg-type]
    told = paced(speed, request.workload, H200, load().paces)
    assert isinstance(told, TrainingThroughput)
    assert told.step_time_s.expected == pytest.approx(single.seconds_per_step)


def test_software_is_part_of_the_nearest_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    request = PlanRequest(model="llama", workload=TrainingWorkload(torch_version="2.1"))
    stack = target_of(request.workload, H200).stack
    assert stack is not None
    learnt = [
        Pace(kind="step", bound="gpu", scope="gpu", key=H200.id, ratio=2.0, low_ratio=1, high_ratio=1, num_runs=1),
        Pace(kind="step", bound="gpu", scope="stack", key=stack, ratio=3.0, low_ratio=1, high_ratio=1, num_runs=1),
    ]
    other = replace(request, workload=TrainingWorkload(torch_version="2.13"))
    assert ratios(learnt, "step", request.workload, H200)["gpu"] == 3.0
    assert ratios(learnt, "step", other.workload, H200)["gpu"] == 2.0
