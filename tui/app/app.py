"""The full-screen application: one state, and the screens that show it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

import planner.board
from planner.request import PlanRequest
from tui.app.board import Ask, Board, make_board, make_row
from tui.app.local_gpus import LocalGpu, local_gpus
from tui.app.rows import GpuRow
from tui.app.screens.compare import Pin
from tui.app.screens.main import MainScreen

Clock = Callable[[], date]
GpuProbe = Callable[[], tuple[LocalGpu, ...]]


class PlannerApp(App[str | None]):
    """Pick GPUs for a job. Holds the request, the pins and the owned GPUs; screens only draw them."""

    TITLE = "gpu-planner"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", priority=True),
        Binding("f1,question_mark", "help", "Help"),
    ]

    def __init__(
        self,
        request: PlanRequest,
        *,
        today: Clock = date.today,
        probe: GpuProbe = local_gpus,
        ask: Ask = planner.board.board,
    ) -> None:
        super().__init__()
        self.HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
        self.VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]
        self.request = request
        self.today = today
        self.pins: tuple[Pin, ...] = ()
        self.owned: frozenset[str] = frozenset()
        self.local_gpus: tuple[LocalGpu, ...] = ()
        self._probe = probe
        self._ask = ask

    def read_local_gpus(self) -> bool:
        """Read this machine's GPUs again; True where something changed."""
        before, self.local_gpus = self.local_gpus, self._probe()
        return before != self.local_gpus

    def on_mount(self) -> None:
        self.read_local_gpus()
        self.push_screen(MainScreen(self.request))

    def board_of(self, request: PlanRequest) -> Board:
        """Every GPU against ``request``; raises PlannerError where it cannot be planned."""
        return make_board(request, owned=self.owned, local=self.local_gpus, today=self.today(), ask=self._ask)

    def row_on(self, request: PlanRequest, row: GpuRow) -> GpuRow:
        """``request`` on the GPU of ``row``."""
        return make_row(request, row, owned=self.owned, local=self.local_gpus, today=self.today(), ask=self._ask)

    def action_help(self) -> None:
        from tui.app.screens.help import HelpScreen

        self.push_screen(HelpScreen())
