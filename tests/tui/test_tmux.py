"""The real app, its real answers and a real terminal, end to end."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest

from planner.request import TrainingWorkload
from planner.units import format_gib
from tests.conftest import RunPlan
from tests.tui.terminal import Terminal, children_of, is_running
from tui.files import read_requests

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads child processes from /proc")


def test_a_session_from_start_to_quit(tmp_path: Path, run_plan: RunPlan) -> None:
    """Find a model, change the batch, pick a GPU, export, copy, save, quit; the command answers the same."""
    kept, exported = tmp_path / "wish.json", tmp_path / "exported"
    with Terminal(tmp_path / "home", "tui") as terminal:
        terminal.until_shown("gpu-planner", "GPUs hold it", "$ plan --model meta-llama/Llama-3.1-8B")

        terminal.press("m")
        terminal.until_shown("Model: type to search")
        terminal.type("mistral-7b-v0.3")
        terminal.until_shown("mistralai/Mistral-7B-v0.3 7.25B")
        terminal.press("Enter")
        terminal.until_shown("$ plan --model mistralai/Mistral-7B-v0.3")

        terminal.move_to_knob("batch")
        terminal.press("Enter")
        terminal.type("4")
        terminal.press("Enter")
        terminal.until_shown("--batch-size 4")

        terminal.press("/")
        terminal.until_shown("part of a GPU's name")
        terminal.type("l40s")
        terminal.until_shown("1 of 1 GPUs hold it", "1 × L40S · ")
        terminal.press("Enter")
        size = re.search(r"1 × L40S · ([\d.]+ GiB)", terminal.words())
        terminal.press("Enter")
        terminal.until_shown("1 × L40S:", "per GPU at its peak")
        terminal.press("Escape")
        terminal.until_gone("per GPU at its peak")

        terminal.press("e")
        terminal.until_shown("Export: choose what runs the plan")
        terminal.press("Enter", "C-u")
        terminal.type(str(exported))
        terminal.press("Enter")
        terminal.until_shown("Written to")

        terminal.press("y")
        terminal.until(lambda: terminal.clipboard().startswith("plan "), "the command in the clipboard")
        copied = terminal.clipboard()

        terminal.press("C-s")
        terminal.until_shown("Save the request as")
        terminal.press("C-u")
        terminal.type(str(kept))
        terminal.press("Enter")
        terminal.until_gone("Save the request as")

        terminal.press("C-q")
        assert terminal.until_exit() == 0

    assert any("Mistral-7B" in path.read_text() for path in exported.iterdir())
    (request,) = read_requests(kept)
    assert request.model == "mistralai/Mistral-7B-v0.3"
    assert isinstance(request.workload, TrainingWorkload)
    assert request.workload.batch_size == 4

    answer = run_plan(*shlex.split(copied)[1:], "--gpu", "L40S", "--num-gpus", "1", "--json")
    assert answer.returncode == 0, answer.stderr
    (fit,) = json.loads(answer.stdout)["fits"]
    assert size is not None
    assert format_gib(fit["expected_bytes"]) == size[1]


def test_the_mouse_sorts_and_selects_and_a_small_terminal_grows(tmp_path: Path) -> None:
    """Plain ``plan`` starts the app; too small a terminal shows what it can and the whole once it has grown."""
    with Terminal(tmp_path / "home", columns=30, rows=8) as terminal:
        terminal.until_shown("GPUs hold it")
        terminal.resize(120, 40)
        terminal.until_shown("GPUs hold it", "▸model", "$/h▲")

        header = terminal.screen().splitlines()[1]
        terminal.click(header.index("name"), 1)
        terminal.until_shown("name▲")
        line = terminal.screen().splitlines()[4]
        name = re.split(r" {2,}|[█▒]", line.split("▕")[1][1:])[0].strip()
        terminal.click(header.index("name"), 4)
        terminal.until(lambda: f"× {name} ·" in terminal.words() or f"{name}:" in terminal.words(), name)
        terminal.press("C-q")
        assert terminal.until_exit() == 0


@needs_proc
def test_a_killed_child_ends_calmly_and_quitting_leaves_none(tmp_path: Path) -> None:
    """kill -9 of a trace is told in words; a trace that hangs does not outlive the app."""
    with Terminal(tmp_path / "home", "tui") as terminal:
        terminal.until_shown("GPUs hold it")
        app = terminal.app_pid
        terminal.press("r")
        terminal.until_shown("not started")

        terminal.press("t")
        terminal.until_shown("running as process")
        os.kill(children_of(app)[0], signal.SIGKILL)
        terminal.until_shown("ended by signal SIGKILL")

        terminal.press("t")
        terminal.until_shown("running as process")
        (child,) = children_of(app)
        os.kill(child, signal.SIGSTOP)
        terminal.press("C-q")
        assert terminal.until_exit() == 0
        terminal.until(lambda: not is_running(child), "the child to end with the app")
