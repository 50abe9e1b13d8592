"""``plan cost`` and ``plan pretrain`` as a user meets them."""

from __future__ import annotations

import json

import pytest

from tests.conftest import RunPlan


def test_every_way_of_paying_beside_each_other(run_plan: RunPlan) -> None:
    done = run_plan("cost", "--gpu", "h100-sxm5-80gb", "--num-gpus", "8", "--hours", "24")
    assert done.returncode == 0
    for words in ("rent on demand", "rent spot", "own ", "kWh", "CO2e", "breaks even", "assumed:"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout


def test_the_lectures_row_stands_beside_renting(run_plan: RunPlan) -> None:
    done = run_plan(
        "cost",
        "--gpu",
        "l40s",
        "--params",
        "8B",
        "--tokens",
        "2.4M",
        "--epochs",
        "3",
        "--tokens-per-s",
        "1800",
        "--json",
    )
    (answer,) = json.loads(done.stdout)
    assert answer["num_tokens"] == 7_200_000
    assert [quote["usd"] for quote in answer["managed"] if "lecture" in quote["service"]] == [5.0]
    assert answer["hours"] == pytest.approx(7_200_000 / 1800 / 3600)
    assert answer["on_demand"]["offer"]["age_days"] is None or answer["on_demand"]["offer"]["age_days"] >= 0


LLAMA_LORA = (
    "cost",
    "--model",
    "meta-llama/Meta-Llama-3-8B",
    "--method",
    "lora",
    "--tokens",
    "2.4M",
    "--epochs",
    "3",
)


def test_a_model_gives_the_hours_on_each_gpu_named(run_plan: RunPlan) -> None:
    done = run_plan(*LLAMA_LORA, "--gpu", "l40s", "--gpu", "h100-sxm5-80gb", "--json")
    slow, fast = json.loads(done.stdout)
    assert (slow["gpu"], fast["gpu"]) == ("l40s", "h100-sxm5-80gb")
    for job in (slow, fast):
        assert job["num_tokens"] == 7_200_000
        assert job["hours"] == pytest.approx(7_200_000 / job["tokens_per_s"]["expected"] / 3600)
        assert job["hours_range"]["low"] < job["hours"] < job["hours_range"]["high"]
        assert [quote["usd"] for quote in job["managed"] if "lecture" in quote["service"]] == [5.0]
    assert fast["hours"] < slow["hours"]


def test_a_job_that_no_named_gpu_holds_ends_in_one_line(run_plan: RunPlan) -> None:
    done = run_plan(
        "cost",
        "--model",
        "meta-llama/Llama-3.1-8B",
        "--method",
        "full",
        "--gpu",
        "t4",
        "--num-gpus",
        "1",
        "--hours",
        "1",
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no GPU that was asked for holds this job" in done.stderr


def test_explain_gives_each_assumption_its_source(run_plan: RunPlan) -> None:
    done = run_plan("cost", "--gpu", "t4", "--hours", "1", "--pue", "1.2", "--explain")
    lines = [line for line in done.stdout.splitlines() if line.startswith("assumed:")]
    assert not [line for line in lines if "power usage" in line], "what the user gave is no assumption"
    assert [line for line in lines if "https://" in line]


def test_an_owned_machine_costs_nothing_to_rent(run_plan: RunPlan) -> None:
    run_plan("prices", "add", "--gpu", "l40s", "--num-gpus", "4", "--owned", "--name", "lab")
    (answer,) = json.loads(run_plan("cost", "--gpu", "l40s", "--num-gpus", "4", "--hours", "5", "--json").stdout)
    assert answer["on_demand"]["usd"] == 0
    assert answer["on_demand"]["offer"]["provider"] == "lab"


def test_pretraining_gpt3(run_plan: RunPlan) -> None:
    done = run_plan("pretrain", "--params", "175B", "--tokens", "300B", "--gpu", "v100", "--gpu", "a100", "--json")
    answer = json.loads(done.stdout)
    assert answer["flops"] == 6 * 175 * 10**9 * 300 * 10**9
    assert [run["gpu"] for run in answer["runs"]] == ["v100-sxm2-16gb", "a100-sxm4-80gb"]
    for run in answer["runs"]:
        assert run["gpu_hours_low"] < run["gpu_hours"] < run["gpu_hours_high"]
        assert run["usd"] == pytest.approx(run["gpu_hours"] * run["usd_per_gpu_hour"])


def test_too_few_gpus_for_the_training_states_are_said(run_plan: RunPlan) -> None:
    assert "cannot hold" in run_plan("pretrain", "--params", "175B", "--gpu", "h100", "--num-gpus", "8").stderr
    assert (
        "cannot hold" not in run_plan("pretrain", "--params", "175B", "--gpu", "h100", "--num-gpus", "64").stderr
    )


def test_pretraining_takes_the_active_parameters_of_a_model(run_plan: RunPlan) -> None:
    dense = json.loads(run_plan("pretrain", "--model", "meta-llama/Llama-3.1-70B", "--json").stdout)
    assert dense["num_tokens"] == 20 * dense["num_params"]
    sparse = json.loads(run_plan("pretrain", "--model", "mistralai/Mixtral-8x7B-v0.1", "--json").stdout)
    assert sparse["num_params"] < 14 * 10**9


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["cost"], 2),
        (["cost", "--gpu", "t4"], 2),
        (["cost", "--gpu", "t4", "--hours", "-1"], 2),
        (["cost", "--gpu", "t4", "--hours", "nan"], 2),
        (["cost", "--model", "meta-llama/Llama-3.1-8B", "--method", "lora", "--gpu", "l40s"], 2),
        (["cost", "--gpu", "t4", "--hours", "1e300"], 2),
        (["cost", "--gpu", "t4", "--hours", "1", "--buy-usd", "1e999999"], 2),
        (["pretrain", "--params", "99999999999T"], 2),
        (["cost", "--gpu", "t4", "--hours", "1", "--num-gpus", "0"], 2),
        (["cost", "--gpu", "t4", "--hours", "1", "--pue", "0.5"], 2),
        (["cost", "--gpu", "t4", "--hours", "1", "--usd-per-kwh", "nan"], 2),
        (["cost", "--gpu", "t4", "--hours", "1", "--buy-usd", "inf"], 2),
        (["cost", "--gpu", "t4", "--tokens", "1M", "--tokens-per-s", "0"], 2),
        (["cost", "--gpu", "h1oo", "--hours", "1"], 3),
        (["cost", "--params", "900B", "--tokens", "1M"], 3),
        (["pretrain"], 2),
        (["pretrain", "--params", "7B", "--mfu", "2"], 2),
        (["pretrain", "--params", "7B", "--num-gpus", "0"], 2),
        (["pretrain", "--params", "7B", "--gpu", "gtx 1080"], 3),
        (["pretrain", "--params", "seven"], 2),
    ],
)
def test_bad_input_ends_in_one_line(run_plan: RunPlan, arguments: list[str], code: int) -> None:
    done = run_plan(*arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
