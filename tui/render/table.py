"""A plan as rich tables for a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from planner.plan import Plan
from tui.render import sheet

WIDE = 100
HELD = ("GPUs", "verdict", "each needs", "of")
"""Columns that tell whether the memory holds the job."""
VERDICT_STYLES = {"FITS": "green", "TIGHT": "yellow", "DOES NOT FIT": "red"}


def show(plan: Plan, *, explain: bool = False, console: Console | None = None) -> None:
    """Writes the answer to the terminal; verdicts are words as well as colours."""
    console = console or Console()
    console.print(page(plan, explain=explain, width=console.width))


def page(plan: Plan, *, explain: bool = False, width: int = WIDE) -> RenderableType:
    """The whole answer, for a terminal of so many columns."""
    parts: list[RenderableType] = [Text(sheet.title(plan), style="bold")]
    for block in sheet.blocks(plan):
        parts += [Text(), Text(block.heading, style="bold cyan"), Padding(_facts(block), (0, 0, 0, 2))]
        if block.fits:
            parts += [Padding(_fits(block, names), (0, 0, 0, 2)) for names in _tables(block, width)]
        parts += [Padding(_advised(advised), (1, 0, 0, 2)) for advised in block.advised]
        if explain:
            parts += [Padding(_terms(terms), (1, 0, 0, 2)) for terms in block.explained]
    return Group(*parts)


def _facts(block: sheet.Block) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for label, text in block.facts:
        table.add_row(Text(label), Text(text))
    return table


def _tables(block: sheet.Block, width: int) -> list[tuple[str, ...]]:
    """Columns of one table, or of more where speeds make it too wide; narrow ones leave out "of"."""
    names = tuple(name for name in block.columns if width >= WIDE or name != "of")
    if not block.tells_speed or _needed(block, block.columns) <= width:
        return [names]
    running = tuple(name for name in names if name not in sheet.RENTAL)
    if _needed(block, running) <= width:
        return [running, ("GPUs", *sheet.RENTAL)]
    held = tuple(name for name in running if name in HELD)
    return [held, ("GPUs", *(name for name in running if name not in HELD)), ("GPUs", *sheet.RENTAL)]


def _needed(block: sheet.Block, names: tuple[str, ...]) -> int:
    """Width of a table of these columns, its indent included."""
    rows = (block.columns, *block.fits)
    return 2 + sum(2 + max(len(row[block.columns.index(name)]) for row in rows) for name in names)


def _fits(block: sheet.Block, names: tuple[str, ...]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    shown = [block.columns.index(name) for name in names]
    for index in shown:
        wraps = block.columns[index] in sheet.RENTAL[1:]
        table.add_column(
            block.columns[index], justify="right" if index in block.numbers else "left", no_wrap=not wraps
        )
    for row in block.fits:
        table.add_row(*(Text(row[index], style=VERDICT_STYLES.get(row[index], "")) for index in shown))
    return table


def _advised(advised: sheet.Advised) -> Group:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    for row in advised.rows:
        table.add_row(*map(Text, row))
    return Group(Text(advised.heading, style="bold"), *([table] if advised.rows else []))


def _terms(terms: sheet.Explained) -> Group:
    table = Table(title=terms.heading, title_justify="left", box=None, show_header=False, pad_edge=False)
    for index in range(len(terms.rows[0])):
        table.add_column(justify="right" if index in sheet.TERM_NUMBERS else "left")
    for index, row in enumerate(terms.rows):
        last = index == len(terms.rows) - 1
        table.add_row(*(Text(cell) for cell in row), style="bold" if last else "")
    sources = Text("\n".join(terms.sources), style="dim")
    return Group(table, sources)
