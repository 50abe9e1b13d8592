"""``plan advise``: the cheapest changes that make a plan fit, or the next saving where it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from planner.errors import ExitCode
from tui.cli.shared.options import INT, request_options

if TYPE_CHECKING:
    from planner.export.chosen import Chosen

MAX_SHOWN = 1000


@click.command(short_help="What to change so that a plan fits, and what saves next.")
@request_options
@click.option("--top", type=INT, default=8, show_default=True, help="How many changes to show.")
@click.option("--json", "as_json", is_flag=True, help="Changes and warnings as JSON.")
def command(top: int, as_json: bool, **values: Any) -> int:
    """Try changes of a plan on one kind of GPU and rank those that help by what they cost.

    Exit code 1: the plan does not fit as it is.
    """
    from planner.checks import check_range
    from planner.export.chosen import choose
    from planner.model import registry
    from planner.remedies import advise_on
    from tui.cli.shared.output import report_warnings
    from tui.render import advice as render
    from tui.request_builder import build_one

    check_range("top", top, 1, MAX_SHOWN)
    chosen = choose(build_one(values))
    resolved = registry.resolve(chosen.request.model)
    architecture = resolved.architecture
    assert architecture is not None  # ``choose`` refuses a size alone
    report_warnings(resolved.notes)
    advice = advise_on(chosen.request, architecture, chosen.parallelism, chosen.gpu)
    click.echo(render.as_json(advice, chosen) if as_json else f"{_heading(chosen)}\n{render.as_text(advice, top)}")
    return int(ExitCode.OK if advice.fits else ExitCode.DOES_NOT_FIT)


def _heading(chosen: Chosen) -> str:
    """The plan that is spoken of, with the GPUs it was given where none were named."""
    from tui.render.sheet import describe

    return f"{chosen.model_id}, {describe(chosen.request)}, on {chosen.num_gpus} x {chosen.gpu.name}"
