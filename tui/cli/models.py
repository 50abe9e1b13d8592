"""``plan models``: which models are known, and what is known about one."""

from __future__ import annotations

import click

from planner.errors import ExitCode, RequestError
from planner.model.finder import find_models
from planner.model.registry import all_models, find, resolve
from planner.units import parse_count
from tui.cli.shared.output import report_warnings
from tui.render import model_facts
from tui.render.listing import render


@click.command("models")
@click.argument("query", required=False)
@click.option("--family", help="llama, qwen2, gemma3, mamba… or a part of the name.")
@click.option("--max-params", type=parse_count, metavar="COUNT", help="At most so many parameters: 8B, 500M.")
@click.option("--limit", type=click.IntRange(min=1), help="Show so many.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def command(
    query: str | None, family: str | None, max_params: int | None, limit: int | None, as_csv: bool, as_json: bool
) -> int:
    """List models, or show one model's layers, matrices and sources: `plan models llama-3.1-8b`.

    A QUERY that is a name, a path to a config.json or a hub id shows that model; other words search the list.
    """
    filtered = family is not None or max_params is not None or limit is not None
    found = find_models(query).matching if query else all_models()
    if query and not as_csv and not filtered and (find(query) is not None or not found):
        return _show(query, as_json)
    if family is not None:
        found = tuple(entry for entry in found if family.lower() in entry.family.lower())
    if max_params is not None:
        if max_params < 1:
            raise RequestError("a number of parameters is above zero", hint="--max-params 8B")
        found = tuple(entry for entry in found if entry.params_total <= max_params)
    shown = found[:limit]
    if as_json:
        import json

        click.echo(json.dumps([model_facts.entry_json(entry) for entry in shown], indent=2))
    elif as_csv:
        click.echo(render(model_facts.listing(shown), "csv"))
    elif shown:
        click.echo(render(model_facts.listing(shown)))
    if not shown:
        click.echo("plan: no model of the registry meets all of this (loosen a filter)", err=True)
        return int(ExitCode.DOES_NOT_FIT)
    return int(ExitCode.OK)


def _show(query: str, as_json: bool) -> int:
    resolved = resolve(query)
    model = resolved.architecture
    if model is None:
        raise RequestError(f"{query} is a size, not a model", hint="see plan models for the names")
    report_warnings(resolved.notes)
    entry = find(model.name)
    if as_json:
        import json

        click.echo(json.dumps([model_facts.model_json(resolved, model, entry)], indent=2))
    else:
        click.echo("\n\n".join(render(page) for page in model_facts.page(resolved, model, entry)))
    return int(ExitCode.OK)
