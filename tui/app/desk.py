"""What lies open: the request, the pins, the GPUs at hand, and the one way to plan them. Screens only draw it."""

from __future__ import annotations

from dataclasses import dataclass

from planner.request import PlanRequest
from tui.app.board import Board, make_board, make_row
from tui.app.child import Child
from tui.app.costs import RowCost, row_cost
from tui.app.local_gpus import LocalGpus
from tui.app.rows import GpuRow
from tui.app.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A plan kept for comparison."""

    name: str
    request: PlanRequest
    row: GpuRow


class Desk:
    """The state of the app, in a ``World``."""

    def __init__(self, request: PlanRequest, world: World | None = None) -> None:
        self.request = request
        self.world = world or World()
        self.pins: tuple[Pin, ...] = ()
        self.owned: frozenset[str] = frozenset()
        self.local = LocalGpus()
        self.child: Child | None = None
        """The trace or measurement that was started last."""

    def read_local_gpus(self) -> bool:
        """Read this machine's GPUs again; True where something changed."""
        before, self.local = self.local, self.world.probe()
        return before != self.local

    def board_of(self, request: PlanRequest) -> Board:
        """Every GPU against ``request``; raises PlannerError where it cannot be planned."""
        return make_board(request, owned=self.owned, local=self.local.gpus, world=self.world)

    def row_on(self, request: PlanRequest, row: GpuRow) -> GpuRow:
        """``request`` on the GPU of ``row``."""
        return make_row(request, row, owned=self.owned, local=self.local.gpus, world=self.world)

    def cost_of(self, row: GpuRow, board: Board) -> RowCost | None:
        """What the board's request costs on the GPU of ``row``; None where it cannot be placed there."""
        world = self.world
        return row_cost(row, board.request, board.model, offers_of=world.offers_of, speed_of=world.speed_of)

    def pin(self, row: GpuRow) -> Pin:
        """Keep the request on the GPU of ``row`` under the next letter."""
        pin = Pin(name=chr(ord("A") + len(self.pins) % 26), request=self.request, row=row)
        self.pins = (*self.pins, pin)
        return pin

    def toggle_owned(self, gpu_id: str) -> None:
        self.owned = self.owned ^ {gpu_id}
