"""What the keys do, through Pilot, on known answers."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from textual.events import Paste
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, RichLog, Static

from planner.request import ServingWorkload, TrainingWorkload
from planner.units import GIB
from tests.tui.known import REQUEST, known_app
from tui.app.app import PlannerApp
from tui.app.desk import Desk
from tui.app.local_gpus import LocalGpu, LocalGpus
from tui.app.screens.main import MainScreen
from tui.app.widgets.gpu_table import GpuTable
from tui.app.widgets.knob_list import KnobList
from tui.app.world import World
from tui.files import read_requests


def main_of(app: PlannerApp) -> MainScreen:
    screen = app.screen_stack[1]
    assert isinstance(screen, MainScreen)
    return screen


def names(app: PlannerApp) -> list[str]:
    return [row.name for row in main_of(app).query_one(GpuTable).rows]


def text(app: PlannerApp, selector: str) -> str:
    return str(main_of(app).query_one(selector, Static).render())


async def choose(pilot: Pilot[Any], app: PlannerApp, knob: str) -> None:
    main_of(app).query_one(KnobList).select(knob)
    await pilot.pause()


async def test_turning_a_knob_replans_every_gpu() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await choose(pilot, app, "seq")
        before = {row.name: row.need_bytes for row in main_of(app).query_one(GpuTable).rows}
        await pilot.press("right")
        after = {row.name: row.need_bytes for row in main_of(app).query_one(GpuTable).rows}
        assert app.desk.request.workload == replace(REQUEST.workload, seq_len=4096)
        assert all(after[name] - before[name] == 2 * GIB for name in before)
        assert "--seq-len 4096" in text(app, "#command")


async def test_a_value_can_be_typed_and_nonsense_is_refused_in_place() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await choose(pilot, app, "batch")
        await pilot.press("enter", "0", "enter")
        assert "at least 1" in text(app, "#notes")
        assert app.desk.request == REQUEST
        await pilot.press("ctrl+u", *"many", "enter")
        assert "not a count" in text(app, "#notes")
        await pilot.press("ctrl+u", *"16", "enter")
        workload = app.desk.request.workload
        assert isinstance(workload, TrainingWorkload)
        assert workload.batch_size == 16
        assert isinstance(app.focused, KnobList)


async def test_escape_leaves_the_value_as_it_was() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await choose(pilot, app, "batch")
        await pilot.press("enter", "9", "9", "escape")
        assert app.desk.request == REQUEST
        assert not main_of(app).query(".knob-editor")


async def test_choices_turn_in_both_directions_and_methods_bring_their_weights() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await choose(pilot, app, "weights")
        await pilot.press("enter", "ctrl+u", *"nf4-dq", "enter")
        workload = app.desk.request.workload
        assert isinstance(workload, TrainingWorkload)
        assert (workload.method, workload.weight_dtype) == ("qlora", "nf4-dq")
        await choose(pilot, app, "method")
        await pilot.press("left")
        workload = app.desk.request.workload
        assert isinstance(workload, TrainingWorkload)
        assert (workload.method, workload.weight_dtype) == ("lora", "bf16")


async def test_epochs_multiply_the_tokens_of_the_job() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        assert not main_of(app).query_one("#knob-epochs").display
        await choose(pilot, app, "tokens")
        await pilot.press("enter", "ctrl+u", *"2.4M", "enter")
        await choose(pilot, app, "epochs")
        await pilot.press("right")
        workload = app.desk.request.workload
        assert isinstance(workload, TrainingWorkload)
        assert (workload.num_epochs, workload.trained_tokens) == (2, 4_800_000)
        assert "--tokens 2.4M --epochs 2" in text(app, "#command")
        await choose(pilot, app, "tokens")
        await pilot.press("enter", "ctrl+u", *"0", "enter")
        assert app.desk.request == REQUEST


async def test_t_turns_between_serving_and_training() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("t")
        assert isinstance(app.desk.request.workload, ServingWorkload)
        assert "--task serve" in text(app, "#command")
        await pilot.press("t")
        assert isinstance(app.desk.request.workload, TrainingWorkload)


async def test_models_are_found_by_typing() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("m", *"mistral-7b-v0.3", "enter")
        await pilot.pause()
        assert app.desk.request.model == "mistralai/Mistral-7B-v0.3"


async def test_a_pasted_link_is_a_model_to_look_for() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        app.post_message(Paste("https://huggingface.co/mistralai/Mistral-7B-v0.3\n"))
        await pilot.pause()
        assert app.screen.query_one(Input).value == "mistralai/Mistral-7B-v0.3"
        await pilot.press("enter")
        await pilot.pause()
        assert app.desk.request.model == "mistralai/Mistral-7B-v0.3"


async def test_a_closed_model_is_not_taken_for_another() -> None:
    """The nearest names are offered, and none of them is taken by enter alone."""
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("m", *"gpt-4")
        assert "no such open model" in str(app.screen.query_one("#picker-found", Static).render())
        await pilot.press("enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert app.desk.request == REQUEST
        assert "no model 'gpt-4'" in str(app.screen.query_one("#picker-reason", Static).render())
        await pilot.press("down", "enter")
        await pilot.pause()
        assert app.desk.request.model == "openai-community/gpt2"


async def test_an_unknown_model_is_refused_in_the_picker() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("m", *"nobody/no-such-model-9b", "enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert app.desk.request == REQUEST
        assert str(app.screen.query_one("#picker-reason", Static).render()).strip()
        await pilot.press("escape")
        assert app.screen is main_of(app)


async def test_sorting_filtering_and_budget() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        assert names(app)[0] == "RTX 4090"
        await pilot.press("slash", *"a100", "enter")
        assert names(app) == ["A100 SXM4 40GB", "A100 SXM4 80GB"]
        await pilot.press("slash", "ctrl+u", "enter", "b", *"1.00", "enter")
        assert names(app) == ["RTX 4090", "L4"]
        await pilot.press("b", "ctrl+u", *"cheap", "enter")
        assert "not an amount" in text(app, "#notes")
        await pilot.press("ctrl+u", "enter")
        assert len(names(app)) == 6
        await pilot.press("v")
        assert names(app) == ["MI300X"]


async def test_every_column_sorts_both_ways() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        seen = set()
        for _ in range(7):
            await pilot.press("s")
            ascending = names(app)
            await pilot.press("S")
            assert set(names(app)) == set(ascending)
            seen.add(main_of(app).sort)
        assert seen == {"$/h", "total", "hours", "count", "memory", "name", "age"}


async def test_only_what_fits_on_one() -> None:
    app = known_app(replace(REQUEST, workload=TrainingWorkload(seq_len=16384)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("1")
        rows = main_of(app).query_one(GpuTable).rows
        assert rows
        assert all(row.placement is not None and row.placement.num_gpus == 1 for row in rows)


async def test_the_cursor_stays_on_its_gpu_while_knobs_turn() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("tab", "end")
        table = main_of(app).query_one(GpuTable)
        selected = table.selected
        assert selected is not None
        main_of(app).show_request(replace(REQUEST, workload=TrainingWorkload(seq_len=8192)))
        assert table.selected is not None
        assert table.selected.gpu_id == selected.gpu_id


async def test_own_gpus_cost_no_rent() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("tab", "end", "o")
        table = main_of(app).query_one(GpuTable)
        assert table.selected is not None
        assert table.selected.owned
        assert table.selected.usd_per_hour == Decimal(0)


async def test_pins_are_compared_term_by_term() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("p")
        main_of(app).show_request(replace(REQUEST, workload=TrainingWorkload(seq_len=4096)))
        await pilot.press("p", "c")
        from textual.widgets import DataTable

        table = app.screen.query_one(DataTable)
        cells = [table.get_row_at(i) for i in range(table.row_count)]
        assert ["context", "2048", "4096"] in cells
        activations = next(row for row in cells if row[0] == "  activations")
        assert activations[1:] == ["2.00 GiB", "4.00 GiB (+2.00 GiB)"]
        await pilot.press("x")
        assert app.desk.pins == ()


async def test_details_add_up_and_name_their_sources() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("tab", "enter")
        shown = str(app.screen.query_one("#detail-terms", Static).render())
        assert "https://example.com/known" in shown
        await pilot.press("x")
        assert "example.com" not in str(app.screen.query_one("#detail-terms", Static).render())


async def test_what_if_walks_over_the_knobs() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await choose(pilot, app, "seq")
        await pilot.press("w")
        shown = str(app.screen.query_one("#what-if", Static).render())
        assert "4096" in shown
        assert "1024" in shown
        await pilot.press("right")
        assert str(app.screen.query_one("#what-if", Static).render()) != shown


async def test_copying_puts_the_command_on_the_clipboard() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("y")
        assert app.clipboard.startswith("plan --model meta-llama/Llama-3.1-8B --task train")


async def test_a_request_is_saved_and_opened_again(tmp_path: Path) -> None:
    kept = tmp_path / "wish.json"
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await choose(pilot, app, "seq")
        await pilot.press("right", "ctrl+s")
        app.screen.query_one(Input).value = str(kept)
        await pilot.press("enter")
        assert read_requests(kept) == (app.desk.request,)
        wished = app.desk.request
        await choose(pilot, app, "seq")
        await pilot.press("right", "ctrl+o")
        app.screen.query_one(Input).value = str(tmp_path / "nothing.json")
        await pilot.press("enter")
        assert "cannot be read" in str(app.screen.query_one("#file-reason", Static).render())
        app.screen.query_one(Input).value = str(kept)
        await pilot.press("enter")
        await pilot.pause()
        assert app.desk.request == wished


async def test_the_gpus_of_this_machine_stand_on_top() -> None:
    here = LocalGpu(
        index=0, name="NVIDIA L4", total_bytes=24 * GIB, free_bytes=20 * GIB, compute_capability=(8, 9)
    )
    app = known_app(local=(here,))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        first = main_of(app).query_one(GpuTable).rows[0]
        assert (first.name, first.here, first.memory_bytes) == ("NVIDIA L4", True, 24 * GIB)
        await pilot.press("tab", "home")
        assert "20.00 GiB free now ·" in text(app, "#selected-title")
        await choose(pilot, app, "seq")
        await pilot.press("shift+tab", "right", "right")
        assert "20.00 GiB free now, too little" in text(app, "#selected-title")


async def test_a_narrow_terminal_shows_one_panel_at_a_time() -> None:
    app = known_app()
    async with app.run_test(size=(80, 24)) as pilot:
        job, table = main_of(app).query_one(KnobList), main_of(app).query_one(GpuTable)
        assert (job.display, app.focused) == (False, table)
        await pilot.press("d")
        assert (job.display, app.focused) == (True, job)
        await pilot.press("d")
        assert (job.display, app.focused) == (False, table)


async def test_a_tiny_terminal_says_so_and_goes_on_when_it_grows() -> None:
    app = known_app()
    async with app.run_test(size=(20, 6)) as pilot:
        await pilot.press("t", "w", "escape", "question_mark", "escape")
        assert main_of(app).query_one("#too-small").display
        assert not main_of(app).query_one("#body").display
        await pilot.resize_terminal(120, 40)
        await pilot.pause()
        assert not main_of(app).query_one("#too-small").display
        assert main_of(app).query_one("#body").display
        assert isinstance(app.desk.request.workload, ServingWorkload)


async def test_a_model_that_cannot_be_planned_leaves_a_way_on() -> None:
    app = known_app(replace(REQUEST, model="params:7B"))
    async with app.run_test(size=(120, 40)) as pilot:
        assert "size alone" in text(app, "#calm")
        assert not main_of(app).query_one(GpuTable).display
        for key in "acewPpo1fvsS$":
            await pilot.press(key, "escape", "escape")
        await pilot.press("m", *"mistral-7b-v0.3", "enter")
        await pilot.pause()
        assert app.desk.request.model == "mistralai/Mistral-7B-v0.3"
        assert not main_of(app).query_one("#calm").display
        assert len(main_of(app).board.rows) == 6  # type: ignore[union-attr]


async def test_no_row_passing_the_filter_is_told_and_undone() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("/", *"no such card", "enter")
        assert names(app) == []
        await pilot.press("e", "escape", "a", "w", "p", "x")
        assert len(names(app)) == 6


async def test_a_machine_without_a_driver_says_so_where_it_would_measure() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("r")
        assert "no NVIDIA driver is installed" in str(app.screen.query_one("#machine", Static).render())


async def test_advice_is_not_given_on_hardware_that_is_not_modelled() -> None:
    app = PlannerApp(Desk(REQUEST, World(probe=LocalGpus)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("/", *"trainium2", "enter", "a")
        assert names(app)
        assert app.screen is main_of(app)


async def test_a_number_of_gpus_is_asked_for_and_drawn_as_a_curve() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await choose(pilot, app, "gpus")
        await pilot.press("right", "right")
        assert app.desk.request.hardware.num_gpus == 2
        assert "--num-gpus 2" in text(app, "#command")
        await pilot.press("w")
        assert "GPUs" in str(app.screen.query_one("#what-if-title", Static).render())
        await pilot.press("escape", "left", "left")
        assert app.desk.request == REQUEST


async def test_a_child_that_dies_has_the_last_word() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        main_of(app).start_child(("plan", "no-such-command"))
        await app.workers.wait_for_complete()
        await pilot.press("r")
        await pilot.pause()
        screen = app.screen
        assert "refused" in str(screen.query_one("#run-state", Static).render())
        assert any("no-such-command" in line.text for line in screen.query_one(RichLog).lines)
        await pilot.press("escape")
        assert app.screen is main_of(app)


async def test_the_app_is_used_while_a_child_runs() -> None:
    """The child goes on behind the main screen, which stays live, and its end is told there."""
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        child = main_of(app).start_child(("plan", "prices", "refresh", "--help"))
        await pilot.press("r", "escape")
        assert app.desk.child is child
        await choose(pilot, app, "batch")
        await pilot.press("enter", "ctrl+u", *"16", "enter")
        assert "--batch-size 16" in text(app, "#command")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert not child.is_running
        assert "runs" not in text(app, "#title-count")
        await pilot.press("r")
        assert "prices: done" in str(app.screen.query_one("#run-state", Static).render())
        assert any("refresh" in line.text for line in app.screen.query_one(RichLog).lines)


async def test_the_plan_is_exported_as_files(tmp_path: Path) -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("tab", "end", "up", "e", "end", "home", "enter")
        app.screen.query_one("#folder", Input).value = str(tmp_path / "files")
        await pilot.press("enter")
        await pilot.pause()
        written = list((tmp_path / "files").iterdir())
        assert written
        assert all("Llama-3.1-8B" in path.read_text() for path in written)
        assert app.screen is main_of(app)


async def test_an_export_never_overwrites(tmp_path: Path) -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        for _ in range(2):
            await pilot.press("e", "home", "enter")
            app.screen.query_one("#folder", Input).value = str(tmp_path)
            await pilot.press("enter")
            await pilot.pause()
        assert "exists" in str(app.screen.query_one("#export-reason", Static).render())


async def test_history_of_a_machine_that_measured_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_PLANNER_STORE", str(tmp_path / "store.sqlite"))
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("h")
        assert "Nothing measured yet" in str(app.screen.query_one("#measurement", Static).render())
        assert "Calibration" in str(app.screen.query_one("#calibration", Static).render())
        await pilot.press("escape")
        assert app.screen is main_of(app)


async def test_advice_is_applied_with_enter() -> None:
    app = known_app(replace(REQUEST, workload=TrainingWorkload(batch_size=2, optimizer="adamw", method="full")))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("tab", "end", "up", "a")
        changes = app.screen.query_one("#changes", OptionList)
        assert changes.option_count > 0
        assert "saves" in str(changes.get_option_at_index(0).prompt)
        before = app.desk.request
        changes.focus()
        await pilot.press("home", "enter")
        await pilot.pause()
        assert app.screen is main_of(app)
        assert app.desk.request != before


@pytest.mark.parametrize("key", ["ctrl+s", "ctrl+o"])
@pytest.mark.parametrize(("typed", "reason"), [("", "type the path"), ("~nobody-here/x.json", "a home")])
async def test_a_path_that_names_nothing_is_refused_in_place(key: str, typed: str, reason: str) -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press(key)
        app.screen.query_one(Input).value = typed
        await pilot.press("enter")
        assert reason in str(app.screen.query_one("#file-reason", Static).render())


async def test_a_name_with_brackets_is_shown_as_it_was_typed() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("m")
        app.screen.query_one(Input).value = "[red]/x"
        await pilot.press("enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "[red]" in str(app.screen.query_one("#picker-reason", Static).render())


async def test_ctrl_q_quits_from_any_screen() -> None:
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("question_mark", "ctrl+q")
        await pilot.pause()
        assert app.return_code == 0


async def test_filters_of_memory_provider_and_fit() -> None:
    app = known_app(replace(REQUEST, workload=TrainingWorkload(seq_len=65536)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f")
        assert set(names(app)) == {"A100 SXM4 80GB", "H100 SXM5 80GB", "MI300X"}
        await pilot.press("f", "g", *"100GiB", "enter")
        assert names(app) == ["MI300X"]
        await pilot.press("g", "ctrl+u", *"much", "enter")
        assert "not a memory size" in text(app, "#notes")
        await pilot.press("ctrl+u", "enter", "n", *"somecl", "enter")
        assert set(names(app)) == {"A100 SXM4 80GB", "H100 SXM5 80GB"}
        assert "from~somecl" in text(app, "#title-count")


MAIN_KEYS = [key for binding in MainScreen.BINDINGS for key in binding.key.split(",")]  # type: ignore[union-attr]


@pytest.mark.parametrize("key", MAIN_KEYS)
async def test_every_key_of_the_main_screen_leads_back_to_it(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPU_PLANNER_STORE", str(tmp_path / "store.sqlite"))
    app = known_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("p", key)
        await pilot.pause()
        await pilot.press("escape", "escape")
        await pilot.pause()
        assert app.screen is main_of(app)
        assert app.is_running
        await pilot.press("tab", "down")
        assert isinstance(app.focused, GpuTable | KnobList)
