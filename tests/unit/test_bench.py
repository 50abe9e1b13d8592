"""The arithmetic of the scoreboard and the door of case files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.errors import RequestError
from planner.quantity import Tier
from validate.published.bench import Scored, quantile, relative_error, run_bench, score
from validate.published.cases import Case, Prediction, read_cases
from validate.published.recorded import LEFT_FOR_LATER, Recording

SERVE = {
    "id": "one",
    "family": "serve-hf",
    "request": {
        "model": "meta-llama/Llama-2-7b-hf", "task": "serve", "weight_dtype": "bf16", "compute_dtype": "bf16",
        "framework": "transformers", "num_gpus": 1,
        "serve": {"engine": "transformers", "prompt_tokens": 8, "output_tokens": 8, "concurrency": 1},
    },
    "measured": {"quantity": "allocated_peak", "value": 13_520_000_000, "unit": "bytes", "per_gpu": True},
}  # fmt: skip


def case(identifier: str, value: float, **changes: object) -> Case:
    document = json.loads(json.dumps(SERVE)) | {"id": identifier} | changes
    document["measured"]["value"] = value
    return Case.model_validate(document)


def scored(identifier: str, measured: float, predicted: float | None, low: float, high: float) -> Scored:
    each = case(identifier, measured)
    answer = Prediction(id=identifier, predicted=predicted, low=low, high=high)
    return Scored(case=each, prediction=answer, error=relative_error(each, answer))


def test_a_line_of_the_scoreboard() -> None:
    rows = [
        scored("a", 100, 104, 90, 110),
        scored("b", 100, 92, 80, 95),
        scored("c", 100, 130, 100, 160),
        scored("d", 100, None, 0, 0),
    ]
    line = score("group", rows)
    assert (line.num_scored, line.num_missing) == (3, 1)
    assert line.median_absolute == pytest.approx(0.08)
    assert line.p90_absolute == pytest.approx(0.08 + 0.8 * (0.30 - 0.08))
    assert line.worst == pytest.approx(0.30)
    assert line.bias == pytest.approx(0.04)
    assert line.within_5 == pytest.approx(1 / 3)
    assert line.within_10 == pytest.approx(2 / 3)
    assert line.under_by_5 == pytest.approx(1 / 3)
    assert line.inside == pytest.approx(2 / 3)
    assert line.width == pytest.approx(20 / 104)


def test_quantiles_interpolate() -> None:
    assert quantile([1, 2, 3, 4], 0.5) == 2.5
    assert quantile([4, 1, 3, 2], 0.9) == pytest.approx(3.7)


def test_within_the_printed_resolution_is_exact() -> None:
    each = Case.model_validate(SERVE | {"measured": SERVE["measured"] | {"value": 100.0, "resolution": 2}})
    answer = Prediction(id="one", predicted=101.5)
    assert relative_error(each, answer, within_resolution=True) == 0
    assert relative_error(each, answer) == pytest.approx(0.015)


def test_groups_of_the_engine_family() -> None:
    engine = {"family": "serve-engine"}
    named = {"weights": "weights", "kv_cache_tokens": "kv", "non_torch": "small", "activation_peak": "profile"}
    for quantity, group in named.items():
        measured = SERVE["measured"] | {"quantity": quantity}
        assert Case.model_validate(SERVE | engine | {"measured": measured}).group == f"serve-engine:{group}"
    loading = SERVE["measured"] | {"phase": "init"}
    assert Case.model_validate(SERVE | {"family": "lora", "measured": loading}).group == "lora:init"


def test_a_real_case_is_close_and_carries_an_interval() -> None:
    result = run_bench([case("one", 13_520_000_000)])
    (row,) = result.rows
    assert row.error == pytest.approx(0, abs=0.01)
    assert row.prediction.low is not None
    assert row.prediction.low <= row.prediction.predicted <= row.prediction.high


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": None}, "names no model"),
        ({"model": "nobody/has-this-model"}, "nobody/has-this-model"),
        ({"serve": {"engine": "triton", "prompt_tokens": 8, "output_tokens": 8}}, "triton"),
        ({"weight_dtype": "int7"}, "int7"),
        ({"num_gpus": "two"}, "num_gpus"),
    ],
)
def test_what_cannot_be_answered_is_listed_with_its_reason(
    change: dict[str, object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run_bench([Case.model_validate(SERVE | {"request": SERVE["request"] | change})])
    (row,) = result.refused
    assert row.error is None
    assert reason in str(row.prediction.reason)
    assert "internal error" not in str(row.prediction.reason)
    assert result.totals[0].num_missing == 1


def test_only_core_and_only_strong() -> None:
    cases = [case("a", 1e10, core=True), case("b", 1e10, weak=["why"]), case("c", 1e10)]
    assert [row.case.id for row in run_bench(cases, core=True).rows] == ["a"]
    assert [row.case.id for row in run_bench(cases, strong=True).rows] == ["a", "c"]
    assert run_bench(cases).tier is Tier.ANALYTIC


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2"),
        ('{"id": "x", "family": "f", "request": {}}', "line 2: measured"),
        (
            '{"id": "x", "family": "f", "request": {}, "measured": {"quantity": "q", "value": -1, "unit": "b"}}',
            "value",
        ),
        (json.dumps(SERVE), "line 2: 'one' was on line 1"),
    ],
)
def test_a_broken_line_is_refused_with_its_number(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(json.dumps(SERVE) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(RequestError) as caught:
        read_cases(path)
    assert complaint in caught.value.message
    assert "\n" not in caught.value.message.strip()


def test_an_absent_or_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError):
        read_cases(tmp_path / "absent.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(RequestError, match="no case"):
        read_cases(tmp_path / "empty.jsonl")


def test_an_optimizer_in_the_backward_pass_never_holds_all_gradients() -> None:
    train = {
        "model": "meta-llama/Llama-3.2-1B", "task": "train", "method": "full", "weight_dtype": "bf16",
        "compute_dtype": "bf16", "optimizer": "sgd", "batch_size": 1, "seq_len": 128, "framework": "torchtune",
        "gradient_checkpointing": True, "num_gpus": 1,
    }  # fmt: skip
    plain, within = (
        Case.model_validate(SERVE | {"id": str(flag), "request": train | {"optimizer_in_backward": flag}})
        for flag in (False, True)
    )
    before, after = (row.prediction.predicted for row in run_bench([plain, within]).rows)
    assert before is not None
    assert after is not None
    # 1,235,814,400 parameters in bf16, less the gradient of the embedding table alone
    assert before - after == pytest.approx(2 * (1_235_814_400 - 128_256 * 2048), rel=0.25)


def test_a_recording_is_gone_on_with_and_asks_nothing_twice(tmp_path: Path) -> None:
    asked: list[str] = []

    def predict(each: Case) -> Prediction:
        asked.append(each.id)
        return Prediction(id=each.id, predicted=each.measured.value * 2)

    cases = [case("a", 100), case("b", 200), case("c", 300)]
    path = tmp_path / "predictions.jsonl"
    first = run_bench(cases, predictor=Recording(path, Tier.TRACE).resume(predict, limit=2))
    assert [row.prediction.reason for row in first.refused] == [LEFT_FOR_LATER]
    second = run_bench(cases, predictor=Recording(path, Tier.TRACE).resume(predict))
    assert asked == ["a", "b", "c"]
    assert [row.error for row in second.rows] == [1.0, 1.0, 1.0]
    # Another request under the same name is another case.
    changed = case("a", 100, request=SERVE["request"] | {"num_gpus": 2})
    run_bench([changed], predictor=Recording(path, Tier.TRACE).resume(predict))
    assert asked == ["a", "b", "c", "a"]
    with pytest.raises(RequestError, match="trace tier"):
        Recording(path, Tier.ANALYTIC)


def test_families_are_chosen() -> None:
    cases = [case("a", 100), case("b", 200, family="lora")]
    result = run_bench(cases, families=("lora",), predictor=lambda each: Prediction(id=each.id, predicted=1))
    assert [row.case.id for row in result.rows] == ["b"]
