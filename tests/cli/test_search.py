"""``plan search``, ``plan export`` and ``plan advise`` as a script meets them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.conftest import RunPlan

JOB = ("--model", "meta-llama/Llama-3.1-8B", "--method", "lora", "--gpu", "rtx-4090", "--max-gpus", "2")


def test_json_carries_the_count_the_plans_and_no_misses(run_plan: RunPlan) -> None:
    done = run_plan("search", *JOB, "--tokens", "10M", "--json", "--top", "3")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["num_candidates"] > 1000
    assert len(answer["plans"]) <= 3
    assert answer["near_misses"] == []
    usd = [plan["usd"] for plan in answer["plans"]]
    assert usd == sorted(usd)


def test_ranking_by_time_and_the_training_objective_are_told_apart(run_plan: RunPlan) -> None:
    done = run_plan("search", *JOB, "--tokens", "10M", "--by", "time", "--objective", "sft", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["ranked_by"] == "time"
    hours = [plan["hours"] for plan in answer["plans"]]
    assert hours == sorted(hours)


def test_a_budget_nothing_meets_exits_1_and_says_why(run_plan: RunPlan) -> None:
    done = run_plan("search", *JOB, "--tokens", "1B", "--max-usd", "0.01")
    assert done.returncode == 1
    assert "nearest miss by price" in done.stdout
    assert "over the budget" in done.stdout


def test_csv_and_parquet_hold_the_same_plans(run_plan: RunPlan, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "plans.parquet"
    done = run_plan("search", *JOB, "--tokens", "10M", "--csv", "--parquet", str(path))
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    frame = pandas.read_parquet(path)
    assert [row["gpu"] for row in rows] == list(frame["gpu"])[: len(rows)]


def test_a_dataset_and_its_epochs_set_the_tokens(run_plan: RunPlan, tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    sample = {"messages": [{"role": "user", "content": "x" * 3000}, {"role": "assistant", "content": "y" * 1000}]}
    path.write_text("".join(json.dumps(sample) + "\n" for _ in range(1000)))
    by_file = run_plan("search", *JOB, "--dataset", str(path), "--epochs", "3", "--json", "--top", "1")
    by_count = run_plan("search", *JOB, "--tokens", "3M", "--json", "--top", "1")
    assert by_file.returncode == 0, by_file.stderr
    assert "1,000 samples, about 1,000,000 tokens" in by_file.stderr
    assert json.loads(by_file.stdout)["plans"] == json.loads(by_count.stdout)["plans"]


def test_solving_names_the_largest_that_fits(run_plan: RunPlan) -> None:
    done = run_plan("search", *JOB[:-2], "--solve", "seq-len", "--json")
    assert done.returncode == 0, done.stderr
    (solution,) = json.loads(done.stdout)["solutions"]
    assert 512 < solution["largest"] <= solution["largest_expected"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("search", *JOB, "--max-usd", "5"), 2, "--tokens"),
        (("search", *JOB, "--min-concurrency", "4"), 2, "serving"),
        (("search", "--params", "7B", "--method", "lora"), 3, "only the size"),
        (("search", *JOB, "--providers", "nobody", "--tokens", "1M"), 1, ""),
        (("search", *JOB, "--solve", "concurrency"), 2, "serving"),
        (("export", "--to", "trl", *JOB, "--gpu", "h100"), 2, "one kind of GPU"),
        (("search", *JOB, "--epochs", "3"), 2, "--dataset"),
        (("search", *JOB, "--dataset", "missing.jsonl"), 2, "cannot be read"),
        (("export", "--to", "vllm", *JOB), 3, "training plan"),
        (("export", "--to", "nonsense", *JOB), 2, "no target 'nonsense'"),
        (("search", *JOB, "--by", "beauty"), 2, "no ranking 'beauty'"),
        (("search", *JOB, "--solve", "seq-len", "--report", "a.html"), 2, "--solve answers"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(
    run_plan: RunPlan, args: tuple[str, ...], code: int, said: str
) -> None:
    done = run_plan(*args)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_exported_folder_reads_back(run_plan: RunPlan, tmp_path: Path) -> None:
    first = run_plan("export", "--to", "trl", *JOB[:-2], "--num-gpus", "2", "--out", str(tmp_path / "a"))
    assert first.returncode == 0, first.stderr
    again = run_plan(
        "export", "--to", "trl", "--request", str(tmp_path / "a" / "sft.yaml"), "--out", str(tmp_path / "b")
    )
    assert again.returncode == 0, again.stderr
    for name in ("sft.yaml", "accelerate.yaml"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()
    refused = run_plan(
        "export", "--to", "trl", "--request", str(tmp_path / "a" / "sft.yaml"), "--out", str(tmp_path / "b")
    )
    assert refused.returncode == 2
    assert "--force" in refused.stderr


def test_advice_exits_1_where_the_plan_does_not_fit(run_plan: RunPlan) -> None:
    done = run_plan(
        "advise", "--model", "meta-llama/Llama-3.1-8B", "--method", "full", "--gpu", "rtx-4090", "--json"
    )
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert not answer["fits"]
    assert all(change["fits"] for change in answer["changes"])
