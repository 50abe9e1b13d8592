"""``--report FILE``: a page to hand on, as HTML or Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.errors import RequestError
from tui.files import save

if TYPE_CHECKING:
    from tui.render.report import Report

SUFFIXES = (".html", ".md")
report_option = click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a page to hand on: FILE.html or FILE.md.",
)


def check_report(path: Path | None) -> None:
    """Refuse a name that is neither, before any work is done."""
    if path is not None and path.suffix not in SUFFIXES:
        raise RequestError(f"--report writes .html or .md, not {path.name!r}", hint="--report answer.html")


def write_report(made: Report, path: Path) -> None:
    """A page with charts, assumptions, sources and dated prices."""
    from tui.render import report_html, report_markdown

    render = report_html.render if path.suffix == ".html" else report_markdown.render
    save(path, render(made))
