"""``plan compare A.json B.json``: what differs between two answers, term by term."""

from __future__ import annotations

from pathlib import Path

import click

from planner.errors import ExitCode

_FILE = click.Path(path_type=Path)


@click.command
@click.argument("first", metavar="A.json", type=_FILE)
@click.argument("second", metavar="B.json", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="The comparison as JSON.")
def command(first: Path, second: Path, as_json: bool) -> int:
    """What differs between two answers, term by term.

    A and B are answers of `plan … --json`, or requests of `plan … --save-request`, which are answered first.
    """
    from tui.answer_file import load
    from tui.comparison import compare
    from tui.render import compared

    comparison = compare(load(first), load(second))
    click.echo(compared.render_json(comparison) if as_json else compared.render_text(comparison))
    return int(ExitCode.OK)
