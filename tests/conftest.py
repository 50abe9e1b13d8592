from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RunPlan = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_plan(tmp_path: Path) -> RunPlan:
    """Run ``plan ARGS…`` as a whole process in an empty home, without a network or a GPU."""

    def run(*args: str, stdin: str = "", timeout_s: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        clean = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [sys.executable, "-m", "tui.cli", *args],
            input=stdin, capture_output=True, text=True, timeout=timeout_s, env=clean | env, cwd=tmp_path,
        )  # fmt: skip

    return run
