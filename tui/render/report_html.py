"""A report as one self-contained HTML page: no script, no font and no picture from elsewhere."""

from __future__ import annotations

from html import escape

from planner.citation import Citation
from tui.render.report import Cell, Report, Section, Table
from tui.render.report_chart import phases_chart, prices_chart
from tui.render.report_front import front_chart

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-size: .9rem; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
code { background: #8882; padding: .2rem .4rem; border-radius: 4px; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; fill: currentColor; }
dt { font-weight: 600; } dd { margin: 0 0 .3rem 1rem; }
@media print { details { display: block; } }
"""


def render(report: Report) -> str:
    title = escape(report.title)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{title}</h1>\n<p>{escape(report.made)}</p>",
        *(_section(section) for section in report.sections),
    ]
    if report.notes:
        parts += ["<h2>Notes</h2>\n<ul>", *(f"<li>{escape(note)}</li>" for note in report.notes), "</ul>"]
    return "\n".join((*parts, "</body>\n</html>\n"))


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>", f"<p><code>{escape(section.command)}</code></p>", "<dl>"]
    parts += [f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in section.facts]
    parts.append("</dl>")
    if section.front is not None:
        parts += ["<h3>Cost against time; on the line: nothing is both cheaper and faster</h3>"]
        parts += [front_chart(section.front)]
    if section.estimate is not None:
        parts += ["<h3>Memory by phase</h3>", phases_chart(section.estimate)]
    if chart := prices_chart(section.fits):
        parts += ["<h3>Price against free memory; ringed: nothing else is cheaper and freer</h3>", chart]
    return "\n".join((*parts, *(_table(table) for table in section.tables)))


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "\n".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f"<h3>{escape(table.title)}</h3>\n<table>\n<tr>{head}</tr>\n{rows}\n</table>"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Citation):
        title = escape(cell.title)
        return f'<a href="{escape(cell.url)}">{title}</a>' if cell.url else title
    return escape(cell)
