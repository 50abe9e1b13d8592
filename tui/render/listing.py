"""A list of things as text: aligned columns in a pipe, a rich table on a terminal, CSV on request."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Format = Literal["auto", "plain", "rich", "csv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    title: str
    right: bool = False
    """Numbers are aligned to the right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str | None = None
    notes: tuple[str, ...] = ()


def render(listing: Listing, fmt: Format = "auto") -> str:
    """``auto`` is rich where stdout is a terminal and plain elsewhere."""
    if fmt == "auto":
        fmt = "rich" if sys.stdout.isatty() else "plain"
    if fmt == "csv":
        return _csv(listing)
    return _rich(listing) if fmt == "rich" else _plain(listing)


def _aligned(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = (
        cell.rjust(width) if column.right else cell.ljust(width)
        for column, cell, width in zip(columns, cells, widths, strict=True)
    )
    return "  ".join(parts).rstrip()


def _plain(listing: Listing) -> str:
    titles = tuple(column.title for column in listing.columns)
    widths = [max(map(len, cells)) for cells in zip(titles, *listing.rows, strict=True)]
    lines = [listing.title] if listing.title else []
    lines += [_aligned(listing.columns, cells, widths) for cells in (titles, *listing.rows)]
    return "\n".join([*lines, *listing.notes])


def _csv(listing: Listing) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(column.title for column in listing.columns)
    rows.writerows(listing.rows)
    return text.getvalue().rstrip("\n")


def _rich(listing: Listing) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    title = Text(listing.title) if listing.title else None
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in listing.columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, no_wrap=column.right, overflow="fold")
    for row in listing.rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    with console.capture() as captured:
        console.print(table)
        for note in listing.notes:
            console.print(Text(note, style="dim"))
    return captured.get().rstrip("\n")
