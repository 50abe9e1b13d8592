"""A line to type in."""

from __future__ import annotations

from textual.widgets import Input


class Line(Input):
    """An input whose cursor stands still: over ssh nothing is repainted while nobody types."""

    def on_mount(self) -> None:
        self.cursor_blink = False
