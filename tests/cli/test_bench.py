"""``plan bench`` as a user runs it on the published cases."""

from __future__ import annotations

import json
from pathlib import Path

CASES = Path(__file__).parent.parent.parent / "benchmarks" / "cases"


def test_the_published_memory_cases(run_plan, tmp_path: Path) -> None:
    out = tmp_path / "predictions.jsonl"
    done = run_plan("bench", str(CASES / "memory.jsonl"), "--json", "--out", str(out))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    groups = {group["group"]: group for group in answer["groups"]}
    predictions = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    num_cases = sum(1 for line in (CASES / "memory.jsonl").open(encoding="utf-8") if line.strip())
    assert len(predictions) == num_cases == len(answer["predictions"])
    assert not [row for row in answer["refused"] if "internal error" in row["reason"]]
    assert all((row["predicted"] is None) == (row["reason"] is not None) for row in predictions)
    # The promises of docs/accuracy.md, with room for the next case.
    assert groups["serve-engine:weights"]["median_absolute"] <= 0.005
    assert groups["serve-engine:kv"]["median_absolute"] <= 0.03
    assert groups["serve-hf"]["median_absolute"] <= 0.01
    assert groups["serve-hf"]["p90_absolute"] <= 0.10


def test_the_table_names_what_was_not_answered(run_plan, tmp_path: Path) -> None:
    lines = (CASES / "memory.jsonl").read_text(encoding="utf-8").splitlines()
    case = json.loads(next(line for line in lines if '"family": "serve-hf"' in line))
    case["request"]["serve"]["engine"] = "triton"
    path = tmp_path / "cases.jsonl"
    path.write_text(json.dumps(case), encoding="utf-8")
    done = run_plan("bench", str(path), "--worst", "3")
    assert done.returncode == 0, done.stderr
    assert "not predicted (1)" in done.stdout
    assert "triton" in done.stdout


def test_bad_input_is_one_line(run_plan, tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{\n", encoding="utf-8")
    for args in (
        ("broken.jsonl",),
        ("absent.jsonl",),
        (str(CASES / "memory.jsonl"), "--by", "weather"),
        (str(CASES / "memory.jsonl"), "--core", "--out", "no/such/place.jsonl"),
    ):
        done = run_plan("bench", *args)
        assert done.returncode == 2, args
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert "Traceback" not in done.stderr
