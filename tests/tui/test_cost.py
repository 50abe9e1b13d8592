"""The cost panel: the same money as ``plan cost``, for the row that is selected."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from planner.request import HardwareWish, PlanRequest, ServingWorkload, TrainingWorkload
from tests.conftest import RunPlan
from tests.tui.known import REQUEST, known_app
from tui.app.costs import RowCost, cost_lines
from tui.app.desk import Desk
from tui.app.local_gpus import LocalGpus
from tui.app.world import World

JOB = replace(REQUEST, workload=TrainingWorkload(num_tokens=7_200_000, num_epochs=5))


def shown(pilot: Pilot[Any]) -> str:
    return str(pilot.app.screen.query_one("#cost", Static).render())


async def test_the_cost_of_a_job_follows_the_selected_gpu() -> None:
    """36M tokens at 2,300 a second on an RTX 4090 of 0.69 USD, at 2,200 on an L4 of 0.80 USD."""
    async with known_app(JOB).run_test(size=(120, 40)) as pilot:
        assert not pilot.app.screen.query_one("#cost").display
        await pilot.press("$")
        assert "36.00M tokens in 4.3 h (4.0 h to 4.8 h)" in shown(pilot)
        assert _line(pilot, "rent")[:5] == ["rent", "$0.69", "$3.00", "$0.083", "$503.70"]
        await pilot.press("tab", "down")
        assert _line(pilot, "rent")[:5] == ["rent", "$0.80", "$3.64", "$0.10", "$584.00"]
        assert "kg CO2e" in shown(pilot)
        assert "somecloud, 19 d" in shown(pilot)
        await pilot.press("$")
        assert not pilot.app.screen.query_one("#cost").display
        assert pilot.app.screen.query_one("#breakdown").display


def _line(pilot: Pilot[Any], way: str) -> list[str]:
    return next(line for line in shown(pilot).splitlines() if line.startswith(way)).split()


async def test_a_wide_terminal_has_room_for_memory_and_cost() -> None:
    async with known_app().run_test(size=(200, 50)) as pilot:
        await pilot.pause()
        assert pilot.app.screen.query_one("#breakdown").display
        assert "set tokens/epoch to price the whole job" in shown(pilot)
        assert _line(pilot, "rent")[:4] == ["rent", "$0.69", "-", "-"]


async def test_a_row_that_cannot_be_placed_costs_nothing() -> None:
    async with known_app(replace(REQUEST, workload=TrainingWorkload(seq_len=65536))).run_test(
        size=(200, 50)
    ) as pilot:
        await pilot.press("tab", "end")
        assert "cannot be placed" in shown(pilot)


@pytest.mark.parametrize(
    ("request_", "args"),
    [
        (
            TrainingWorkload(method="qlora", weight_dtype="nf4-dq", num_tokens=2_400_000, num_epochs=3),
            ("--method", "qlora", "--tokens", "2.4M", "--epochs", "3"),
        ),
        (ServingWorkload(concurrency=4), ("--task", "serve", "--batch-size", "4")),
    ],
    ids=["train", "serve"],
)
def test_the_panel_says_what_plan_cost_says(
    request_: TrainingWorkload | ServingWorkload, args: tuple[str, ...], run_plan: RunPlan
) -> None:
    request = PlanRequest(model="meta-llama/Llama-3.1-8B", workload=request_, hardware=HardwareWish())
    desk = Desk(request, World(probe=LocalGpus))
    board = desk.board_of(request)
    row = next(row for row in board.rows if row.gpu_id == "a100-sxm4-80gb")
    priced = desk.cost_of(row, board)
    assert isinstance(priced, RowCost)
    assert priced.job is not None

    named = ("--gpu", "a100-sxm4-80gb", "--num-gpus", "1")
    done = run_plan("cost", "--model", request.model, *args, *named, "--json")
    assert done.returncode == 0, done.stderr
    (said,) = json.loads(done.stdout)
    cost = priced.cost
    assert cost.on_demand is not None
    assert cost.owned is not None
    assert cost.energy is not None
    assert said["hours"] == pytest.approx(cost.hours)
    assert said["num_tokens"] == cost.num_tokens
    assert said["on_demand"]["usd"] == pytest.approx(float(cost.on_demand.usd))
    assert said["own"]["usd_per_hour"] == pytest.approx(float(cost.owned.usd_per_hour))
    assert said["energy"]["kwh"] == pytest.approx(float(cost.energy.kwh))
    assert [quote["usd"] for quote in said["managed"]] == [float(quote.usd) for quote in cost.managed]
    assert row.hours == (pytest.approx(cost.hours) if request.task == "train" else None)
    assert all(len(line) <= 60 for line in cost_lines(priced, date(2026, 11, 20), 60))
