"""Keys that arrive together do what they do one by one: none is lost, none reaches the wrong screen."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.keys import _character_to_key
from textual.pilot import Pilot

from planner.request import PlanRequest, ServingWorkload, TrainingWorkload
from tests.tui.known import REQUEST, known_app
from tests.tui.terminal import Terminal
from tui.app.app import PlannerApp
from tui.app.screens.main import MainScreen
from tui.app.widgets.gpu_table import GpuTable
from tui.files import read_requests


async def burst(pilot: Pilot[Any], keys: Sequence[str]) -> None:
    """All keys in one go, as a terminal hands over what piled up; returns when the app has come to rest."""
    app = pilot.app
    assert isinstance(app, PlannerApp)
    for key in keys:
        is_character = len(key) == 1
        app.post_message(
            events.Key(_character_to_key(key) if is_character else key, key if is_character else None)
        )
    await pilot.pause()
    await app.workers.wait_for_complete()
    await app.at_rest()


def training(request: PlanRequest) -> TrainingWorkload:
    assert isinstance(request.workload, TrainingWorkload)
    return request.workload


async def test_a_model_is_searched_and_chosen_in_one_burst() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await burst(pilot, ["m", *"mistral-7b-v0.3", "enter"])
        assert app.desk.request.model == "mistralai/Mistral-7B-v0.3"
        assert isinstance(app.screen, MainScreen)


async def test_notches_of_a_knob_are_counted() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        app.screen_stack[1].query_one("KnobList").select("seq")  # type: ignore[attr-defined]
        await burst(pilot, ["right"] * 3 + ["left"])
        assert training(app.desk.request).seq_len == 4 * training(REQUEST).seq_len


async def test_every_screen_gets_its_own_keys(tmp_path: Path) -> None:
    """Values typed, a filter, screens opened and left, a file saved: one read of the terminal."""
    kept = tmp_path / "wish.json"
    app = known_app()
    batch = ["down"] * 5 + ["enter", "ctrl+u", *"16", "enter"]
    search = ["m", *"mistral-7b-v0.3", "enter"]
    look = [
        "tab",
        "/",
        *"a100",
        "enter",
        "end",
        "enter",
        "escape",
        "p",
        "p",
        "c",
        "escape",
        "w",
        "right",
        "escape",
    ]
    more = ["P", "q", "?", "escape", "r", "q", "ctrl+s", "ctrl+u", *str(kept), "enter", "s"]
    async with app.run_test(size=(120, 40)) as pilot:
        await burst(pilot, [*batch, *search, *look, *more])
        assert isinstance(app.screen, MainScreen)
        assert training(app.desk.request).batch_size == 16
        assert {row.name for row in app.screen.query_one(GpuTable).rows} == {"A100 SXM4 40GB", "A100 SXM4 80GB"}
        assert [pin.row.name for pin in app.desk.pins] == ["A100 SXM4 40GB"] * 2
        assert read_requests(kept) == (app.desk.request,)
        assert app.desk.request.model == "mistralai/Mistral-7B-v0.3"
        assert app.screen.sort == "total"


async def test_keys_wait_for_the_first_screen() -> None:
    app = known_app()
    app._typed.extend(events.Key(key, key) for key in "t")
    async with app.run_test(size=(120, 40)) as pilot:
        await burst(pilot, ["s"])
        assert isinstance(app.desk.request.workload, ServingWorkload)


@pytest.mark.parametrize("closing", ["escape", "q"])
async def test_the_screen_below_gets_the_key_after_a_closing_one(closing: str) -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await burst(pilot, ["w", closing, "t", "h", closing, "t", "S"])
        assert app.desk.request == replace(REQUEST, workload=TrainingWorkload())
        assert isinstance(app.screen, MainScreen)
        assert app.screen.descending


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_real_terminal_hands_over_everything_in_one_write(tmp_path: Path) -> None:
    """Model, batch, a saved file and the end, without a look at the screen in between."""
    kept = tmp_path / "wish.json"
    with Terminal(tmp_path / "home", "tui") as terminal:
        terminal.until_shown("GPUs hold it")
        search = ["m", *"mistral-7b-v0.3", "Enter"]
        batch = [*["Down"] * 5, "Enter", "C-u", *"16", "Enter"]
        terminal.press(*search, *batch, "C-s", "C-u", *str(kept), "Enter", "C-q")
        assert terminal.until_exit() == 0
    (request,) = read_requests(kept)
    assert request.model == "mistralai/Mistral-7B-v0.3"
    assert training(request).batch_size == 16
