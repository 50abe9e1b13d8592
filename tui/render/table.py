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
    console.print(page(plan, explain=explain, narrow=console.width < WIDE))


def page(plan: Plan, *, explain: bool = False, narrow: bool = False) -> RenderableType:
    """The whole answer; a ``narrow`` one leaves out what the name of a GPU says too."""
    parts: list[RenderableType] = [Text(sheet.title(plan), style="bold")]
    for block in sheet.blocks(plan):
        parts += [Text(), Text(block.heading, style="bold cyan"), Padding(_facts(block), (0, 0, 0, 2))]
        if block.fits:
            parts.append(Padding(_fits(block, narrow=narrow), (0, 0, 0, 2)))
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


def _fits(block: sheet.Block, *, narrow: bool) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    shown = [index for index, name in enumerate(block.columns) if not (narrow and name == "of")]
    for index in shown:
        name = block.columns[index]
        last = index == len(block.columns) - 1
        table.add_column(name, justify="right" if index in block.numbers else "left", no_wrap=not last)
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
