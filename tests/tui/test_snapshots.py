"""How every screen looks, small, usual and large."""

from __future__ import annotations

from typing import Any

import pytest

from planner.units import GIB
from tests.tui.known import known_app
from tui.app.local_gpus import LocalGpu

SIZES = [(80, 24), (120, 40), (200, 50)]
SCREENS = {
    "main": (),
    "serving": ("t",),
    "picker": ("m", *"tinyllama"),
    "details": ("tab", "enter"),
    "compare": ("tab", "p", "down", "p", "c"),
    "what-if": ("w",),
    "pareto": ("P",),
    "run": ("r",),
    "export": ("e", "down"),
    "help": ("question_mark",),
    "save": ("ctrl+s",),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SCREENS)
def test_screen(snap_compare: Any, name: str, size: tuple[int, int]) -> None:
    assert snap_compare(known_app(), press=SCREENS[name], terminal_size=size)


def test_a_gpu_of_this_machine_stands_on_top(snap_compare: Any) -> None:
    here = LocalGpu(index=0, name="Tesla T4", total_bytes=15 * GIB, free_bytes=14 * GIB, compute_capability=(7, 5))
    assert snap_compare(known_app(local=(here,)), terminal_size=(120, 40))
