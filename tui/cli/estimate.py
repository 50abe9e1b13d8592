"""``plan [estimate]``: what a model needs, which GPUs hold it, what that costs, and where each number is from."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from planner.checks import check_range
from planner.errors import ExitCode, RequestError
from planner.plan import Plan, plan_requests
from tui.cli.shared.dataset import dataset_option, with_dataset
from tui.cli.shared.options import INT, RequestCommand, Word, request_options
from tui.cli.shared.output import report_warnings
from tui.cli.shared.report import check_report, report_option, write_report
from tui.cli.shared.saved_request import reopened, request_file_option
from tui.files import save
from tui.request_builder import Asked, build

TOP_OF_OVERVIEW = 3
TOP = 6
MAX_SHOWN = 1000
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(cls=RequestCommand)
@request_options
@dataset_option
@click.option("--tier", type=Word(("rule", "analytic", "trace")), default="analytic", help="How deep to go.")
@click.option("--explain", is_flag=True, help="Every term with its formula, values and source.")
@click.option("--top", type=INT, help="How many kinds of GPU to show.")
@request_file_option
@click.option("--save-request", "save_to", type=FILE, help="Keep the request in a file.")
@report_option
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON (docs/json-schema.md).")
@click.option("--csv", "as_csv", is_flag=True, help="The GPUs as CSV.")
def command(
    dataset: Path | None,
    tier: str,
    explain: bool,
    top: int | None,
    saved: Path | None,
    save_to: Path | None,
    report: Path | None,
    as_json: bool,
    as_csv: bool,
    **values: Any,
) -> int:
    """What a model needs, which GPUs hold it and what they cost.

    Without --task, and without an option that belongs to one, an overview: serving, LoRA or QLoRA, and full
    fine-tuning where the weights allow it.
    """
    check_report(report)
    if as_json and as_csv:
        raise RequestError("--json and --csv exclude each other", hint="leave one of them out")
    values = with_dataset(values, dataset)
    asked = build(values) if saved is None else Asked(requests=reopened(saved, values))
    if save_to is not None:
        from planner.request_text import document

        save(save_to, document(asked.requests))
    if top is not None:
        check_range("top", top, 1, MAX_SHOWN)
    shown = top or (TOP if len(asked.requests) == 1 else TOP_OF_OVERVIEW)
    plan = plan_requests(asked.requests, rule_only=tier == "rule", top=shown)
    plan = replace(plan, warnings=plan.warnings + asked.refusals)
    if tier == "trace":
        from validate.trace.estimate import with_traces

        plan = with_traces(plan)
    if any(map(plan.is_detailed, plan.requests)):
        from planner.speeds import with_speeds

        plan = with_speeds(plan)
        if asked.requests[0].hardware.gpus:
            from planner.remedies import with_remedies

            plan = with_remedies(plan, savings=explain)
    if report is not None:
        from datetime import date

        from tui.render.report import report as report_of

        write_report(report_of(plan, date.today()), report)
    _write(plan, explain=explain, as_json=as_json, as_csv=as_csv)
    return int(ExitCode.OK if plan.meets_the_wish else ExitCode.DOES_NOT_FIT)


def _write(plan: Plan, *, explain: bool, as_json: bool, as_csv: bool) -> None:
    report_warnings(plan.warnings)
    if as_json:
        from tui.render import json

        click.echo(json.render(plan))
    elif as_csv:
        from tui.render import csv

        click.echo(csv.render(plan))
    elif sys.stdout.isatty():
        from tui.render import table

        table.show(plan, explain=explain)
    else:
        from tui.render import plain

        click.echo(plain.render(plan, explain=explain))
