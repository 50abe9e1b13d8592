"""The line that narrows the table: part of a name, a provider, the least memory, or a budget per hour."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Literal

from textual.events import Key
from textual.message import Message
from textual.widgets import Input

from planner.checks import MAX_USD
from planner.errors import RequestError
from planner.units import GIB, parse_bytes
from tui.app.rows import RowFilter
from tui.app.widgets.line import Line

What = Literal["name", "provider", "memory", "budget"]
_PLACEHOLDERS: dict[What, str] = {
    "name": "part of a GPU's name",
    "provider": "part of a provider's name",
    "memory": "at least so much memory on each GPU: 24GiB, 80GB",
    "budget": "at most so many dollars per hour",
}


class FilterLine(Line):
    """Hidden until opened. Names filter while they are typed, sizes and budgets when entered."""

    class Filtered(Message):
        """The filter changed."""

        def __init__(self, shown: RowFilter) -> None:
            super().__init__()
            self.shown = shown

    class Refused(Message):
        """What was typed is no filter."""

        def __init__(self, reason: str) -> None:
            super().__init__()
            self.reason = reason

    class Closed(Message):
        """The line is hidden again."""

    def __init__(self) -> None:
        super().__init__(id="filter", compact=True)
        self.what: What | None = None
        self.shown = RowFilter()

    def open(self, what: What, shown: RowFilter) -> None:
        """Show the line with the present value of one filter."""
        self.what, self.shown = what, shown
        self.value = _typed(what, shown)
        self.placeholder = _PLACEHOLDERS[what]
        self.add_class("-open")
        self.focus()

    def close(self) -> None:
        self.what = None
        self.remove_class("-open")
        self.post_message(self.Closed())

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.what in ("name", "provider") and event.value != _typed(self.what, self.shown):
            self._take(self.what, event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.what in ("memory", "budget"):
            try:
                self._take(self.what, event.value.strip())
            except (ValueError, RequestError) as error:
                self.post_message(self.Refused(str(error)))
                return
        self.close()

    def on_key(self, event: Key) -> None:
        if event.key == "escape":
            event.stop()
            self.close()

    def _take(self, what: What, text: str) -> None:
        match what:
            case "name":
                self.shown = replace(self.shown, text=text)
            case "provider":
                self.shown = replace(self.shown, provider=text)
            case "memory":
                self.shown = replace(self.shown, min_memory_bytes=parse_bytes(text) if text else 0)
            case "budget":
                self.shown = replace(self.shown, max_usd_per_hour=_budget(text.lstrip("$")))
        self.post_message(self.Filtered(self.shown))


def _typed(what: What, shown: RowFilter) -> str:
    """The present value of a filter as a person would type it."""
    match what:
        case "name":
            return shown.text
        case "provider":
            return shown.provider
        case "memory":
            return f"{shown.min_memory_bytes / GIB:g}GiB" if shown.min_memory_bytes else ""
        case "budget":
            return "" if shown.max_usd_per_hour is None else str(shown.max_usd_per_hour)


def _budget(text: str) -> Decimal | None:
    """Dollars per hour; None for an empty line. Raises ValueError with the reason."""
    if not text:
        return None
    try:
        limit = Decimal(text)
    except ArithmeticError:
        limit = Decimal("NaN")
    if not (limit.is_finite() and 0 <= limit <= MAX_USD):
        raise ValueError(f"{text!r} is not an amount of dollars per hour")
    return limit
