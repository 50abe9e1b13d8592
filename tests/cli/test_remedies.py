"""What the main answer advises where the hardware that is named does not hold the job."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from planner.fit import Verdict
from planner.plan import plan_request
from planner.quantity import Tier
from planner.remedies import with_remedies
from planner.request import HardwareWish, PlanRequest, TrainingWorkload
from tui.cli import run

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "plan.schema.json").read_text())
TIGHT = ("--model", "llama-3.1-8b", "--method", "lora", "--gpu", "rtx-4090", "--num-gpus", "1")
ROOMY = ("--model", "llama-3.1-8b", "--method", "lora", "--gpu", "h100-sxm5-80gb")


def advice(capsys: pytest.CaptureFixture[str], *args: str) -> list[dict[str, Any]]:
    assert run([*args, "--json"]) in (0, 1)
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    rows: list[dict[str, Any]] = document["advice"]
    return rows


def test_advice_names_the_plan_it_speaks_of(capsys: pytest.CaptureFixture[str]) -> None:
    run(["advise", "--model", "llama-3.1-8b", "--method", "lora", "--gpu", "4090", "--num-gpus", "1"])
    assert "lora" in (heading := capsys.readouterr().out.splitlines()[0])
    assert heading.endswith("1 x RTX 4090")


def test_what_is_advised_fits_when_it_is_asked_for() -> None:
    wish = HardwareWish(gpus=("rtx-4090",), num_gpus=1)
    request = PlanRequest(model="llama-3.1-8b", workload=TrainingWorkload(method="lora"), hardware=wish)
    (remedy,) = with_remedies(plan_request(request)).remedies
    assert remedy.fit.verdict is Verdict.TIGHT
    assert not remedy.advice.fits
    assert remedy.advice.changes
    for change in remedy.advice.changes:
        asked = replace(
            request,
            workload=change.workload,
            parallelism=change.parallelism,
            hardware=replace(wish, num_gpus=change.parallelism.num_gpus),
        )
        (fit,) = (fit for fit in plan_request(asked).fits if fit.estimate.tier is not Tier.RULE)
        assert fit.verdict is Verdict.FITS, change.labels
        saved = remedy.fit.estimate.expected_bytes - fit.estimate.expected_bytes
        assert change.saved_bytes == saved


def test_at_most_three_changes_the_cheapest_first(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = advice(capsys, *TIGHT)
    prices = ["nothing", "quality", "job", "hardware"]
    ranks = [prices.index(change["price"]) for change in row["changes"]]
    assert 1 <= len(ranks) <= 3
    assert ranks == sorted(ranks)
    assert not row["fits"]
    assert all(change["fits"] for change in row["changes"])


def test_the_text_says_what_is_saved(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*TIGHT]) == 0
    out = capsys.readouterr().out
    assert "would fit 1 x RTX 4090 with" in out
    assert " saves " in out.partition("would fit")[2]


def test_what_fits_is_advised_only_when_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert advice(capsys, *ROOMY) == []
    (row,) = advice(capsys, *ROOMY, "--explain")
    assert row["fits"]
    assert all(change["saved_bytes"] > 0 for change in row["changes"])


def test_nothing_is_advised_without_hardware_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert advice(capsys, "--model", "llama-3.1-8b", "--method", "lora") == []
    assert advice(capsys, "--model", "llama-70b", "--gpu", "rtx-4090", "--num-gpus", "1") == []


def test_a_hopeless_job_is_said_to_be_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--model", "llama-70b", "--method", "full", "--gpu", "t4", "--num-gpus", "1"]) == 1
    assert "nothing tried makes it fit 1 x T4" in capsys.readouterr().out
