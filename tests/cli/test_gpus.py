"""``plan gpus`` as a user meets it."""

from __future__ import annotations

import json

import pytest

from tests.conftest import RunPlan


def test_a_listing_in_a_pipe_is_plain_aligned_text(run_plan: RunPlan) -> None:
    done = run_plan("gpus", "--cuda-only", "--min-memory", "80GB", "--sort", "price", "--limit", "5")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["GPU", "memory"]
    assert len(lines) == 1 + 5 + 1
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_json_speaks_in_base_units(run_plan: RunPlan) -> None:
    done = run_plan("gpus", "a100-sxm4-80gb", "--json")
    (gpu,) = json.loads(done.stdout)
    assert gpu["memory_bytes"] == 81920 * 1024**2
    assert gpu["dense_flops_per_s"]["bf16"] == 312 * 10**12
    assert gpu["usd_per_gpu_hour"] > 0
    assert gpu["price_as_of"]


def test_filters_hold_and_best_comes_first(run_plan: RunPlan) -> None:
    done = run_plan(
        "gpus", "--vendor", "nvidia", "--architecture", "ampere", "--max-price", "2", "--sort", "bf16", "--json"
    )
    found = json.loads(done.stdout)
    assert found
    rates = [gpu["dense_flops_per_s"].get("bf16", 0) for gpu in found]
    assert rates == sorted(rates, reverse=True)
    assert all(gpu["vendor"] == "NVIDIA" and gpu["architecture"] == "Ampere" for gpu in found)
    assert all(gpu["usd_per_gpu_hour"] <= 2 for gpu in found)


def test_one_match_shows_every_fact_with_its_source_and_doubt(run_plan: RunPlan) -> None:
    done = run_plan("gpus", "a10g")
    assert done.returncode == 0
    bf16 = next(line for line in done.stdout.splitlines() if line.startswith("bf16, dense"))
    assert "70" in bf16
    assert "unverified" in bf16
    assert "https://" in done.stdout
    assert "To rent" in done.stdout


def test_a_product_name_with_brackets_survives_rich(run_plan: RunPlan) -> None:
    assert "[rtx-4090]" in run_plan("gpus", "RTX 4090").stdout


def test_csv_has_one_row_per_gpu(run_plan: RunPlan) -> None:
    lines = run_plan("gpus", "h100", "--csv").stdout.splitlines()
    assert lines[0].startswith("GPU,memory")
    assert len(lines) == 1 + 8


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["h1oo"], 3, "did you mean"),
        (["--vendor", "Voodoo"], 2, "NVIDIA"),
        (["--min-memory", "ten parsecs"], 2, "24GiB"),
        (["--max-price", "0"], 2, "above zero"),
        (["--max-price", "nan"], 2, "amount"),
        (["--sort", "colour"], 2, "bandwidth"),
        (["--limit", "0"], 2, "--limit"),
        (["--min-memory", "99TiB"], 1, "loosen"),
    ],
)
def test_bad_values_get_one_line_and_their_exit_code(
    run_plan: RunPlan, arguments: list[str], code: int, words: str
) -> None:
    done = run_plan("gpus", *arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr
