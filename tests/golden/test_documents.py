"""The founding documents' numbers, asked for on the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from planner.memory import rule
from tui.cli import run


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert run([*args, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def adapter_params(document: dict[str, Any]) -> int:
    """Trainable parameters, as the adapter's term counts them."""
    (estimate,) = (row for row in document["estimates"] if row["tier"] == "analytic")
    (term,) = (term for term in estimate["terms"] if term["kind"] == "adapter")
    return int(term["inputs"]["parameters"])


def test_mistral_with_rank_64_on_q_and_v_trains_27_million_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    question = (
        "--model",
        "mistral-7b",
        "--method",
        "lora",
        "--lora-rank",
        "64",
        "--lora-targets",
        "q_proj,v_proj",
    )
    assert adapter_params(answer(capsys, *question)) == 27_262_976


def test_five_prompt_tokens_on_t5_xxl_train_20480_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    question = ("--model", "google/flan-t5-xxl", "--method", "prompt-tuning", "--num-virtual-tokens", "5")
    assert adapter_params(answer(capsys, *question)) == 20_480


def test_a_small_matrix_saves_86_percent() -> None:
    assert rule.lora_params(8, 512, 64) == 4_608
    saved = 1 - rule.lora_params(8, 512, 64) / (512 * 64)
    assert saved == pytest.approx(0.86, abs=0.005)


@pytest.mark.parametrize(
    ("bits", "gigabytes", "count"), [("32", "336.0", 4), ("16", "168.0", 2), ("8", "84.0", 1), ("4", "42.0", 1)]
)
def test_70b_is_served_by_so_many_a100(
    capsys: pytest.CaptureFixture[str], bits: str, gigabytes: str, count: int
) -> None:
    assert run(["--model", "llama-70b", "--bits", bits, "--task", "serve", "--tier", "rule"]) == 0
    assert f"{gigabytes} GB in all, held by {count} x A100 SXM4 80GB" in capsys.readouterr().out


def test_bitnet_counts_1_58_bits(capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "--params", "70B", "--bits", "1.58")
    (serving,) = (row for row in document["estimates"] if row["task"] == "serve")
    assert serving["expected_bytes"] == 16_590_000_000
    assert any("inference" in warning for warning in document["warnings"])


def test_a_65b_model_fine_tunes_with_qlora_on_one_48_gb_card(capsys: pytest.CaptureFixture[str]) -> None:
    question = ("--model", "llama-65b", "--method", "qlora", "--optimizer", "paged-adamw", "--seq-len", "512")
    document = answer(capsys, *question, "--gpu", "RTX A6000", "--num-gpus", "1")
    (fit,) = document["fits"]
    assert fit["verdict"] != "DOES_NOT_FIT"


def test_each_estimate_has_a_number_of_its_own_beside_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "--model", "llama-70b", "--bits", "16")
    serving = {row["tier"]: row["expected_bytes"] for row in document["estimates"] if row["task"] == "serve"}
    weights = 2 * document["model"]["params_total"]
    assert serving["rule"] == 168_000_000_000
    assert weights < serving["analytic"] < 1.05 * weights
