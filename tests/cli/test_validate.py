"""``plan validate`` as a user meets it: predict, run, keep, learn, share; and interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RunPlan = Callable[..., subprocess.CompletedProcess[str]]
CPU = ("validate", "--device", "cpu")


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    folder = tmp_path / "tiny"
    folder.mkdir()
    config = {
        "model_type": "llama", "vocab_size": 4096, "hidden_size": 128, "num_hidden_layers": 2,
        "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "tie_word_embeddings": True, "rms_norm_eps": 1e-5,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_the_issues_command_holds_on_a_real_model(run_plan: RunPlan) -> None:
    done = run_plan(
        *CPU, "--model", "HuggingFaceTB/SmolLM2-135M", "--method", "lora", "--batch-size", "1", "--seq-len", "128",
        timeout_s=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "allocated (analytic)" in done.stdout
    assert "allocated (trace)" in done.stdout
    assert "outside" not in done.stdout


def test_a_run_is_predicted_kept_shown_and_shared(run_plan: RunPlan, tiny: str, tmp_path: Path) -> None:
    done = run_plan(*CPU, "--model", tiny, "--method", "full", "--batch-size", "2", "--seq-len", "128", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["inside"]
    by_tier = {peak["tier"]: peak for peak in answer["peaks"]}
    traced, measured = by_tier["trace"]["predicted_bytes"], by_tier["trace"]["measured_bytes"]
    assert traced == pytest.approx(measured, rel=0.01)
    identity = answer["measurement"]["id"]

    history = run_plan("validate", "history")
    assert identity[:12] in history.stdout
    assert "optimizer step" in run_plan("validate", "show", identity[:6]).stdout
    assert run_plan("validate", "show", "zzz").returncode == 3

    shared = tmp_path / "team-a.jsonl"
    assert run_plan("validate", "export", str(shared)).returncode == 0
    elsewhere = {
        "GPU_PLANNER_STORE": str(tmp_path / "b.sqlite3"),
        "GPU_PLANNER_CALIBRATION": str(tmp_path / "b.json"),
    }
    first = run_plan("validate", "import", str(shared), **elsewhere)
    assert first.stdout.startswith("1 added, 0 known")
    assert run_plan("validate", "import", str(shared), **elsewhere).stdout.startswith("0 added, 1 known")
    assert "from team-a" in run_plan("validate", "history", **elsewhere).stdout
    shared.write_text(shared.read_text().replace('"steps":2', '"steps":3') + "no json\n")
    altered = run_plan("validate", "import", str(shared), **elsewhere)
    assert altered.returncode == 2
    assert "0 added" in altered.stdout
    assert altered.stderr.count("team-a:") == 2


def test_without_a_gpu_one_line_names_the_ways_on(run_plan: RunPlan) -> None:
    done = run_plan("validate", "--model", "llama-3.2-1b")
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert "plan trace" in done.stderr
    assert "--device cpu" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--model", "params:7B"), 2, "size alone"),
        (("--suite", "quik"), 3, "quick"),
        (("--model", "llama-3.2-1b", "--steps", "1"), 2, "at least 2"),
        (("--model", "llama-3.2-1b", "--memory-limit", "lots"), 2, "memory size"),
        (("--suite", "small", "--max-minutes", "0"), 2, "more than 0"),
        (("--suite", "small", "--out", "/dev/null/x"), 4, "another folder"),
    ],
)
def test_bad_usage_is_one_line(run_plan: RunPlan, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = run_plan(*CPU, *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def measuring_children(pid: int) -> list[str]:
    """Processes that measure for ``pid``; libraries start others for a moment while they are imported."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in children if b"validate.measure.child" in command_of(child)]


def command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_interrupting_a_run_leaves_the_store_whole_and_no_process_behind(tmp_path: Path, tiny: str) -> None:
    store = tmp_path / "store.sqlite3"
    environment = os.environ | {
        "GPU_PLANNER_STORE": str(store), "GPU_PLANNER_CALIBRATION": str(tmp_path / "c.json"),
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    arguments = [sys.executable, "-m", "tui.cli", *CPU, "--model", tiny, "--seq-len", "128", "--no-trace"]
    process = subprocess.Popen(
        arguments, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    children: list[str] = []
    deadline = time.monotonic() + 120
    while not children and time.monotonic() < deadline:
        children = measuring_children(process.pid)
        time.sleep(0.05)
    assert children
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().endswith("interrupted")
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    listing = subprocess.run(
        [sys.executable, "-m", "tui.cli", "validate", "history"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "is empty" in listing.stderr
    assert "damaged" not in listing.stderr


def test_the_whole_path_learns_from_real_runs(run_plan: RunPlan, tmp_path: Path) -> None:
    """Predict, run, keep, calibrate, predict a shape that was not run better.

    GPT-2 drops attention weights, for which the CPU has no flash kernel: it keeps score matrices that the
    formulas, which are of CUDA, leave out. Calibration has to learn that.
    """
    config = {
        "model_type": "gpt2", "vocab_size": 512, "n_embd": 128, "n_layer": 4, "n_head": 4, "n_positions": 256,
        "tie_word_embeddings": True,
    }  # fmt: skip
    folder = tmp_path / "gpt2"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))

    def error(batch_size: int, seq_len: int, *more: str) -> float:
        done = run_plan(
            *CPU, "--model", str(folder), "--method", "full", "--batch-size", str(batch_size), "--seq-len",
            str(seq_len), "--no-gradient-checkpointing", "--no-trace", "--json", *more,
        )  # fmt: skip
        assert done.returncode in (0, 5), done.stderr
        (peak,) = json.loads(done.stdout)["peaks"]
        return abs(peak["predicted_bytes"] / peak["measured_bytes"] - 1)

    for shape in ((2, 64), (3, 128), (6, 64)):
        error(*shape)
    after = error(4, 96)
    before = error(4, 96, "--no-calibration")
    assert before > 0.1
    assert after < 0.75 * before
    learnt = json.loads((tmp_path / "home/.local/share/gpu-planner/calibration.json").read_text())
    assert {entry["key"].split()[0] for entry in learnt["corrections"]} == {"cpu"}
