"""The screen people live on: the job left, every GPU in the middle, what fills the selected one below."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from planner.errors import PlannerError
from planner.request import PlanRequest
from planner.units import format_gib
from tui.app.board import Board
from tui.app.cells import age_text, hours_text, usd_text
from tui.app.rows import SORTS, GpuRow, RowFilter, arrange
from tui.app.screens.compare import CompareScreen, Pin
from tui.app.widgets.breakdown import BreakdownView
from tui.app.widgets.gpu_table import GpuTable
from tui.app.widgets.knob_list import KnobList
from tui.command_line import command_text

if TYPE_CHECKING:
    from tui.app.app import PlannerApp


LOCAL_GPUS_EVERY_S = 5.0


class MainScreen(Screen[None]):
    """Shows ``app.request``; every change goes through ``show_request``."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "pick_model", "Model"),
        Binding("t", "turn_task", "Serve/train"),
        Binding("d", "toggle_job", "Job", show=False),
        Binding("slash", "filter", "Filter"),
        Binding("v", "next_vendor", "Vendor", show=False),
        Binding("1", "toggle_one", "Fits on one", show=False),
        Binding("f", "toggle_fitting", "Only what fits", show=False),
        Binding("b", "budget", "Budget", show=False),
        Binding("s", "next_sort", "Sort"),
        Binding("S", "reverse", "Reverse", show=False),
        Binding("o", "toggle_owned", "Mine", show=False),
        Binding("p", "pin", "Pin"),
        Binding("c", "compare", "Compare"),
        Binding("w", "what_if", "What-if"),
        Binding("P", "pareto", "Pareto", show=False),
        Binding("r", "run", "Run"),
        Binding("y", "copy", "Copy command"),
        Binding("ctrl+s", "save", "Save", show=False),
        Binding("ctrl+o", "open", "Open", show=False),
    ]

    def __init__(self, request: PlanRequest) -> None:
        super().__init__()
        self.request = request
        self.board: Board | None = None
        self.shown = RowFilter()
        self.sort = "$/h"
        self.descending = False
        self.typing = ""
        """Which filter the input line edits: "name" or "budget"; empty: closed."""

    @property
    def planner(self) -> PlannerApp:
        return cast("PlannerApp", self.app)

    def compose(self) -> ComposeResult:
        yield Static("", id="title")
        with Horizontal(id="body"):
            yield KnobList(self.request, id="job")
            with Vertical(id="centre"):
                yield Input(id="filter", compact=True)
                yield GpuTable(id="table")
                with Vertical(id="selected"):
                    yield Static("", id="selected-title")
                    yield BreakdownView(id="breakdown")
        yield Static("", id="notes")
        yield Static("", id="command", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self.show_request(self.request)
        self.query_one(KnobList).focus()
        self.set_interval(LOCAL_GPUS_EVERY_S, self._refresh_local_gpus)

    def on_resize(self) -> None:
        self.call_after_refresh(self._keep_focus)

    def _keep_focus(self) -> None:
        """A panel that a narrow terminal hides hands the keys to the table."""
        if self.focused is None or not self.focused.display:
            self.query_one(GpuTable).focus()

    # -- the one way a change reaches the screen ------------------------------------------------------------

    def show_request(self, request: PlanRequest) -> bool:
        """Plan ``request`` on every GPU and redraw; a request that cannot be planned is refused in place."""
        try:
            board = self.planner.board_of(request)
            line = command_text(request)
        except PlannerError as error:
            self.refuse(error)
            return False
        self.request = self.planner.request = request
        self.board = board
        self.query_one(KnobList).show(request)
        self.query_one("#command", Static).update(f"$ {line}")
        self.notes(board.notes)
        self._show_rows()
        return True

    def _show_rows(self) -> None:
        assert self.board is not None
        rows = arrange(self.board.rows, self.shown, self.sort, self.descending)
        self.query_one(GpuTable).show(rows, sort=self.sort, descending=self.descending)
        holding = sum(1 for row in rows if row.placement is not None)
        parts = [
            f"gpu-planner   {self.board.model_line}   {holding} of {len(rows)} GPUs hold it",
            *self._filter_words(),
        ]
        self.query_one("#title", Static).update("   ".join(parts))

    def _filter_words(self) -> list[str]:
        shown = self.shown
        words = [shown.text and f"name~{shown.text}", shown.vendor, shown.one_gpu_only and "fits on one"]
        words += [shown.fitting_only and "only what fits"]
        words += [shown.max_usd_per_hour is not None and f"≤ {usd_text(shown.max_usd_per_hour)}/h"]
        found = [str(word) for word in words if word]
        return [f"[{', '.join(found)}]".replace("[", r"\[")] if found else []

    def refuse(self, error: PlannerError) -> None:
        self.notes((f"✗ {error.message}" + (f" ({error.hint})" if error.hint else ""),))

    def notes(self, lines: tuple[str, ...]) -> None:
        box = self.query_one("#notes", Static)
        box.set_class(not lines, "-empty")
        box.update("\n".join(lines[:3]).replace("[", r"\["))

    def _show_selected(self, row: GpuRow | None) -> None:
        title = self.query_one("#selected-title", Static)
        view = self.query_one(BreakdownView)
        if row is None:
            title.update("No GPU matches the filter.")
            view.show(None, 1)
            return
        title.update(selected_line(row).replace("[", r"\["))
        fit = row.fit
        view.show(fit.estimate if fit else None, row.memory_bytes)

    def _refresh_local_gpus(self) -> None:
        if self.planner.read_local_gpus():
            self.show_request(self.request)

    # -- messages -------------------------------------------------------------------------------------------

    @on(KnobList.Turned)
    def _turned(self, event: KnobList.Turned) -> None:
        if not self.show_request(event.request):
            self.query_one(KnobList).show(self.request)

    @on(KnobList.Refused)
    def _refused(self, event: KnobList.Refused) -> None:
        self.notes((f"✗ {event.reason}",) if event.reason else (self.board.notes if self.board else ()))

    @on(KnobList.PickModel)
    def action_pick_model(self) -> None:
        from tui.app.screens.model_picker import ModelPicker

        def take(name: str | None) -> None:
            if name:
                self.show_request(replace(self.request, model=name))

        self.app.push_screen(ModelPicker(), take)

    @on(GpuTable.Highlighted)
    def _highlighted(self, event: GpuTable.Highlighted) -> None:
        self._show_selected(event.row)

    @on(GpuTable.Chosen)
    def _chosen(self, event: GpuTable.Chosen) -> None:
        from tui.app.screens.detail import DetailScreen

        self.app.push_screen(DetailScreen(event.row))

    @on(GpuTable.HeaderClicked)
    def _header_clicked(self, event: GpuTable.HeaderClicked) -> None:
        if event.sort == self.sort:
            self.descending = not self.descending
        else:
            self.sort, self.descending = event.sort, False
        self._show_rows()

    # -- keys -----------------------------------------------------------------------------------------------

    def action_turn_task(self) -> None:
        self.query_one(KnobList).select("task")
        self.query_one(KnobList).action_turn(1)

    def action_toggle_job(self) -> None:
        job = self.query_one(KnobList)
        job.toggle_class("-open")
        self.query_one("#centre").set_class(job.has_class("-open"), "-behind")
        (job if job.has_class("-open") else self.query_one(GpuTable)).focus()

    def action_next_vendor(self) -> None:
        vendors = ["", *sorted({row.vendor for row in self.board.rows})] if self.board else [""]
        position = vendors.index(self.shown.vendor) if self.shown.vendor in vendors else 0
        self.shown = replace(self.shown, vendor=vendors[(position + 1) % len(vendors)])
        self._show_rows()

    def action_toggle_one(self) -> None:
        self.shown = replace(self.shown, one_gpu_only=not self.shown.one_gpu_only)
        self._show_rows()

    def action_toggle_fitting(self) -> None:
        self.shown = replace(self.shown, fitting_only=not self.shown.fitting_only)
        self._show_rows()

    def action_next_sort(self) -> None:
        names = list(SORTS)
        self.sort, self.descending = names[(names.index(self.sort) + 1) % len(names)], False
        self._show_rows()

    def action_reverse(self) -> None:
        self.descending = not self.descending
        self._show_rows()

    def action_toggle_owned(self) -> None:
        row = self.query_one(GpuTable).selected
        if row is not None:
            self.planner.owned = self.planner.owned ^ {row.gpu_id}
            self.show_request(self.request)

    def action_filter(self) -> None:
        self._open_line("name", self.shown.text, "part of a GPU's name")

    def action_budget(self) -> None:
        limit = self.shown.max_usd_per_hour
        self._open_line("budget", "" if limit is None else str(limit), "at most so many dollars per hour")

    def _open_line(self, what: str, value: str, placeholder: str) -> None:
        line = self.query_one("#filter", Input)
        self.typing = what
        line.value, line.placeholder = value, placeholder
        line.add_class("-open")
        line.focus()

    def _close_line(self) -> None:
        self.typing = ""
        self.query_one("#filter", Input).remove_class("-open")
        self.query_one(GpuTable).focus()

    @on(Input.Changed, "#filter")
    def _filter_changed(self, event: Input.Changed) -> None:
        if self.typing == "name":
            self.shown = replace(self.shown, text=event.value)
            self._show_rows()

    @on(Input.Submitted, "#filter")
    def _filter_submitted(self, event: Input.Submitted) -> None:
        if self.typing == "budget" and not self._take_budget(event.value.strip().lstrip("$")):
            return
        self._close_line()

    def _take_budget(self, text: str) -> bool:
        try:
            limit = Decimal(text) if text else None
        except ArithmeticError:
            limit = Decimal("NaN")
        if limit is not None and not (limit.is_finite() and limit >= 0):
            self.notes((f"✗ {text!r} is not an amount of dollars per hour",))
            return False
        self.shown = replace(self.shown, max_usd_per_hour=limit)
        self.notes(self.board.notes if self.board else ())
        self._show_rows()
        return True

    def key_escape(self) -> None:
        if self.typing:
            self._close_line()

    def action_pin(self) -> None:
        row = self.query_one(GpuTable).selected
        if row is not None:
            name = chr(ord("A") + len(self.planner.pins) % 26)
            self.planner.pins = (*self.planner.pins, Pin(name=name, request=self.request, row=row))
            self.notify(f"Pinned as {name}: {row.name}. c compares.")

    def action_compare(self) -> None:
        if self.planner.pins:
            self.app.push_screen(CompareScreen(self.planner.pins))
        else:
            self.notify("Nothing is pinned yet: p pins the selected plan.", severity="warning")

    def action_what_if(self) -> None:
        from tui.app.screens.what_if import WhatIfScreen

        row = self.query_one(GpuTable).selected
        if row is None:
            return

        def row_of(request: PlanRequest) -> GpuRow:
            return self.planner.row_on(request, row)

        self.app.push_screen(WhatIfScreen(self.request, row.name, self.query_one(KnobList).current, row_of))

    def action_pareto(self) -> None:
        from tui.app.screens.pareto import ParetoScreen

        self.app.push_screen(ParetoScreen(self.query_one(GpuTable).rows))

    def action_run(self) -> None:
        from tui.app.screens.run import RunScreen

        self.app.push_screen(RunScreen(self._on_selected()))

    def _on_selected(self) -> PlanRequest:
        """The request placed on the selected GPU, in the count and spread the table shows."""
        row = self.query_one(GpuTable).selected
        if row is None or row.placement is None or row.here:
            return self.request
        hardware = replace(self.request.hardware, gpus=(row.gpu_id,))
        return replace(self.request, hardware=hardware, parallelism=row.placement.parallelism)

    def action_save(self) -> None:
        from tui.app.screens.files import FileScreen

        self.app.push_screen(FileScreen(self.request))

    def action_open(self) -> None:
        from tui.app.screens.files import FileScreen

        def take(request: PlanRequest | None) -> None:
            if request is not None:
                self.show_request(request)

        self.app.push_screen(FileScreen(None), take)

    def action_copy(self) -> None:
        line = command_text(self.request)
        self.app.copy_to_clipboard(line)
        self.notify(line, title="Copied")


def selected_line(row: GpuRow) -> str:
    """The selected GPU in words."""
    fit = row.fit
    if fit is None:
        return f"{row.name}: {row.candidate.why_not or 'no number of these GPUs holds the job'}"
    estimate = fit.estimate
    interval = f"{format_gib(estimate.low_bytes)} to {format_gib(estimate.high_bytes)}"
    spread = f"{format_gib(estimate.expected_bytes)} ({interval})"
    money = f"{usd_text(row.usd_per_hour)}/h" if row.usd_per_hour is not None else "no price known"
    parts = [f"{fit.num_gpus} × {row.name}", f"{spread} of {format_gib(row.memory_bytes)} each", money]
    if row.provider:
        parts.append(f"{row.provider}, price {age_text(row.price_age_days)} old")
    if row.hours is not None:
        parts.append(f"{hours_text(row.hours)}, {usd_text(row.usd_total)} in all")
    return " · ".join(parts)
