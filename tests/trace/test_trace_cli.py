"""``plan trace`` as a user meets it: one traced run, then everything a saved log answers without another."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import RunPlan

SCRIPT = """
import torch
from torch import nn

def step():
    model = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 10))
    batch = (torch.zeros(64, 1024), torch.zeros(64, dtype=torch.long))
    return model, torch.optim.AdamW(model.parameters()), batch, loss

def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])

def wrong():
    return 3

def needs_data():
    model = nn.Linear(4, 4)
    return model, torch.optim.SGD(model.parameters(), lr=1.0), torch.zeros(2, 4), lambda m, x: m(x)[m(x) > 0].sum()
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def test_a_script_is_traced_saved_drawn_exported_and_replayed(
    run_plan: RunPlan, script: Path, tmp_path: Path
) -> None:
    files = {name: tmp_path / f"run.{name}" for name in ("trace", "svg", "html", "pickle")}
    done = run_plan(
        "trace", "--script", f"{script}::step", "--save", str(files["trace"]), "--plot", str(files["svg"]),
        "--snapshot", str(files["pickle"]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "train.py::step" in done.stdout
    assert "optimizer" in done.stdout
    assert ElementTree.parse(files["svg"]).getroot().tag.endswith("svg")
    assert_visualiser_can_read(pickle.loads(files["pickle"].read_bytes()))

    again = run_plan("trace", "--replay", str(files["trace"]), "--json", "--plot", str(files["html"]))
    assert again.returncode == 0, again.stderr
    answer = json.loads(again.stdout)
    weights = 4 * (1024 * 4096 + 4096 + 4096 * 10 + 10)
    assert answer["run"]["num_trainable"] * 4 == weights
    allocated, reserved, device = (each["expected_bytes"] for each in answer["estimates"])
    assert 4 * weights < allocated <= reserved < device
    live = {group["category"] for group in answer["live_at_peak"]}
    assert {"weights", "gradients", "optimizer"} <= live
    assert "<svg" in files["html"].read_text()

    small = run_plan("trace", "--replay", str(files["trace"]), "--capacity", "40MiB")
    assert small.returncode == 1
    assert "out of memory in" in small.stdout
    roomy = run_plan("trace", "--replay", str(files["trace"]), "--capacity", "1GiB", "--expandable-segments")
    assert roomy.returncode == 0


def assert_visualiser_can_read(snapshot: dict[str, object]) -> None:
    """The keys and the bookkeeping https://pytorch.org/memory_viz relies on."""
    (history,) = snapshot["device_traces"]  # type: ignore[misc]
    open_blocks: dict[int, int] = {}
    for entry in history:
        if entry["action"] == "alloc":
            assert entry["addr"] not in open_blocks
            open_blocks[entry["addr"]] = entry["size"]
        elif entry["action"] == "free_completed":
            assert open_blocks.pop(entry["addr"]) == entry["size"]
    blocks = [block for segment in snapshot["segments"] for block in segment["blocks"]]  # type: ignore[attr-defined]
    active = {block["address"] for block in blocks if block["state"] == "active_allocated"}
    assert active == set(open_blocks)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--script", "train.py::none"), 2, "no function"),
        (("--script", "train.py::wrong"), 2, "returns something else"),
        (("--script", "train.py::needs_data"), 3, "aten.index.Tensor"),
        (("--script", "other.py::step"), 2, "there is no other.py"),
        (("--script", "train.py"), 2, "names no function"),
        (("--replay", "train.py"), 2, "not a trace"),
        (("--replay", "run.trace", "--model", "gpt2"), 2, "exclude each other"),
        (("--model", "gpt2", "--plot", "run.bmp"), 2, ".svg"),
        (("--model", "params:7B"), 3, "size alone"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    run_plan: RunPlan, script: Path, args: tuple[str, ...], code: int, words: str
) -> None:
    done = run_plan("trace", *args)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_data_set_s_lengths_become_histories_and_a_late_failure_is_named(
    run_plan: RunPlan, tmp_path: Path
) -> None:
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 20000, "tie_word_embeddings": False,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    lengths = [32] * 40 + [512]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"length": length}) + "\n" for length in lengths))
    done = run_plan(
        "trace", "--model", "./config.json", "--method", "full", "--batch-size", "4", "--seq-len", "512",
        "--no-gradient-checkpointing", "--lengths", "data.jsonl", "--steps", "20", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    reserved = next(each for each in answer["estimates"] if each["quantity"] == "reserved")
    assert reserved["low_bytes"] <= reserved["expected_bytes"] <= reserved["high_bytes"]
    steps = {peak["step"] for peak in answer["default"]["phases"]}
    assert steps == set(range(21))
