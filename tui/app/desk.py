"""What lies open: the request, the pins, the GPUs at hand, and the one way to plan them. Screens only draw it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import planner.board
from planner.request import PlanRequest
from tui.app.board import Ask, Board, make_board, make_row
from tui.app.local_gpus import LocalGpu, local_gpus
from tui.app.rows import GpuRow

Clock = Callable[[], date]
GpuProbe = Callable[[], tuple[LocalGpu, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A plan kept for comparison."""

    name: str
    request: PlanRequest
    row: GpuRow


class Desk:
    """The state of the app. ``today``, ``probe`` and ``ask`` are the world around it, replaced in tests."""

    def __init__(
        self,
        request: PlanRequest,
        *,
        today: Clock = date.today,
        probe: GpuProbe = local_gpus,
        ask: Ask = planner.board.board,
    ) -> None:
        self.request = request
        self.pins: tuple[Pin, ...] = ()
        self.owned: frozenset[str] = frozenset()
        self.local_gpus: tuple[LocalGpu, ...] = ()
        self._today = today
        self._probe = probe
        self._ask = ask

    def read_local_gpus(self) -> bool:
        """Read this machine's GPUs again; True where something changed."""
        before, self.local_gpus = self.local_gpus, self._probe()
        return before != self.local_gpus

    def board_of(self, request: PlanRequest) -> Board:
        """Every GPU against ``request``; raises PlannerError where it cannot be planned."""
        return make_board(request, owned=self.owned, local=self.local_gpus, today=self._today(), ask=self._ask)

    def row_on(self, request: PlanRequest, row: GpuRow) -> GpuRow:
        """``request`` on the GPU of ``row``."""
        return make_row(request, row, owned=self.owned, local=self.local_gpus, today=self._today(), ask=self._ask)

    def pin(self, row: GpuRow) -> Pin:
        """Keep the request on the GPU of ``row`` under the next letter."""
        pin = Pin(name=chr(ord("A") + len(self.pins) % 26), request=self.request, row=row)
        self.pins = (*self.pins, pin)
        return pin

    def toggle_owned(self, gpu_id: str) -> None:
        self.owned = self.owned ^ {gpu_id}
