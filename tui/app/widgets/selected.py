"""The selected GPU: where its memory goes and what it costs, side by side where there is room, else in turns."""

from __future__ import annotations

from datetime import date

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from tui.app.costs import RowCost, cost_lines
from tui.app.rows import GpuRow, placed_words
from tui.app.widgets.breakdown import BreakdownView


class CostView(Static):
    """The cost panel; as wide as it is given room."""

    priced: RowCost | None = None
    today = date.min

    def show(self, priced: RowCost | None, today: date) -> None:
        self.priced, self.today = priced, today
        self.refresh(layout=True)

    def render(self) -> Content:
        if self.priced is None:
            return Content("No cost: this job cannot be placed on the selected GPU.")
        head, *lines = cost_lines(self.priced, self.today, max(20, self.content_size.width))
        return Content("\n").join([Content.styled(head, "bold"), *(Content(line) for line in lines)])


class SelectedPanel(Vertical):
    """Memory and cost of one row."""

    def compose(self) -> ComposeResult:
        yield Static("", id="selected-title", markup=False)
        with Horizontal(id="panes"):
            yield BreakdownView(id="breakdown")
            yield CostView(id="cost")

    def show(self, row: GpuRow | None) -> None:
        title, view = self.query_one("#selected-title", Static), self.query_one(BreakdownView)
        if row is None:
            title.update("No GPU matches the filter.")
            view.show(None, 1)
            return
        title.update(placed_words(row))
        fit = row.fit
        view.show(fit.estimate if fit else None, row.memory_bytes)

    def show_cost(self, priced: RowCost | None, today: date) -> None:
        self.query_one(CostView).show(priced, today)

    @property
    def shows_cost(self) -> bool:
        """Whether the cost is on screen."""
        return self.query_one(CostView).display
