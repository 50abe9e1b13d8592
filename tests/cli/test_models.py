"""``plan models`` as a user meets it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from tests.conftest import RunPlan


def test_the_list_is_plain_aligned_text_in_a_pipe(run_plan: RunPlan) -> None:
    done = run_plan("models", "--family", "mamba", "--limit", "3")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["model", "parameters", "family", "type", "confidence"]
    assert len(lines) == 1 + 3 + 1
    assert "\x1b" not in done.stdout


def test_words_search_names_and_aliases(run_plan: RunPlan) -> None:
    found = json.loads(run_plan("models", "qwen2.5 instruct", "--json").stdout)
    assert found
    for model in found:
        assert "qwen2.5" in " ".join((model["id"], *model["aliases"])).lower()


def test_filters_hold(run_plan: RunPlan) -> None:
    found = json.loads(run_plan("models", "--max-params", "200M", "--json").stdout)
    assert {"HuggingFaceTB/SmolLM2-135M", "openai-community/gpt2"} <= {model["id"] for model in found}
    assert all(model["params_total"] <= 200_000_000 for model in found)


def test_csv_has_a_row_per_model(run_plan: RunPlan) -> None:
    rows = list(csv.DictReader(io.StringIO(run_plan("models", "--csv").stdout)))
    assert len(rows) >= 269


def test_an_exact_name_shows_layers_matrices_form_and_sources(run_plan: RunPlan) -> None:
    done = run_plan("models", "mixtral-8x7b")
    assert done.returncode == 0
    for part in ("46,702,792,704", "12,879,925,248", "2 of 8 experts x 14,336", "gate_up_proj", "bare parameter"):
        assert part in done.stdout
    assert "litgpt" in done.stdout


def test_the_closed_form_adds_up(run_plan: RunPlan) -> None:
    (model,) = json.loads(run_plan("models", "meta-llama/Llama-3.1-8B", "--json").stdout)
    described = model["architecture"]
    layers = sum(group["count"] * group["params_per_layer"] for group in described["groups"])
    outside = described["embedding_params"] + described["other_params"] + described["vision_params"]
    assert layers + outside + 128256 * 4096 == model["params_total"] == 8_030_261_248
    assert described["groups"][0]["mixer"]["type"] == "GroupedQueryAttention"
    assert model["closed_form"].endswith("= 8,030,261,248")


def test_an_ambiguous_name_is_noted_beside_the_answer(run_plan: RunPlan) -> None:
    done = run_plan("models", "llama-70b")
    assert done.stdout.startswith("meta-llama/Llama-3.3-70B-Instruct")
    assert "Llama-2-70b" in done.stderr


def test_a_local_config_is_shown_like_a_registered_model(run_plan: RunPlan, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    config = {
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32,
    }  # fmt: skip
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    done = run_plan("models", "./mine")
    assert done.returncode == 0
    assert "6,738,415,616" in done.stdout


def test_nonsense_is_one_line_and_the_documented_code(run_plan: RunPlan, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    for args, code in (
        (("models", "lamma-3.1-8b"), 3),
        (("models", "./broken"), 2),
        (("models", "./nowhere/config.json"), 2),
        (("models", "someone/unheard-of"), 4),
        (("models", "params:7B"), 2),
        (("models", "--max-params", "lots"), 2),
        (("models", "--family", "no-such-family"), 1),
    ):
        done = run_plan(*args)
        assert done.returncode == code, (args, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, (args, done.stderr)
        assert done.stdout == ""


def test_a_hub_that_does_not_answer_is_asked_once_and_said(run_plan: RunPlan) -> None:
    closed = "http://127.0.0.1:9"
    done = run_plan("models", "someone/unheard-of", timeout_s=60, HF_HUB_OFFLINE="0", HF_ENDPOINT=closed)
    assert done.returncode == 4
    (line,) = done.stderr.strip().splitlines()
    assert "does not answer" in line
