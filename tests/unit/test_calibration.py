"""The engine's side of calibration: which entry speaks of a request and what it does to the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.calibration import Calibration, Correction, Interval, family, part_of
from planner.calibration_file import load
from planner.citation import Citation
from planner.errors import PlannerError
from planner.memory.breakdown import MemoryBreakdown, MemoryTerm, PhaseBreakdown
from planner.memory.estimate import Estimate
from planner.quantity import Quantity, Tier
from planner.request import Parallelism, PlanRequest, ServingWorkload, TrainingWorkload
from planner.target import Target

SOURCE = Citation(title="test")
H200 = Target(stack="h200 torch 2.13", gpu="h200", generation="Hopper", name="H200")


def term(kind: str, size_bytes: int, counts_in: Quantity = Quantity.ALLOCATED) -> MemoryTerm:
    return MemoryTerm(
        kind=kind, label=kind, size_bytes=size_bytes, formula="n", source=SOURCE, counts_in=counts_in
    )


def estimate(tier: Tier = Tier.ANALYTIC) -> Estimate:
    forward = PhaseBreakdown(phase="forward", terms=(term("weights", 1000), term("activations", 400)))
    step = PhaseBreakdown(
        phase="optimizer step",
        terms=(
            term("weights", 1000),
            term("optimizer", 300),
            term("slack", 50, Quantity.RESERVED),
            term("context", 500, Quantity.DEVICE),
        ),
    )
    breakdown = MemoryBreakdown(phases=(forward, step))
    return Estimate(
        task="train", method="lora", tier=tier, quantity=Quantity.RESERVED, low_bytes=1400, expected_bytes=1400,
        high_bytes=1400, num_gpus=1, phase="forward", terms=forward.terms, breakdown=breakdown,
    )  # fmt: skip


def correction(scope: str, key: str, **factors: float) -> Correction:
    return Correction(
        tier=Tier.ANALYTIC, task="train", scope=scope, key=key, factors=factors, num_runs=14, median_error=0.004
    )  # fmt: skip


def interval(low: float, high: float, **where: object) -> Interval:
    return Interval(tier=Tier.ANALYTIC, task="train", low_ratio=low, high_ratio=high, num_runs=40, **where)


def test_a_factor_moves_its_own_part_and_the_peak_phase_follows() -> None:
    answer = Calibration(corrections=(correction("gpu", "h200", states=2.0),)).apply_to(
        estimate(), "lora", "transformers", H200
    )
    assert answer.phase == "optimizer step"
    assert answer.expected_bytes == 1000 + 600 + 50 == sum(t.size_bytes for t in answer.terms)
    assert answer.calibration == "calibrated on 14 runs on this H200, median error 0.4%"


def test_the_nearest_scope_wins_and_another_card_is_left_alone() -> None:
    calibration = Calibration(
        corrections=(
            correction("all", "", activations=3.0),
            correction("generation", "Hopper", activations=2.0),
            correction("gpu", "h200", activations=1.5),
        )
    )
    apply = calibration.apply_to
    assert apply(estimate(), "lora", "transformers", H200).expected_bytes == 1600
    h100 = Target(gpu="h100", generation="Hopper", name="H100")
    assert apply(estimate(), "lora", "transformers", h100).expected_bytes == 1800
    a100 = Target(gpu="a100", generation="Ampere", name="A100")
    assert apply(estimate(), "lora", "transformers", a100).expected_bytes == 2200
    cpu = Target(gpu="cpu", name="CPU")
    assert apply(estimate(), "lora", "transformers", cpu).expected_bytes == 1400


def test_the_interval_of_the_same_family_and_counter_is_used_before_a_general_one() -> None:
    calibration = Calibration(
        intervals=(
            interval(0.5, 2.0),
            interval(0.8, 1.2, family="lora"),
            interval(0.9, 1.1, family="lora", quantity=Quantity.RESERVED),
        )
    )
    answer = calibration.apply_to(estimate(), "lora", "transformers", Target())
    assert (answer.low_bytes, answer.high_bytes) == (1260, 1540)
    answer = calibration.apply_to(estimate(), "qlora", "transformers", Target())
    assert (answer.low_bytes, answer.high_bytes) == (700, 2800)


def test_a_trace_without_measurements_of_its_own_takes_the_analytic_interval() -> None:
    calibration = Calibration(intervals=(interval(0.8, 1.2, family="lora"),))
    traced = calibration.apply_to(estimate(Tier.TRACE), "lora", "transformers", Target())
    assert (traced.low_bytes, traced.high_bytes) == (1120, 1680)


def test_an_interval_always_holds_its_expectation() -> None:
    answer = Calibration(intervals=(interval(1.1, 1.3),)).apply_to(estimate(), "lora", "transformers", Target())
    assert answer.low_bytes <= answer.expected_bytes <= answer.high_bytes


def test_rules_of_thumb_and_no_calibration_are_returned_untouched() -> None:
    calibration = Calibration(corrections=(correction("all", "", resident=2.0),))
    request = PlanRequest(model="m", workload=TrainingWorkload())
    rule = estimate(Tier.RULE)
    assert calibration.apply(rule, request, None) is rule
    uncalibrated = PlanRequest(model="m", workload=TrainingWorkload(), calibrated=False)
    analytic = estimate()
    assert calibration.apply(analytic, uncalibrated, None) is analytic
    assert calibration.apply(analytic, request, None).expected_bytes == 2400


@pytest.mark.parametrize(
    ("workload", "parallelism", "expected"),
    [
        (TrainingWorkload(method="full"), None, "full"),
        (TrainingWorkload(method="full"), Parallelism(dp_shard=8), "sharded"),
        (TrainingWorkload(method="dora"), None, "lora"),
        (TrainingWorkload(method="qlora"), None, "qlora"),
        (TrainingWorkload(method="ia3"), None, "peft-other"),
        (ServingWorkload(engine="vllm"), None, "serve-engine"),
        (ServingWorkload(), None, "serve-hf"),
    ],
)
def test_family(
    workload: TrainingWorkload | ServingWorkload, parallelism: Parallelism | None, expected: str
) -> None:
    assert family(PlanRequest(model="m", workload=workload, parallelism=parallelism)) == expected


def test_parts_follow_the_counter_first_and_the_kind_second() -> None:
    assert part_of(term("context", 1, Quantity.DEVICE)) == "context"
    assert part_of(term("fragmentation", 1, Quantity.RESERVED)) == "slack"
    assert part_of(term("weights", 1)) == "resident"
    assert part_of(term("gradients", 1)) == "states"
    assert part_of(term("logits", 1)) == "activations"


def test_a_broken_file_is_named_and_an_absent_one_skipped(tmp_path: Path) -> None:
    assert load(tmp_path / "absent.json") == Calibration()
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({"version": 99}))
    with pytest.raises(PlannerError, match=r"broken\.json"):
        load(broken)
