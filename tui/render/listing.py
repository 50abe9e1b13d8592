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
    optional: bool = False
    """Left out, the last one first, where a terminal is too narrow."""


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


_PADDING = 3
_WRAPS_FROM = 28
"""A text column may be squeezed to this width; numbers and the first column never are."""


def _fitted(listing: Listing, width: int) -> Listing:
    """The listing without the optional columns that ``width`` has no room for."""
    kept = list(range(len(listing.columns)))
    while kept and _natural_width(listing, kept) > width:
        optional = [index for index in kept if listing.columns[index].optional]
        if not optional:
            break
        kept.remove(optional[-1])
    if len(kept) == len(listing.columns):
        return listing
    missing = ", ".join(column.title for index, column in enumerate(listing.columns) if index not in kept)
    return Listing(
        columns=tuple(listing.columns[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for row in listing.rows),
        title=listing.title,
        notes=(*listing.notes, f"no room for {missing}"),
    )


def _natural_width(listing: Listing, kept: Sequence[int]) -> int:
    total = 0
    for index in kept:
        column = listing.columns[index]
        widest = max(len(column.title), *(len(row[index]) for row in listing.rows), 0)
        total += _PADDING + (widest if column.right or index == 0 else min(widest, _WRAPS_FROM))
    return total


def _rich(listing: Listing) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    listing = _fitted(listing, console.width)
    title = Text(listing.title) if listing.title else None
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for index, column in enumerate(listing.columns):
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, no_wrap=column.right or index == 0, overflow="fold")
    for row in listing.rows:
        table.add_row(*(Text(cell) for cell in row))
    with console.capture() as captured:
        console.print(table)
        for note in listing.notes:
            console.print(Text(note, style="dim"))
    return captured.get().rstrip("\n")
