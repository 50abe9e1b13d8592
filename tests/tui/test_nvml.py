"""This machine's GPUs through the real bindings of NVML, over a library that tells what a driver may tell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.units import GIB, MIB
from tests.tui.terminal import ROOT, Terminal

COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C compiler is installed"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the library is named as on Linux"),
]
READ = """
import dataclasses, json
from tui.app.local_gpus import local_gpus
found = local_gpus()
print(json.dumps({"gpus": [dataclasses.asdict(gpu) for gpu in found.gpus], "missing": found.missing,
                  "known": [gpu.as_catalogued().bandwidth_bytes_per_s for gpu in found.gpus]}))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("nvml.c")
    subprocess.run(
        [str(COMPILER), "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(source)],
        check=True, timeout=120,
    )  # fmt: skip
    return folder


def read(library: Path | None, case: str = "") -> dict[str, Any]:
    """What the app reads in a process of its own, where the bindings load the library anew."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "NVML_CASE": case, "LD_LIBRARY_PATH": str(library or "")}
    done = subprocess.run(
        [sys.executable, "-c", READ], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_gpus_are_read_with_the_memory_that_is_really_there(library: Path) -> None:
    found = read(library)
    first, second = found["gpus"]
    assert first == {
        "index": 0, "name": "NVIDIA H100 80GB HBM3", "total_bytes": 81559 * MIB,
        "free_bytes": 81559 * MIB - GIB, "compute_capability": [9, 0],
    }  # fmt: skip
    assert second["free_bytes"] == 81559 * MIB - 2 * GIB
    assert found["missing"] == ""
    assert found["known"] == [3_350_000_000_000, None], "an unheard-of GPU has its memory and nothing else"


@pytest.mark.parametrize(
    ("case", "num_gpus", "missing"),
    [
        ("driver", 0, "the NVIDIA driver does not answer: Driver Not Loaded"),
        ("none", 0, "the NVIDIA driver sees no GPU"),
        ("count", 0, "the NVIDIA driver does not answer: Unknown Error"),
        ("lost", 1, "GPU 1 does not tell its memory: GPU is lost"),
        ("memory", 1, "GPU 1 does not tell its memory: Not Supported"),
        ("capability", 2, ""),
        ("shutdown", 2, ""),
    ],
)
def test_what_a_driver_does_not_tell_is_told(library: Path, case: str, num_gpus: int, missing: str) -> None:
    found = read(library, case)
    assert (len(found["gpus"]), found["missing"]) == (num_gpus, missing)


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a driver")
def test_a_machine_without_a_driver_is_a_normal_machine() -> None:
    assert read(None) == {"gpus": [], "missing": "no NVIDIA driver is installed", "known": []}


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_the_gpus_of_this_machine_stand_on_top_of_the_real_app(library: Path, tmp_path: Path) -> None:
    with Terminal(tmp_path / "home", "tui", env={"LD_LIBRARY_PATH": str(library)}) as terminal:
        terminal.until_shown("GPUs hold it", "◆NVIDIA H100 80GB", "◆NVIDIA Unheard-of")
        terminal.press("Tab", "Home")
        terminal.until_shown("1 × NVIDIA H100 80GB HBM3", "of 79.65 GiB each", "78.65 GiB free now")
        terminal.press("C-q")
        assert terminal.until_exit() == 0
