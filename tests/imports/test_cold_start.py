"""Which modules the quick paths load, asked of a clean interpreter; seconds are only reported, by a script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("pydantic", "rich", "pandas", "torch", "transformers", "textual", "numpy", "huggingface_hub", "pynvml")
LATE = ("validate", "planner.advice", "planner.export", "planner.search", "planner.throughput", "tui.app")
"""Rooms of ours that an answer does not enter."""
UNASKED = (
    "hardware_db.naming", "planner.memory.colocated", "planner.memory.serving_planned",
    "planner.model.families.generic", "planner.remedies", "planner.request_text", "planner.speeds",
    "tui.render.sheet",
)  # fmt: skip
"""Files of ours for names, engines, configs and pages that the quickest question does not have."""
PROBE = """
import contextlib, io, json, socket, sys

def refuse(*args, **kwargs):
    raise AssertionError("a connection was attempted")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from tui.cli import run
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
    code = run(json.loads(sys.argv[1]))
print(json.dumps({"code": code, "modules": sorted(sys.modules), "length": len(out.getvalue())}))
"""


def loaded_by(home: Path, *args: str) -> set[str]:
    """Modules and packages loaded after ``plan ARGS`` in a clean interpreter that cannot reach a network."""
    env = {"HOME": str(home), "PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(args)],
        env=env,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["code"] == 0
    assert seen["length"] > 0
    return {*seen["modules"], *(name.split(".")[0] for name in seen["modules"])}


@pytest.mark.parametrize("form", [("--json",), (), ("--csv",), ("--explain",)])
def test_the_quick_paths_load_nothing_heavy_and_need_no_network(tmp_path: Path, form: tuple[str, ...]) -> None:
    loaded = loaded_by(tmp_path, "--model", "llama-70b", "--bits", "4", *form)
    assert loaded.isdisjoint(HEAVY + LATE), sorted(loaded.intersection(HEAVY + LATE))


def test_the_quickest_answer_loads_only_what_it_asks_for(tmp_path: Path) -> None:
    loaded = loaded_by(tmp_path, "--model", "llama-70b", "--bits", "4", "--json")
    assert loaded.isdisjoint(UNASKED), sorted(loaded.intersection(UNASKED))


@pytest.mark.parametrize("form", [("--task", "serve"), ("--method", "qlora", "--tokens", "1M")])
def test_an_answer_about_one_task_enters_the_room_of_speed_alone(tmp_path: Path, form: tuple[str, ...]) -> None:
    loaded = loaded_by(tmp_path, "--model", "llama-70b", "--bits", "4", *form, "--json")
    assert "planner.throughput" in loaded
    other = {*HEAVY, *LATE} - {"planner.throughput"}
    assert loaded.isdisjoint(other), sorted(loaded.intersection(other))


@pytest.mark.parametrize(
    "args",
    [
        ("gpus", "--json"),
        ("gpus", "h100-sxm5-80gb"),
        ("prices", "h100"),
        ("cost", "--gpu", "h100-sxm5-80gb", "--hours", "1"),
        ("pretrain", "--model", "meta-llama/Llama-3.1-8B"),
    ],
)
def test_lists_and_costs_load_nothing_heavy_and_need_no_network(tmp_path: Path, args: tuple[str, ...]) -> None:
    loaded = loaded_by(tmp_path, *args)
    assert loaded.isdisjoint(HEAVY), sorted(loaded.intersection(HEAVY))


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    assert loaded_by(tmp_path, "--help").isdisjoint(HEAVY)


def test_pydantic_is_loaded_where_a_request_file_enters(tmp_path: Path) -> None:
    loaded_by(tmp_path, "--model", "llama-70b", "--bits", "4", "--tier", "rule", "--save-request", "request.json")
    assert "pydantic" in loaded_by(tmp_path, "--request", "request.json", "--tier", "rule")


def test_rich_draws_the_tables_of_a_terminal(tmp_path: Path) -> None:
    probe = "import tui.render.table, sys; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "True"
