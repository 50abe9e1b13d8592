"""Pinned plans side by side, term by term."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Static

from planner.units import format_gib
from tui.app.cells import hours_text, usd_text
from tui.app.desk import Desk, Pin
from tui.app.knobs import KNOBS


def difference(size_bytes: int, base_bytes: int) -> str:
    """A size and how far it is from the first pin's."""
    text = format_gib(size_bytes)
    change = size_bytes - base_bytes
    return text if change == 0 else f"{text} ({'+' if change > 0 else '-'}{format_gib(abs(change))})"


def comparison(pins: tuple[Pin, ...]) -> list[list[str]]:
    """Rows of the table: a label and one cell per pin; sizes carry the difference from the first."""
    fits = [pin.row.fit for pin in pins]
    estimates = [fit.estimate if fit else None for fit in fits]
    by_kind: list[dict[str, int]] = []
    for estimate in estimates:
        sums: dict[str, int] = {}
        for term in estimate.terms if estimate else ():
            sums[term.kind] = sums.get(term.kind, 0) + term.size_bytes
        by_kind.append(sums)
    kinds = sorted(
        {kind for sums in by_kind for kind in sums}, key=lambda kind: -max(s.get(kind, 0) for s in by_kind)
    )
    rows = [
        ["GPU", *(pin.row.placed for pin in pins)],
        ["verdict", *(pin.row.verdict.value for pin in pins)],
        ["$/h", *(usd_text(pin.row.usd_per_hour) for pin in pins)],
        ["hours", *(hours_text(pin.row.hours) for pin in pins)],
        ["total", *(usd_text(pin.row.usd_total) for pin in pins)],
        *_changed_knobs(pins),
        ["peak phase", *(estimate.phase if estimate else "-" for estimate in estimates)],
    ]
    totals = [estimate.expected_bytes if estimate else 0 for estimate in estimates]
    rows.append(["per GPU", *(difference(total, totals[0]) for total in totals)])
    intervals = [
        f"{format_gib(estimate.low_bytes)} to {format_gib(estimate.high_bytes)}" if estimate else "-"
        for estimate in estimates
    ]
    rows.append(["interval", *intervals])
    for kind in kinds:
        sizes = [sums.get(kind, 0) for sums in by_kind]
        rows.append([f"  {kind.replace('_', ' ')}", *(difference(size, sizes[0]) for size in sizes)])
    return rows


def _changed_knobs(pins: tuple[Pin, ...]) -> list[list[str]]:
    """A row for every knob on which the pins do not agree."""
    rows = []
    for knob in KNOBS:
        cells = [knob.text(pin.request) if knob.applies(pin.request) else "-" for pin in pins]
        if len(set(cells)) > 1:
            rows.append([knob.label, *cells])
    return rows


class CompareScreen(ModalScreen[None]):
    """Differences of every pin from the first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Back"),
        Binding("x", "clear", "Remove all pins"),
    ]

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk

    def compose(self) -> ComposeResult:
        yield Static("Pinned plans: sizes per GPU, differences from the first", classes="screen-title")
        yield DataTable(id="compare", cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        table.add_columns("", *(pin.name for pin in self.desk.pins))
        for row in comparison(self.desk.pins):
            table.add_row(*row)

    def action_clear(self) -> None:
        self.desk.pins = ()
        self.dismiss()
