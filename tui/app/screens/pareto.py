"""Hours against price of every GPU that holds the job."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from tui.app.cells import hours_text, usd_text
from tui.app.rows import GpuRow
from tui.app.widgets.plots import pareto_front, scatter


class ParetoScreen(ModalScreen[None]):
    """A scatter of the table's rows with the front named below it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,P", "dismiss", "Back")]

    def __init__(self, rows: tuple[GpuRow, ...]) -> None:
        super().__init__()
        self.rows = [row for row in rows if row.hours and row.usd_total]

    def compose(self) -> ComposeResult:
        yield Static("Hours against dollars for the whole job", classes="screen-title")
        with VerticalScroll():
            yield Static("", id="scatter")
            yield Static("", id="front", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self._show()

    def on_resize(self) -> None:
        self._show()

    def _show(self) -> None:
        if not self.rows:
            self.query_one("#scatter", Static).update(
                "No row has both a time and a price: set the tokens of a training job in the job panel."
            )
            return
        points = [(row.hours or 0.0, float(row.usd_total or 0)) for row in self.rows]
        height = max(6, self.size.height - 14)
        self.query_one("#scatter", Static).update(scatter(points, self.size.width - 6, height, "hours", "dollars"))
        best = sorted((self.rows[i] for i in pareto_front(points)), key=lambda row: row.hours or 0.0)
        lines = [f"{hours_text(row.hours):>9}  {usd_text(row.usd_total):>9}  {row.placed}" for row in best]
        self.query_one("#front", Static).update("\n".join(lines))
