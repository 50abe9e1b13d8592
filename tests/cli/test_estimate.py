"""The answer as a script meets it: JSON that keeps its schema, exit codes, one line for every mistake."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tui.cli import run

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "plan.schema.json").read_text())


def ask(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = run(list(args))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    code, out, _ = ask(capsys, *args, "--json")
    assert code == 0
    document: dict[str, Any] = json.loads(out)
    jsonschema.validate(document, SCHEMA)
    return document


def estimates(document: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in document["estimates"] if all(row[name] == value for name, value in wanted.items())]


@pytest.mark.parametrize(("bits", "total"), [("16", 168), ("8", 84), ("4", 42), ("32", 336)])
def test_the_documents_serving_rule_to_the_byte(capsys: pytest.CaptureFixture[str], bits: str, total: int) -> None:
    document = answer(capsys, "--model", "llama-70b", "--bits", bits)
    (rule,) = estimates(document, task="serve", tier="rule")
    assert rule["expected_bytes"] == rule["low_bytes"] == rule["high_bytes"] == total * 10**9


def test_two_a100_hold_the_documents_example_by_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "--model", "llama-70b", "--bits", "16")
    by_rule = [fit for fit in document["fits"] if fit["tier"] == "rule" and fit["task"] == "serve"]
    counts = {fit["gpu"]: fit["num_gpus"] for fit in by_rule}
    assert counts["A100 SXM4 80GB"] == 2


def test_a_billion_parameters_by_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "--params", "1B", "--bits", "32")
    totals = {(row["task"], row["label"]): row["expected_bytes"] for row in document["estimates"]}
    assert totals[("store", "stored weights")] == 4 * 10**9
    assert totals[("train", None)] == 24 * 10**9
    assert totals[("train", "pessimistic")] == 80 * 10**9


def test_a_size_alone_gets_no_estimate_and_is_told_why(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "--params", "7B")
    assert code == 0
    assert "name a model" in out
    document = answer(capsys, "--params", "7B")
    assert {row["tier"] for row in document["estimates"]} == {"rule"}


def test_an_ambiguous_name_is_said_on_stderr_and_among_the_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, err = ask(capsys, "--model", "llama-70b", "--json")
    assert "Llama-2-70b" in err
    assert any("Llama-2-70b" in warning for warning in json.loads(out)["warnings"])


@pytest.mark.parametrize(("model", "gib"), [("gpt-oss-120b", 60.8), ("gpt-oss-20b", 12.8)])
def test_a_model_published_quantised_is_planned_as_published(
    capsys: pytest.CaptureFixture[str], model: str, gib: float
) -> None:
    """Checkpoint sizes: table 1 of the gpt-oss model card, https://arxiv.org/abs/2508.10925."""
    document = answer(capsys, "--model", model)
    serving, *training = estimates(document, tier="analytic")
    weights = sum(term["size_bytes"] for term in serving["terms"] if term["kind"] == "weights")
    assert serving["task"] == "serve"
    assert weights / 2**30 == pytest.approx(gib, rel=0.005)
    assert {row["method"] for row in training} == {"lora", "full"}


@pytest.mark.parametrize(
    ("options", "tasks"),
    [
        (("--engine", "vllm"), {"serve"}),
        (("--optimizer", "adamw-8bit"), {"train"}),
        (("--engine", "vllm", "--optimizer", "adamw-8bit"), {"serve", "train"}),
        (("--seq-len", "1024"), {"serve", "train"}),
    ],
)
def test_an_option_of_one_task_asks_for_that_task(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], tasks: set[str]
) -> None:
    document = answer(capsys, "--model", "llama-8b", *options)
    assert {row["task"] for row in estimates(document, tier="analytic")} == tasks


def test_the_largest_batch_fits_and_one_more_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    job = ("--model", "llama-8b", "--method", "lora", "--gpu", "A100 80GB", "--num-gpus", "1")
    (batch, _) = answer(capsys, *job)["largest"]
    assert batch["field"] == "batch_size"
    (fits,) = answer(capsys, *job, "--batch-size", str(batch["largest"]))["fits"]
    assert fits["expected_bytes"] <= fits["memory_bytes"]
    code, _, _ = ask(capsys, *job, "--batch-size", str(batch["largest"] + 1))
    assert code == 1


def test_gguf_weights_are_served_by_llama_cpp(capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "--model", "llama-8b", "--weight-dtype", "q4_k_m")
    (serving,) = estimates(document, tier="analytic")
    assert serving["method"] == "llama.cpp"
    (question,) = document["request"]["questions"]
    assert question["workload"]["weight_dtype"] == "gguf-q4_k_m"


def test_requests_at_once_are_asked_for_by_either_name(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--model", "llama-8b", "--task", "serve")
    many, same = (answer(capsys, *asked, flag, "7") for flag in ("--concurrency", "--batch-size"))
    assert many["estimates"] == same["estimates"]


def test_csv_has_the_fits_of_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--model", "llama-70b", "--bits", "16")
    document = answer(capsys, *args)
    _, out, _ = ask(capsys, *args, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["gpu"], int(row["num_gpus"]), row["verdict"]) for row in rows] == [
        (fit["gpu"], fit["num_gpus"], fit["verdict"]) for fit in document["fits"]
    ]


BROKEN_CONFIG = "broken config"


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (("--model", "llama-70b", "--bits", "5"), 2, "5"),
        (("--model", "llama-70b", "--batch-size", "-1"), 2, "batch size"),
        (("--model", "llama-70b", "--batch-size", "1" + "0" * 25), 2, "batch size"),
        (("--model", "llama-70b", "--lora-rank", "0"), 2, "rank"),
        (("--model", "llama-70b", "--lora-dropout", "nan"), 2, "dropout"),
        (("--model", "llama-70b", "--max-usd-per-hour", "NaN"), 2, "usd"),
        (("--model", "llama-70b", "--num-gpus", "0"), 2, "number of GPUs"),
        (("--model", "llama-70b", "--bits", "8", "--method", "full"), 2, "qlora"),
        (("--model", "llama-70b", "--bits", "4", "--method", "full"), 2, "qlora"),
        (("--model", "llama-70b", "--optimizer", "adanw"), 2, "adamw"),
        (("--model", "llama-70b", "--method", "dpo"), 2, "--objective dpo"),
        (("--model", "llama-70b", "--modle", "x"), 2, "--model"),
        (("--model", "llama-70b", "--weight-dtype", "int3"), 3, "int"),
        (("--model", "llama-70c"), 3, "llama"),
        (("--model", "~nobody-here/model"), 3, "model"),
        (("--model", "llama-70b", "--gpu", "A1000 80GB"), 3, "A100"),
        (("--model", "llama-70b", "--request", "r.json"), 2, "--request"),
        (("--model", "llama-70b", "--json", "--csv"), 2, "exclude"),
        (("--model", "llama-70b", "--provider", "runpodd"), 3, "runpod"),
        (("--model", "llama-70b", "--region", "mars"), 3, "mars"),
        (("--params", "minus"), 2, "count"),
        (("--params", "0"), 2, "350M"),
        (("--params", "9" * 60), 2, ""),
        ((), 2, "no model"),
        (("nonsense",), 2, "nonsense"),
        (("--model", ""), 2, "no model"),
    ],
)
def test_a_mistake_is_one_line_with_a_way_out(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], code: int, word: str
) -> None:
    given, out, err = ask(capsys, *(args or ("estimate",)))
    assert given == code
    assert out == ""
    assert err.count("\n") == 1
    assert word in err
    assert "Traceback" not in err


def test_a_broken_or_unreadable_config_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number, text in enumerate(("{", "[]", '{"model_type": "llama"}', '{"model_type": 7}', "\x00" * 10)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.json").write_text(text)
        code, out, err = ask(capsys, "--model", str(folder))
        assert code in (2, 3), text
        assert out == ""
        assert err.count("\n") == 1
    (tmp_path / "empty").mkdir()
    assert ask(capsys, "--model", str(tmp_path / "empty"))[0] in (2, 3)


@pytest.mark.parametrize(("module", "code", "word"), [("peft", 4, "[validate]"), ("nowhere", 70, "defect")])
def test_a_missing_module_names_its_extra_and_any_other_error_is_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: str, code: int, word: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.delenv("GPU_PLANNER_DEBUG", raising=False)
    monkeypatch.setattr("tui.cli.plan.main", fail)
    given, out, err = ask(capsys, "--model", "llama-70b")
    assert (given, out) == (code, "")
    assert word in err
    assert err.count("\n") == 1


def test_a_reader_that_leaves_early_ends_the_answer_quietly() -> None:
    command = f"{sys.executable} -m tui.cli --model llama-70b --task train --json | head -c 10"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "Error" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_rule_that_does_not_fit_what_was_named_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--model", "llama-70b", "--bits", "16", "--task", "serve", "--tier", "rule", "--gpu", "A100 80GB")
    assert ask(capsys, *args, "--num-gpus", "1")[0] == 1
    assert ask(capsys, *args, "--num-gpus", "2")[0] == 0


@pytest.mark.parametrize(
    "wish",
    [("--min-memory", "500GB"), ("--max-usd-per-hour", "0.01"), ("--provider", "verda", "--region", "mars")],
)
def test_a_wish_nothing_meets_is_said_and_exits_with_a_code(
    capsys: pytest.CaptureFixture[str], wish: tuple[str, ...]
) -> None:
    code, out, err = ask(capsys, "--model", "llama-8b", "--task", "serve", *wish)
    assert code == (3 if "mars" in wish else 1)
    assert "no priced GPU" in err or "nothing holds it" in err or "mars" in err
    assert "A100" not in out.partition("estimate")[2]


def test_a_reader_that_has_gone_is_not_a_plan_that_does_not_fit() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run([sys.executable, "-m", "tui.cli", "gpus"], stdout=gone, stderr=gone, cwd=ROOT)
    assert done.returncode == 0


def test_plan_alone_in_a_pipe_shows_help_and_its_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capsys)
    assert (code, err) == (0, "")
    assert "Commands:" in out
    code, out, _ = ask(capsys, "--version")
    assert code == 0
    assert out.startswith("plan")


def test_every_field_of_the_schema_is_documented() -> None:
    text = (ROOT / "docs" / "json-schema.md").read_text(encoding="utf-8")
    holders = [SCHEMA, *(SCHEMA["$defs"][name] for name in ("estimate", "fit", "term", "advice", "change"))]
    missing = [name for holder in holders for name in holder["properties"] if f"`{name}`" not in text]
    assert missing == []
