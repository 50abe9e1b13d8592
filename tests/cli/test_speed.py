"""Speed and the length of a job in the main answer."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from planner.job import jobs
from planner.plan import plan_request
from planner.request import HardwareWish, PlanRequest, ServingWorkload, TrainingWorkload
from planner.speeds import with_speeds
from tui.cli import run
from tui.render import sheet, speed, table

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "plan.schema.json").read_text())
LORA = ("--model", "llama-3.1-8b", "--method", "lora")


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert run([*args, "--json"]) in (0, 1)
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    return document


def analytic(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [fit for fit in document["fits"] if fit["tier"] == "analytic"]


def test_a_training_answer_has_the_speed_of_every_fit(capsys: pytest.CaptureFixture[str]) -> None:
    fits = analytic(answer(capsys, *LORA))
    assert fits
    for fit in fits:
        rate, step = fit["speed"]["tokens_per_s"], fit["speed"]["step_time_s"]
        assert rate["low"] < rate["expected"] < rate["high"]
        assert rate["expected"] * step["expected"] == pytest.approx(2048 * fit["num_gpus"])
        assert 0.01 < fit["speed"]["mfu"] < 1
        assert "job" not in fit


def test_epochs_multiply_the_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    thrice, (at_once,) = [
        analytic(answer(capsys, *LORA, "--gpu", "h100-sxm5-80gb", *length))
        for length in (("--tokens", "2M", "--epochs", "3"), ("--tokens", "6M"))
    ]
    assert [fit["job"] for fit in thrice] == [at_once["job"]]
    assert at_once["job"]["tokens"] == 6_000_000


def test_epochs_of_nothing_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*LORA, "--epochs", "3"]) == 2
    assert "epochs of how many tokens" in capsys.readouterr().err


def test_tokens_give_hours_and_their_price_as_plan_cost_does(capsys: pytest.CaptureFixture[str]) -> None:
    (fit,) = analytic(answer(capsys, *LORA, "--gpu", "h100-sxm5-80gb", "--tokens", "10M"))
    job = fit["job"]
    assert job["tokens"] == 10_000_000
    for end in ("low", "expected", "high"):
        assert job["usd"][end] == pytest.approx(job["hours"][end] * fit["usd_per_hour"])
    assert job["hours"]["high"] == pytest.approx(10_000_000 / fit["speed"]["tokens_per_s"]["low"] / 3600)
    wish = HardwareWish(gpus=("h100-sxm5-80gb",))
    request = PlanRequest(model="llama-3.1-8b", workload=TrainingWorkload(method="lora"), hardware=wish)
    (same,), _ = jobs(request, num_tokens=10_000_000)
    assert job["hours"]["expected"] == pytest.approx(same.hours.expected)


def test_a_serving_answer_has_times_and_the_rate_of_all_requests(capsys: pytest.CaptureFixture[str]) -> None:
    question = ("--model", "llama-3.1-8b", "--task", "serve", "--engine", "vllm", "--gpu", "h100-sxm5-80gb")
    (alone,) = analytic(answer(capsys, *question))
    (many,) = analytic(answer(capsys, *question, "--batch-size", "8"))
    assert alone["speed"].keys() == {"ttft_s", "tpot_s", "output_tokens_per_s", "calibration"}
    assert many["speed"]["ttft_s"] == alone["speed"]["ttft_s"]
    one, all_of_them = (fit["speed"]["output_tokens_per_s"]["expected"] for fit in (alone, many))
    assert one < all_of_them < 8 * one


def test_an_overview_tells_speed_only_of_a_job_with_a_length(capsys: pytest.CaptureFixture[str]) -> None:
    question = ("--model", "llama-3.1-8b", "--bits", "4")
    assert all("speed" not in fit for fit in answer(capsys, *question)["fits"])
    fits = analytic(answer(capsys, *question, "--tokens", "1M"))
    assert {fit["task"] for fit in fits if "job" in fit} == {"train"}
    assert all("speed" not in fit for fit in fits if fit["task"] == "serve")


def test_what_does_not_run_and_what_is_not_known_gets_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    gpus = ("--gpu", "t4", "--gpu", "dgx-spark", "--gpu", "h100-sxm5-80gb", "--num-gpus", "1")
    document = answer(capsys, *LORA, *gpus)
    told = {fit["gpu_id"]: "speed" in fit for fit in analytic(document)}
    assert told == {"t4": False, "dgx-spark": False, "h100-sxm5-80gb": True}
    assert any("DGX Spark" in warning and "not predicted" in warning for warning in document["warnings"])
    run([*LORA, *gpus])
    lines = capsys.readouterr().out.splitlines()
    (heading,) = (line for line in lines if "verdict" in line)
    end = heading.index("tokens/s") + len("tokens/s")
    cells = {line.split()[2]: line[:end].split()[-1] for line in lines if line.startswith("  1 x")}
    assert (cells["T4"], cells["DGX"]) == ("-", "-")
    assert cells["H100"].replace(",", "").isdigit()


@pytest.mark.parametrize(
    "untimed",
    [(*LORA, "--objective", "grpo"), ("--model", "bert-base", "--task", "serve")],
    ids=["grpo", "encoder"],
)
def test_what_the_formulas_of_time_leave_out_is_refused_by_name(
    capsys: pytest.CaptureFixture[str], untimed: tuple[str, ...]
) -> None:
    document = answer(capsys, *untimed)
    assert all("speed" not in fit for fit in document["fits"])
    assert any("speed" in warning for warning in document["warnings"])


def test_csv_has_the_expected_speed(capsys: pytest.CaptureFixture[str]) -> None:
    question = (*LORA, "--tokens", "1M")
    fits = answer(capsys, *question)["fits"]
    assert run([*question, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for row, fit in zip(rows, fits, strict=True):
        assert float(row["tokens_per_s"]) == fit["speed"]["tokens_per_s"]["expected"]
        assert float(row["hours"]) == fit["job"]["hours"]["expected"]
        assert row["ttft_s"] == ""


@pytest.mark.parametrize("gpu", ["h100-sxm5-80gb", "rtx-pro-6000-blackwell-workstation"])
@pytest.mark.parametrize("workload", [TrainingWorkload(method="lora", num_tokens=10_000_000), ServingWorkload()])
@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_terminal_shows_speed_and_rental_in_full(
    width: int, workload: TrainingWorkload | ServingWorkload, gpu: str
) -> None:
    wish = HardwareWish(gpus=(gpu,))
    plan = with_speeds(plan_request(PlanRequest(model="llama-3.1-8b", workload=workload, hardware=wish)))
    console = Console(width=width, file=io.StringIO(), record=True)
    table.show(plan, console=console)
    text = console.export_text()
    assert "…" not in text
    (fit,) = (fit for fit in plan.fits if fit.speed)
    assert all(word in text for word in sheet.rented_from(fit).split())
    for cell in speed.cells(fit, [fit]):
        assert cell in text


def test_a_report_has_the_speed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "answer.md"
    assert run([*LORA, "--gpu", "h100-sxm5-80gb", "--tokens", "10M", "--report", str(path)]) == 0
    (heading,) = (line for line in path.read_text().splitlines() if "| GPUs" in line)
    assert "tokens/s | hours | USD in all | USD/h" in heading
    assert capsys.readouterr().out
