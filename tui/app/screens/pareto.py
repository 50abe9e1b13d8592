"""Hours against price of every GPU that holds the job."""

from __future__ import annotations

import string
from decimal import Decimal
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from tui.app.cells import hours_text, usd_text
from tui.app.rows import GpuRow
from tui.app.widgets.plots import pareto_front, scatter

LETTERS = string.ascii_uppercase + string.ascii_lowercase
NOTHING = """
No GPU of the table has both a time and a price.

A time needs the length of the job: set tokens/epoch of a training job.
Serving has no end, so there is nothing to set against the price."""


class ParetoScreen(ModalScreen[None]):
    """A scatter of the table's rows with the front named below it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,P", "dismiss", "Back")]

    def __init__(self, rows: tuple[GpuRow, ...]) -> None:
        super().__init__()
        self.rows = [row for row in rows if row.hours and row.usd_total]

    def compose(self) -> ComposeResult:
        yield Static("Hours against dollars for the whole job", classes="screen-title")
        with VerticalScroll(id="pareto"):
            yield Static("", id="scatter")
            yield Static("", id="front", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self._show()

    def on_resize(self) -> None:
        self._show()

    def _show(self) -> None:
        if not self.rows:
            self.query_one("#scatter", Static).update(NOTHING)
            return
        points = [(row.hours or 0.0, float(row.usd_total or 0)) for row in self.rows]
        best = sorted(pareto_front(points), key=lambda i: points[i])
        signs = {i: LETTERS[place % len(LETTERS)] for place, i in enumerate(best)}
        height = max(6, self.size.height - len(best) - 8)
        picture = scatter(points, signs, self.size.width - 4, height, hours_text, _usd)
        self.query_one("#scatter", Static).update(picture)
        lines = [f"{'':>4}{'hours':>9}  {'total':>9}  not beaten in both by any of {len(points)} GPUs"]
        for i, sign in signs.items():
            row = self.rows[i]
            lines.append(f"{sign:>4}{hours_text(row.hours):>9}  {usd_text(row.usd_total):>9}  {row.placed}")
        self.query_one("#front", Static).update("\n".join(lines))


def _usd(amount: float) -> str:
    return usd_text(Decimal(str(amount)))
