"""Everything behind one number: the terms at the peak with formula, values and source."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from planner.units import format_gib
from tui.app.rows import GpuRow
from tui.app.widgets.breakdown import terms_text


class DetailScreen(ModalScreen[None]):
    """The terms of the selected GPU's plan; they add up to the estimate."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "Back"),
        Binding("x", "toggle_sources", "Sources on and off"),
    ]

    def __init__(self, row: GpuRow) -> None:
        super().__init__()
        self.row = row
        self.with_source = True

    def compose(self) -> ComposeResult:
        yield Static("", classes="screen-title", id="detail-title", markup=False)
        with VerticalScroll(id="detail"):
            yield Static("", id="detail-terms")
        yield Footer()

    def on_mount(self) -> None:
        self._show()

    def on_resize(self) -> None:
        self._show()

    def _show(self) -> None:
        fit = self.row.fit
        title = self.query_one("#detail-title", Static)
        if fit is None:
            title.update(f"{self.row.name}: {self.row.candidate.why_not}")
            return
        estimate = fit.estimate
        title.update(
            f"{fit.num_gpus} × {self.row.name}: {format_gib(estimate.expected_bytes)} per GPU at its peak, "
            f"the {estimate.phase} phase" + (f" · {estimate.calibration}" if estimate.calibration else "")
        )
        self.query_one("#detail-terms", Static).update(
            terms_text(estimate.terms, self.size.width - 6, with_source=self.with_source)
        )

    def action_toggle_sources(self) -> None:
        self.with_source = not self.with_source
        self._show()
