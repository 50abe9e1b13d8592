"""A report as Markdown."""

from __future__ import annotations

from planner.citation import Citation
from tui.render.report import Cell, Report, Table


def render(report: Report) -> str:
    lines = [f"# {report.title}", "", report.made]
    for section in report.sections:
        lines += ["", f"## {section.title}", "", f"    {section.command}", ""]
        lines += [f"- {label + ': ' if label else ''}{text}" for label, text in section.facts]
        for table in section.tables:
            lines += ["", f"### {table.title}", "", *_table(table)]
    if report.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in report.notes)]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    rows = [[_cell(cell) for cell in row] for row in table.rows] or [["none", *[""] * (len(table.columns) - 1)]]
    return [_line(table.columns), _line(["---"] * len(table.columns)), *(_line(row) for row in rows)]


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Citation):
        title = _escaped(cell.title)
        return f"[{title}]({cell.url})" if cell.url else title
    return _escaped(cell)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
