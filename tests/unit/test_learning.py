"""Calibration learns: corrections by part and scope from other shapes, and intervals that hold what is new."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from planner.calibration import Calibration, Interval
from planner.calibration_file import load
from planner.memory.breakdown import MemoryBreakdown
from planner.model import registry
from planner.quantity import Quantity, Tier
from planner.request import TrainingWorkload
from planner.target import Target
from validate.calibrate import calibrate, cross_validate, learn, save
from validate.compare import analytic_breakdown, estimate_of, forecast
from validate.conformal import Band, enough, split_conformal
from validate.defaults import Residual, defaults
from validate.measure.environment import Environment
from validate.measure.spec import PhaseReading, RunResult, RunSpec
from validate.measurement import Measurement
from validate.samples import sample_of

SMOL = registry.resolve("HuggingFaceTB/SmolLM2-135M")
SHAPES = [(1, 128), (2, 256), (4, 512), (8, 128), (2, 1024), (1, 2048), (4, 256), (16, 64)]
SPREAD = Interval(
    tier=Tier.ANALYTIC, task="train", quantity=Quantity.RESERVED, low_ratio=0.7, high_ratio=1.4, num_runs=100
)


def environment(gpu_id: str = "card-a", generation: str = "Hopper", torch: str = "2.13.0") -> Environment:
    """A card the catalogue does not have: predicted as an unnamed GPU, so that ``truth`` is all that differs."""
    return Environment(
        device="cuda", gpu_name=gpu_id.upper(), gpu_id=gpu_id, generation=generation, memory_bytes=10**11,
        python="3.11", platform="Linux", libraries=(("torch", torch),),
    )  # fmt: skip


def run_of(
    batch_size: int, seq_len: int, truth: dict[str, float], where: Environment, method: str = "lora"
) -> Measurement:
    """A run on a card whose parts are ``truth`` times what the formulas say of an unknown GPU."""
    assert SMOL.architecture is not None
    assert SMOL.config is not None
    workload = TrainingWorkload(
        method=method, batch_size=batch_size, seq_len=seq_len, gradient_checkpointing="none"
    )
    spec = RunSpec(model="smol", config=SMOL.config, workload=workload)
    memory = analytic_breakdown(spec, SMOL.architecture, None)
    phases = []
    for name, ends in (("load", True), ("backward", False), ("optimizer step", True)):
        phases.append(_reading(memory, name, truth, is_end=ends))
    result = RunResult(outcome="ok", phases=tuple(phases))
    return Measurement(
        made_at="2026-11-20", command="test", environment=where, spec=spec, result=result
    ).identified()


def _reading(memory: MemoryBreakdown, name: str, truth: dict[str, float], *, is_end: bool) -> PhaseReading:
    """Counters of one phase, from the terms of the phase the peak is in."""
    from planner.calibration import part_of

    peak = memory.peak_phase(Quantity.ALLOCATED)
    most = max(memory.phases, key=lambda p: sum(t.size_bytes for t in p.terms if part_of(t) == "states"))
    sums = {
        part: sum(t.size_bytes * truth.get(part, 1.0) for t in peak.terms if part_of(t) == part)
        for part in ("resident", "states", "activations", "slack")
    }
    states = sum(t.size_bytes * truth.get("states", 1.0) for t in most.terms if part_of(t) == "states")
    end = sums["resident"] + (states if name == "optimizer step" else 0)
    allocated = round(sums["resident"] + sums["states"] + sums["activations"])
    return PhaseReading(
        phase=name, step=0, allocated_bytes=allocated if not is_end else round(end),
        allocated_end_bytes=round(end), reserved_bytes=allocated + round(sums["slack"]),
    )  # fmt: skip


def median_errors(rows: list[tuple[object, float, float]]) -> tuple[float, float]:
    import statistics

    return statistics.median(abs(b) for _, b, _ in rows), statistics.median(abs(a) for _, _, a in rows)


def test_runs_of_some_shapes_correct_another_shape() -> None:
    truth = {"activations": 1.25, "slack": 2.0}
    runs = [run_of(batch, length, truth, environment()) for batch, length in SHAPES]
    before, after = median_errors(cross_validate(runs, lambda sample: sample.shape))
    assert before > 0.10
    assert after < before / 3


def test_thin_data_stays_near_the_uncalibrated_answer_and_grows_with_runs() -> None:
    truth = {"activations": 1.25}
    runs = [run_of(batch, length, truth, environment()) for batch, length in SHAPES]
    samples = [sample for run in runs if (sample := sample_of(run, None))]
    target = samples[0].target
    factors = [learn(samples[:count], target, "train").get("activations", 1.0) for count in (0, 1, 3, 8)]
    assert factors[0] == 1.0
    assert factors == sorted(factors)
    assert 1.0 < factors[1] < 1.20
    assert factors[3] == pytest.approx(1.25, rel=0.05)


def test_one_wild_run_does_not_move_the_rest() -> None:
    runs = [run_of(batch, length, {"activations": 1.1}, environment()) for batch, length in SHAPES]
    wild = run_of(3, 300, {"activations": 3.0}, environment())
    quiet = [sample for run in runs if (sample := sample_of(run, None))]
    with_wild = [*quiet, *(sample for sample in [sample_of(wild, None)] if sample)]
    target = quiet[0].target
    calm, shaken = (learn(samples, target, "train")["activations"] for samples in (quiet, with_wild))
    assert shaken == pytest.approx(calm, rel=0.02)


def test_a_card_knows_itself_better_than_its_generation_and_others_less() -> None:
    ours = [run_of(b, s, {"activations": 1.3}, environment("card-a")) for b, s in SHAPES]
    sisters = [run_of(b, s, {"activations": 1.1}, environment("card-b")) for b, s in SHAPES]
    learnt = calibrate([*ours, *sisters], Calibration(intervals=(SPREAD,)))

    def factor(gpu: str | None, generation: str | None) -> float:
        found = learnt.correction(Tier.ANALYTIC, "train", "lora", Target(gpu=gpu, generation=generation, name="x"))
        return 1.0 if found is None else found.factors["activations"]

    assert factor("card-a", "Hopper") > factor("card-c", "Hopper") > factor("card-b", "Hopper") > 1.0
    assert factor("a100", "Ampere") == pytest.approx(factor(None, None))
    assert learnt.correction(Tier.ANALYTIC, "train", "lora", Target(gpu="cpu")) is None
    assert learnt.correction(Tier.ANALYTIC, "serve", "serve-hf", Target(gpu="card-a")) is None


def test_runs_on_a_cpu_say_nothing_about_gpus() -> None:
    where = replace(environment("cpu"), device="cpu", generation=None)
    learnt = calibrate([run_of(b, s, {"activations": 1.3}, where) for b, s in SHAPES])
    assert {correction.scope for correction in learnt.corrections} == {"gpu", "stack"}
    assert learnt.correction(Tier.ANALYTIC, "train", "lora", Target(gpu="card-a", generation="Hopper")) is None


def test_a_correction_that_does_not_help_runs_left_out_is_dropped() -> None:
    noisy = random.Random(1)
    runs = [
        run_of(batch, length, {"activations": math.exp(noisy.gauss(0, 0.2))}, environment())
        for batch, length in SHAPES * 2
    ]
    learnt = calibrate(runs)
    for correction in learnt.corrections:
        if correction.median_error is not None:
            assert all(abs(math.log(factor)) < 0.2 for factor in correction.factors.values())


def test_calibration_travels_by_file_and_is_said_in_words(tmp_path: Path) -> None:
    runs = [run_of(b, s, {"activations": 1.25}, environment()) for b, s in SHAPES]
    path = tmp_path / "calibration.json"
    save(calibrate(runs, Calibration(intervals=(SPREAD,))), path)
    learnt = load(path)
    assert SMOL.architecture is not None
    assert SMOL.config is not None
    spec = RunSpec(
        model="smol", config=SMOL.config,
        workload=TrainingWorkload(method="lora", batch_size=3, seq_len=700, gradient_checkpointing="none"),
    )  # fmt: skip
    said = forecast(spec, SMOL.architecture, environment(), None, learnt, with_trace=False)
    (reserved,) = [e for e in said.estimates if e.quantity is Quantity.RESERVED]
    plain = estimate_of(spec, said.breakdown, Quantity.RESERVED)
    assert reserved.expected_bytes > plain.expected_bytes
    assert reserved.calibration is not None
    assert reserved.calibration.startswith("calibrated on 8 runs on this CARD-A")
    assert reserved.low_bytes <= reserved.expected_bytes <= reserved.high_bytes


def test_failed_and_unmodelled_runs_teach_nothing() -> None:
    run = run_of(1, 128, {}, environment())
    failed = replace(run, result=replace(run.result, outcome="out of memory"))
    unknown = replace(run, spec=replace(run.spec, config={"model_type": "no-such-model"}))
    assert sample_of(failed, None) is None
    assert sample_of(unknown, None) is None
    assert calibrate([failed, unknown]).corrections == ()


@pytest.mark.parametrize("seed", range(5))
def test_a_conformal_band_holds_the_promised_share_of_new_draws(seed: int) -> None:
    draws = random.Random(seed)
    band = split_conformal([draws.gauss(0.05, 0.1) for _ in range(200)])
    assert band is not None
    fresh = [draws.gauss(0.05, 0.1) for _ in range(4000)]
    assert sum(band.holds(value) for value in fresh) / len(fresh) > 0.85
    assert split_conformal([0.0] * (enough() - 1)) is None


def test_widening_keeps_the_middle_and_the_expectation() -> None:
    band = Band(low=0.1, high=0.3)
    assert band.widened(1.0) == Band(low=0.0, high=0.3)
    assert band.widened(3.0) == Band(low=pytest.approx(-0.1), high=pytest.approx(0.5))


def residuals(sources: int, per_source: int, seed: int = 0) -> list[Residual]:
    """Publications that are each off in their own way."""
    draws = random.Random(seed)
    made = []
    for source in range(sources):
        bias = draws.gauss(0, 0.15)
        made += [
            Residual(
                task="train", family="lora", framework=f"trainer-{source}", quantity=Quantity.RESERVED,
                source=f"owner/repo-{source}", model=f"model-{number % 5}", log_ratio=bias + draws.gauss(0, 0.03),
            )
            for number in range(per_source)
        ]  # fmt: skip
    return made


def test_shipped_intervals_hold_whole_publications_that_were_left_out() -> None:
    found = defaults(residuals(8, 25), Tier.ANALYTIC)
    evidence = {row.group: row for row in found.coverage}
    assert evidence["train/lora"].new_source >= 0.9
    assert evidence["train/lora"].known_framework >= 0.9
    unseen = residuals(8, 25, seed=99)
    calibration = Calibration(intervals=found.intervals)
    held = 0
    for residual in unseen:
        interval = calibration.interval(
            Tier.ANALYTIC, "train", "lora", Quantity.RESERVED, "never-seen", Target(gpu="a100")
        )
        held += interval.low_ratio <= math.exp(residual.log_ratio) <= interval.high_ratio
    assert held / len(unseen) > 0.8


def test_a_framework_that_was_measured_gets_a_narrower_interval() -> None:
    calibration = Calibration(intervals=defaults(residuals(8, 25), Tier.ANALYTIC).intervals)

    def width(framework: str) -> float:
        found = calibration.interval(Tier.ANALYTIC, "train", "lora", Quantity.RESERVED, framework, Target())
        return found.high_ratio - found.low_ratio

    assert width("trainer-0") < width("never-seen") / 2


def test_the_shipped_file_is_read_and_holds_no_constant_of_a_row() -> None:
    shipped = load()
    assert shipped.corrections == ()
    assert shipped.made["coverage"] == 0.9
    assert all(entry.scope == "all" and entry.key == "" for entry in shipped.intervals)
    assert all(entry.low_ratio <= 1 <= entry.high_ratio for entry in shipped.intervals)
    assert all(entry.num_runs >= 3 for entry in shipped.intervals)
