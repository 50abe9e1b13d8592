"""How every screen looks, small, usual and large."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from planner.advice import Advice, Change, Warned
from planner.changes import Price
from planner.request import Parallelism, TrainingWorkload
from planner.units import GIB
from tests.tui.known import REQUEST, known_app
from tui.app.local_gpus import LocalGpu
from tui.app.screens.advice import AdviceScreen

SIZES = [(80, 24), (120, 40), (200, 50)]
SCREENS = {
    "main": (),
    "cost": ("$",),
    "nothing-passes": ("/", *"none such", "enter"),
    "serving": ("t",),
    "picker": ("m", *"tinyllama"),
    "details": ("tab", "enter"),
    "compare": ("tab", "p", "down", "p", "c"),
    "what-if": ("w",),
    "run": ("r",),
    "export": ("e", "down"),
    "help": ("question_mark",),
    "save": ("ctrl+s",),
    "open": ("ctrl+o",),
    "history": ("h",),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SCREENS)
def test_screen(
    snap_compare: Any, name: str, size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPU_PLANNER_STORE", str(tmp_path / "empty.sqlite"))
    monkeypatch.setenv("GPU_PLANNER_CALIBRATION", str(tmp_path / "none.json"))
    assert snap_compare(known_app(), press=SCREENS[name], terminal_size=size)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_pareto(snap_compare: Any, size: tuple[int, int]) -> None:
    timed = replace(REQUEST, workload=TrainingWorkload(num_tokens=10_000_000))
    assert snap_compare(known_app(timed), press=["P"], terminal_size=size)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_model_that_is_not_modelled(snap_compare: Any, size: tuple[int, int]) -> None:
    assert snap_compare(known_app(replace(REQUEST, model="params:7B")), terminal_size=size)


def test_a_tiny_terminal(snap_compare: Any) -> None:
    assert snap_compare(known_app(), terminal_size=(40, 10))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_advice(snap_compare: Any, size: tuple[int, int]) -> None:
    assert isinstance(REQUEST.workload, TrainingWorkload)
    change = Change(
        labels=("8-bit AdamW", "half the micro-batch"),
        workload=replace(REQUEST.workload, optimizer="adamw-8bit"),
        parallelism=Parallelism(),
        fits=True,
        saved_bytes=3 * GIB,
        slowdown=1.25,
        price=Price.NOTHING,
        costs=("published: no loss of quality",),
        sources=(),
    )
    advice = Advice(fits=False, changes=(change,), warnings=(Warned(text="this GPU has no bf16"),))

    async def show(pilot: Pilot[Any]) -> None:
        await pilot.app.push_screen(AdviceScreen(REQUEST, "1 × L4", advice))
        await pilot.pause()

    assert snap_compare(known_app(), run_before=show, terminal_size=size)


def test_a_gpu_of_this_machine_stands_on_top(snap_compare: Any) -> None:
    here = LocalGpu(index=0, name="Tesla T4", total_bytes=15 * GIB, free_bytes=14 * GIB, compute_capability=(7, 5))
    assert snap_compare(known_app(local=(here,)), terminal_size=(120, 40))
