"""A timed run changes later answers of its card: from the real measuring code to the line in the answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hardware_db.catalog import find_gpu
from validate.measurement import from_json, to_json

RunPlan = Callable[..., subprocess.CompletedProcess[str]]
CONFIG = {
    "model_type": "llama", "vocab_size": 4096, "hidden_size": 128, "num_hidden_layers": 2,
    "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "tie_word_embeddings": True, "rms_norm_eps": 1e-5,
}  # fmt: skip


def test_a_timed_run_changes_later_answers_of_its_card(run_plan: RunPlan, tmp_path: Path) -> None:
    model = tmp_path / "tiny"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG))
    job = ("--model", str(model), "--method", "full", "--batch-size", "2", "--seq-len", "128")
    card = (*job, "--gpu", "h200", "--json")

    def speed(*more: str) -> dict[str, object]:
        done = run_plan(*card, *more)
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)["fits"][0]["speed"]
        return found

    before = speed()
    assert before["calibration"] is None
    done = run_plan("validate", "--device", "cpu", *job, "--no-trace")
    assert done.returncode == 0, done.stderr
    assert speed() == before, "a CPU says nothing of a GPU"

    shared, other = tmp_path / "runs.jsonl", tmp_path / "h200.jsonl"
    assert run_plan("validate", "export", str(shared)).returncode == 0
    measured = from_json(shared.read_text())
    facts = measured.result.facts
    assert facts is not None
    assert facts.step_s is not None
    h200 = find_gpu("h200")
    # The steps a CPU really took, as if that card had.
    where = replace(
        measured.environment, device="cuda", gpu_name=h200.name, gpu_id=h200.id, generation=h200.architecture
    )
    other.write_text(to_json(replace(measured, environment=where).identified()) + "\n")
    assert run_plan("validate", "import", str(other)).stdout.startswith("1 added")

    after = speed()
    assert "speed calibrated on 1 run on this H200" in str(after["calibration"])
    ends = sorted((before["step_time_s"]["expected"], facts.step_s))  # type: ignore[index]
    assert ends[0] < after["step_time_s"]["expected"] < ends[1], "one run moves an answer part of the way"  # type: ignore[index]
    assert speed("--no-calibration") == before
    assert "speed calibrated on 1 run" in run_plan(*card[:-1]).stdout
