from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tui.answer_file import load
from tui.cli import run
from tui.comparison import compare

LORA = ("--model", "llama-8b", "--method", "lora")


def written(path: Path, capsys: pytest.CaptureFixture[str], *args: str) -> Path:
    assert run([*args, "--json"]) == 0
    path.write_text(capsys.readouterr().out)
    return path


def test_terms_stand_side_by_side_and_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = written(tmp_path / "a.json", capsys, *LORA, "--batch-size", "1")
    b = written(tmp_path / "b.json", capsys, *LORA, "--batch-size", "4")
    (pair,) = compare(load(a), load(b)).pairs
    assert sum(row.first_bytes or 0 for row in pair.rows) == pair.first.expected_bytes
    assert sum(row.second_bytes or 0 for row in pair.rows) == pair.second.expected_bytes
    grown = sum(row.difference_bytes for row in pair.rows)
    assert grown == pair.second.expected_bytes - pair.first.expected_bytes > 0
    weights = next(row for row in pair.rows if row.label == "weights")
    assert weights.difference_bytes == 0
    assert run(["compare", str(a), str(b)]) == 0
    assert "weights" in capsys.readouterr().out


def test_methods_of_one_task_are_compared_when_they_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = written(tmp_path / "a.json", capsys, *LORA)
    b = written(tmp_path / "b.json", capsys, "--model", "llama-8b", "--method", "qlora")
    assert run(["compare", str(a), str(b), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(pair["first"]["method"], pair["second"]["method"]) for pair in document["pairs"]] == [
        ("lora", "qlora")
    ]


def test_request_files_are_answered_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = tmp_path / "request.json"
    answer = written(tmp_path / "answer.json", capsys, *LORA, "--save-request", str(request))
    (pair,) = compare(load(request), load(answer)).pairs
    assert all(row.difference_bytes == 0 for row in pair.rows)


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"schema_version": 1}', '{"schema_version": 2, "estimates": []}']
)
def test_what_is_no_answer_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text(content)
    assert run(["compare", str(broken), str(broken)]) == 2
    assert run(["compare", str(tmp_path / "absent.json"), str(broken)]) == 2
    assert capsys.readouterr().err.count("\n") == 2
