"""A plan as rich tables for a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from planner.plan import Plan
from tui.render import sheet

WIDE = 100
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
    """Columns of one table, or of two where speeds make it too wide; narrow ones leave out "of"."""
    names = tuple(name for name in block.columns if width >= WIDE or name != "of")
    rows = (block.columns, *block.fits)
    needed = sum(max(len(row[index]) for row in rows) + 2 for index in range(len(block.columns)))
    if not block.tells_speed or needed <= width:
        return [names]
    return [tuple(name for name in names if name not in sheet.RENTAL), ("GPUs", *sheet.RENTAL)]


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
