"""The screen people live on: the job left, every GPU in the middle, what fills the selected one below."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Footer, Static

from planner.errors import PlannerError
from planner.request import PlanRequest
from tui.app.board import Board
from tui.app.desk import Desk
from tui.app.rows import SORTS, GpuRow, RowFilter, arrange
from tui.app.screens.doors import Doors
from tui.app.widgets.filter_line import FilterLine, What
from tui.app.widgets.gpu_table import GpuTable
from tui.app.widgets.knob_list import KnobList
from tui.app.widgets.selected import SelectedPanel
from tui.command_line import command_text

LOCAL_GPUS_EVERY_S = 5.0
TOO_SMALL = "This needs 50 columns and 14 lines: enlarge the terminal, or make its letters smaller. ctrl+q quits."
WAYS_ON = """\
m       another model: by name, hub id, or a directory with config.json
ctrl+o  open a saved request
?       all keys
ctrl+q  quit

On the command line, plan --params 7B answers with rules of thumb for a size alone."""


class MainScreen(Doors):
    """Shows ``desk.request``; every change goes through ``show_request``."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "pick_model", "Model"),
        Binding("t", "turn_task", "Task"),
        Binding("d", "toggle_job", "Job", show=False),
        Binding("slash", "filter('name')", "Filter"),
        Binding("v", "next_vendor", "Vendor", show=False),
        Binding("1", "toggle_one", "Fits on one", show=False),
        Binding("f", "toggle_fitting", "Only what fits", show=False),
        Binding("b", "filter('budget')", "Budget", show=False),
        Binding("g", "filter('memory')", "Memory", show=False),
        Binding("n", "filter('provider')", "Provider", show=False),
        Binding("x", "show_all", "Show all", show=False),
        Binding("s", "next_sort", "Sort"),
        Binding("S", "reverse", "Reverse", show=False),
        Binding("dollar_sign", "toggle_cost", "Cost", key_display="$"),
        Binding("o", "toggle_owned", "Mine", show=False),
        Binding("p", "pin", "Pin"),
        Binding("c", "compare", "Compare"),
        Binding("w", "what_if", "What-if"),
        Binding("P", "pareto", "Pareto", show=False),
        Binding("a", "advice", "Advice"),
        Binding("r", "run", "Run"),
        Binding("h", "history", "History", show=False),
        Binding("e", "export", "Export"),
        Binding("y", "copy", "Copy"),
        Binding("ctrl+s", "save", "Save", show=False),
        Binding("ctrl+o", "open", "Open", show=False),
    ]

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.board: Board | None = None
        self.shown = RowFilter()
        self.sort = "$/h"
        self.descending = False

    def compose(self) -> ComposeResult:
        with Horizontal(id="title"):
            yield Static("", id="title-model", markup=False)
            yield Static("", id="title-count", markup=False)
        yield Static(TOO_SMALL, id="too-small", markup=False)
        with Horizontal(id="body"):
            yield KnobList(self.desk.request, id="job")
            with Vertical(id="centre"):
                yield Static("", id="calm", markup=False)
                yield FilterLine()
                yield GpuTable(id="table")
                yield SelectedPanel(id="selected")
        yield Static("", id="notes")
        yield Static("", id="command", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self.show_request(self.desk.request)
        self.query_one(KnobList).focus()
        self.set_interval(LOCAL_GPUS_EVERY_S, self._refresh_local_gpus)

    def on_resize(self) -> None:
        self.call_after_refresh(self._fit_to_size)

    def _fit_to_size(self) -> None:
        """A panel that a narrow terminal hides hands the keys to the table; one with room again is filled."""
        if self.focused is None or not self.focused.display:
            self.query_one(GpuTable).focus()
        self._show_selected(self.query_one(GpuTable).selected)

    # -- the one way a change reaches the screen ------------------------------------------------------------

    def show_request(self, request: PlanRequest) -> bool:
        """Plan ``request`` on every GPU and redraw; a request that cannot be planned is refused in place."""
        try:
            board = self.desk.board_of(request)
            line = command_text(request)
        except PlannerError as error:
            if self.board is None:
                self._stay_calm(request, error)
            else:
                self.refuse(error)
            return False
        self.set_class(False, "-calm")
        self.desk.request = request
        self.board = board
        self.query_one(KnobList).show(request)
        self.query_one("#command", Static).update(f"$ {line}")
        self.notes(board.notes)
        self._show_rows()
        return True

    def _show_rows(self) -> None:
        if self.board is None:
            return
        rows = arrange(self.board.rows, self.shown, self.sort, self.descending)
        table = self.query_one(GpuTable)
        table.show(rows, sort=self.sort, descending=self.descending, hidden_by=self.shown.words)
        self._show_selected(table.selected)
        self.show_title()

    def show_title(self) -> None:
        if self.board is None:
            return
        rows = self.query_one(GpuTable).rows
        holding = sum(1 for row in rows if row.placement is not None)
        child = self.desk.child
        running = f"{child.name} runs   " if child is not None and child.is_running else ""
        filters = f"[{self.shown.words}]  " if self.shown.words else ""
        self.query_one("#title-model", Static).update(f"gpu-planner   {self.board.model_line}")
        self.query_one("#title-count", Static).update(
            f"{running}{filters}{holding} of {len(rows)} GPUs hold it   ? help"
        )

    def _stay_calm(self, request: PlanRequest, error: PlannerError) -> None:
        """Nothing is planned yet: say why, and the way on."""
        self.set_class(True, "-calm")
        self.query_one("#title-model", Static).update(f"gpu-planner   {request.model}")
        self.query_one("#title-count", Static).update("? help")
        why = error.message + (f"\n{error.hint}" if error.hint else "")
        self.query_one("#calm", Static).update(f"{request.model} cannot be planned here.\n\n{why}\n\n{WAYS_ON}")
        self.notes(())

    def refuse(self, error: PlannerError) -> None:
        self.notes((f"✗ {error.message}" + (f" ({error.hint})" if error.hint else ""),))

    def notes(self, lines: tuple[str, ...]) -> None:
        box = self.query_one("#notes", Static)
        box.set_class(not lines, "-empty")
        box.update("\n".join(lines[:3]).replace("[", r"\["))

    def _show_selected(self, row: GpuRow | None) -> None:
        panel = self.query_one(SelectedPanel)
        panel.show(row)
        if panel.shows_cost and self.board is not None:
            priced = None if row is None else self.desk.cost_of(row, self.board)
            panel.show_cost(priced, self.desk.world.today())

    def _refresh_local_gpus(self) -> None:
        if self.desk.read_local_gpus():
            self.show_request(self.desk.request)

    # -- messages -------------------------------------------------------------------------------------------

    @on(KnobList.Turned)
    def _turned(self, event: KnobList.Turned) -> None:
        if not self.show_request(event.request):
            self.query_one(KnobList).show(self.desk.request)

    @on(KnobList.Refused)
    def _refused(self, event: KnobList.Refused) -> None:
        self.notes((f"✗ {event.reason}",) if event.reason else (self.board.notes if self.board else ()))

    @on(GpuTable.Highlighted)
    def _highlighted(self, event: GpuTable.Highlighted) -> None:
        self._show_selected(event.row)

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

    def action_show_all(self) -> None:
        self.shown = RowFilter()
        self._show_rows()

    def action_next_sort(self) -> None:
        names = list(SORTS)
        self.sort, self.descending = names[(names.index(self.sort) + 1) % len(names)], False
        self._show_rows()

    def action_reverse(self) -> None:
        self.descending = not self.descending
        self._show_rows()

    def action_toggle_cost(self) -> None:
        """Memory or cost of the selected GPU, where both have no room."""
        panel = self.query_one(SelectedPanel)
        panel.toggle_class("-cost")
        self._show_selected(self.query_one(GpuTable).selected)

    def action_toggle_owned(self) -> None:
        row = self.query_one(GpuTable).selected
        if row is not None:
            self.desk.toggle_owned(row.gpu_id)
            self.show_request(self.desk.request)

    def action_filter(self, what: What) -> None:
        self.query_one(FilterLine).open(what, self.shown)

    @on(FilterLine.Filtered)
    def _filtered(self, event: FilterLine.Filtered) -> None:
        self.shown = event.shown
        self.notes(self.board.notes if self.board else ())
        self._show_rows()

    @on(FilterLine.Refused)
    def _filter_refused(self, event: FilterLine.Refused) -> None:
        self.notes((f"✗ {event.reason}",))

    @on(FilterLine.Closed)
    def _filter_closed(self) -> None:
        self.query_one(GpuTable).focus()

    def action_copy(self) -> None:
        line = command_text(self.desk.request)
        self.app.copy_to_clipboard(line)
        self.notify(line, title="Copied")
