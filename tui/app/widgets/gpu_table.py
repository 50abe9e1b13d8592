"""Every GPU as one line, drawn directly so that a key press repaints only the lines on screen."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from planner.fit import Verdict
from tui.app.cells import age_text, hours_text, memory_bar, need_text, shortened, usd_text
from tui.app.rows import GpuRow

_VERDICT_TEXT = {Verdict.FITS: "fits", Verdict.TIGHT: "tight", Verdict.DOES_NOT_FIT: "no"}
_VERDICT_CLASS = {
    Verdict.FITS: "gpu-table--fits",
    Verdict.TIGHT: "gpu-table--tight",
    Verdict.DOES_NOT_FIT: "gpu-table--no",
}


NARROWEST_NAME, NARROWEST_BAR, WIDEST_PROVIDER = 18, 10, 16


def _taken(columns: list[tuple[str, int]]) -> int:
    """Cells of columns and of the gap behind each."""
    return sum(width + 1 for _, width in columns)


class GpuTable(ScrollView, can_focus=True):
    """A table of ``GpuRow`` with a cursor. Columns narrow to what the width allows."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "gpu-table--header",
        "gpu-table--cursor",
        "gpu-table--fits",
        "gpu-table--tight",
        "gpu-table--no",
        "gpu-table--dim",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "move_page(-1)", "Page up", show=False),
        Binding("pagedown", "move_page(1)", "Page down", show=False),
        Binding("home", "move(-100000)", "First", show=False),
        Binding("end", "move(100000)", "Last", show=False),
        Binding("enter", "choose", "Details", show=False),
    ]

    cursor: reactive[int] = reactive(0)

    class Highlighted(Message):
        """The cursor stands on another row."""

        def __init__(self, row: GpuRow | None) -> None:
            super().__init__()
            self.row = row

    class Chosen(Message):
        """Enter was pressed on a row."""

        def __init__(self, row: GpuRow) -> None:
            super().__init__()
            self.row = row

    class HeaderClicked(Message):
        """A column title was clicked; ``sort`` is a key of ``tui.app.rows.SORTS``."""

        def __init__(self, sort: str) -> None:
            super().__init__()
            self.sort = sort

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - textual's own parameter name
        super().__init__(id=id)
        self.rows: tuple[GpuRow, ...] = ()
        self.widest_name = NARROWEST_NAME
        self.hidden_by = ""
        self.sort = "$/h"
        self.descending = False

    @property
    def line_width(self) -> int:
        """Cells of a line beside the scrollbar."""
        return self.scrollable_content_region.width

    @property
    def selected(self) -> GpuRow | None:
        return self.rows[self.cursor] if self.rows else None

    def show(self, rows: tuple[GpuRow, ...], *, sort: str, descending: bool, hidden_by: str = "") -> None:
        """Replace the rows, keeping the cursor on the GPU it stood on where it is still listed.

        ``hidden_by`` are the filters in words; they are told where no row is left.
        """
        self.hidden_by = hidden_by
        selected = self.selected.gpu_id if self.selected else None
        self.rows, self.sort, self.descending = rows, sort, descending
        self.widest_name = max((len(row.name) for row in rows), default=NARROWEST_NAME)
        position = next((i for i, row in enumerate(rows) if row.gpu_id == selected), 0)
        self.virtual_size = Size(self.line_width, len(rows) + 1)
        self.set_reactive(GpuTable.cursor, position)
        self._keep_cursor_in_view()
        self.refresh()

    def watch_cursor(self) -> None:
        self._keep_cursor_in_view()
        self.refresh()
        self.post_message(self.Highlighted(self.selected))

    def _keep_cursor_in_view(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 2), animate=False)

    def action_move(self, step: int) -> None:
        if self.rows:
            self.cursor = max(0, min(len(self.rows) - 1, self.cursor + step))

    def action_move_page(self, direction: int) -> None:
        self.action_move(direction * max(1, self.size.height - 2))

    def action_choose(self) -> None:
        if self.selected:
            self.post_message(self.Chosen(self.selected))

    def on_click(self, event: Click) -> None:
        if event.y == 0:
            column = self._column_at(event.x)
            if column:
                self.post_message(self.HeaderClicked(column))
            return
        line = event.y - 1 + self.scroll_offset.y
        if line < len(self.rows):
            self.cursor = line

    def _columns(self) -> list[tuple[str, int]]:
        """(title, width) of the columns there is room for; the name and the bar share what is left."""
        width = self.line_width - 1
        columns = [("count", 5), ("fit", 5), ("$/h", 7)]
        if any(row.hours is not None for row in self.rows):
            columns += [("hours", 7), ("total", 7)]
        least = NARROWEST_NAME + NARROWEST_BAR + 2
        while len(columns) > 3 and width < least + _taken(columns):
            columns.pop(3)
        left = width - least - _taken(columns)
        if left >= _taken([("GiB", 5)]):
            columns.insert(0, ("GiB", 5))
            left -= _taken([("GiB", 5)])
        if left >= _taken([("age", 6)]):
            columns.append(("age", 6))
        if left >= _taken([("age", 6), ("from", WIDEST_PROVIDER)]) + 20:
            columns.append(("from", WIDEST_PROVIDER))
        rest = width - _taken(columns) - 2
        name = min(max(NARROWEST_NAME, rest * 3 // 5), self.widest_name)
        return [("name", name), ("memory", max(1, rest - name)), *columns]

    def _column_at(self, x: int) -> str | None:
        left = 1
        for title, width in self._columns():
            if left <= x < left + width + 1:
                return {"fit": "count", "GiB": "count", "from": "$/h"}.get(title, title)
            left += width + 1
        return None

    def render_line(self, y: int) -> Strip:
        width = self.line_width
        if y == 0:
            return self._header(width)
        index = y - 1 + self.scroll_offset.y
        if y == 2 and not self.rows and self.hidden_by:
            told = f" No GPU passes the filter: {self.hidden_by}. x shows all."
            return Strip([Segment(told[:width].ljust(width), self.rich_style)], width)
        if index >= len(self.rows):
            return Strip.blank(width, self.rich_style)
        row = self.rows[index]
        base = self.rich_style
        if index == self.cursor:
            base = self.get_component_rich_style("gpu-table--cursor")
        return self._line(row, base, index == self.cursor, width)

    def _header(self, width: int) -> Strip:
        style = self.get_component_rich_style("gpu-table--header")
        parts = [" "]
        for title, size in self._columns():
            arrow = ("▼" if self.descending else "▲") if title == self.sort else ""
            text = f"{title}{arrow}"
            cell = text.ljust(size) if title in ("name", "memory", "from") else text.rjust(size)
            parts.append(cell[:size] + " ")
        return Strip([Segment("".join(parts)[:width].ljust(width), style)], width)

    def _line(self, row: GpuRow, base: Style, is_cursor: bool, width: int) -> Strip:
        tone = base + Style(color=self.get_component_rich_style(_VERDICT_CLASS[row.verdict]).color)
        dim = base + Style(color=self.get_component_rich_style("gpu-table--dim").color)
        mark = "◆" if row.here else ("●" if row.owned else ("›" if is_cursor else " "))
        segments = [Segment(mark, base)]
        placed = row.placement
        for title, size in self._columns():
            if title == "name":
                text, style = shortened(row.name, size).ljust(size), base
            elif title == "memory":
                text, style = memory_bar(placed.size if placed else None, row.memory_bytes, size), tone
            elif title == "GiB":
                text, style = need_text(row.need_bytes if placed else None).rjust(size), base
            elif title == "count":
                text, style = (f"×{placed.num_gpus}" if placed else "-").rjust(size), base
            elif title == "fit":
                text, style = _VERDICT_TEXT[row.verdict].rjust(size), tone
            elif title == "$/h":
                text, style = usd_text(row.usd_per_hour).rjust(size), base
            elif title == "hours":
                text, style = hours_text(row.hours).rjust(size), base
            elif title == "total":
                text, style = usd_text(row.usd_total).rjust(size), base
            elif title == "age":
                text, style = (age_text(row.price_age_days) if row.is_rented else "-").rjust(size), dim
            else:
                text, style = row.provider.ljust(size), dim
            segments.append(Segment(text[:size] + " ", style))
        return Strip(segments).adjust_cell_length(width, base)
