"""The line that narrows the table: part of a name, or a budget per hour."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Literal

from textual.events import Key
from textual.message import Message
from textual.widgets import Input

from tui.app.rows import RowFilter
from tui.app.widgets.line import Line

_PLACEHOLDERS = {"name": "part of a GPU's name", "budget": "at most so many dollars per hour"}


class FilterLine(Line):
    """Hidden until opened. A name filters while it is typed, a budget when entered."""

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
        self.what: Literal["name", "budget"] | None = None
        self.shown = RowFilter()

    def open(self, what: Literal["name", "budget"], shown: RowFilter) -> None:
        """Show the line with the present value of one filter."""
        limit = shown.max_usd_per_hour
        self.what, self.shown = what, shown
        self.value = shown.text if what == "name" else ("" if limit is None else str(limit))
        self.placeholder = _PLACEHOLDERS[what]
        self.add_class("-open")
        self.focus()

    def close(self) -> None:
        self.what = None
        self.remove_class("-open")
        self.post_message(self.Closed())

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.what == "name" and event.value != self.shown.text:
            self._take(replace(self.shown, text=event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.what == "budget":
            try:
                self._take(replace(self.shown, max_usd_per_hour=_budget(event.value.strip().lstrip("$"))))
            except ValueError as error:
                self.post_message(self.Refused(str(error)))
                return
        self.close()

    def on_key(self, event: Key) -> None:
        if event.key == "escape":
            event.stop()
            self.close()

    def _take(self, shown: RowFilter) -> None:
        self.shown = shown
        self.post_message(self.Filtered(shown))


def _budget(text: str) -> Decimal | None:
    """Dollars per hour; None for an empty line. Raises ValueError with the reason."""
    if not text:
        return None
    try:
        limit = Decimal(text)
    except ArithmeticError:
        limit = Decimal("NaN")
    if not (limit.is_finite() and limit >= 0):
        raise ValueError(f"{text!r} is not an amount of dollars per hour")
    return limit
