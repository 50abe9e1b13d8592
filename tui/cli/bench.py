"""``plan bench``: score the engine on published measurements."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command(name="bench", short_help="Score predictions against published measurements.")
@click.argument("files", nargs=-1, required=True, metavar="CASES.jsonl…", type=click.Path(path_type=Path))
@click.option(
    "--tier",
    type=click.Choice(["analytic", "trace"]),
    default="analytic",
    show_default=True,
    help="Which engine predicts memory; trace runs the real step on fake tensors and takes seconds per case.",
)
@click.option("--json", "as_json", is_flag=True, help="Scoreboard, refusals and predictions as JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Write one {id, predicted, low, high} line per case.")
@click.option("--core", is_flag=True, help="Only cases marked core.")
@click.option("--strong", is_flag=True, help="Without cases that carry a reason to be weak.")
@click.option(
    "--range", "within_resolution", is_flag=True, help="Count a hit within the printed resolution as exact."
)
@click.option(
    "--by", default="family", show_default=True, help="family, quantity, phase, method, framework, source, grade."
)
@click.option("--worst", type=click.IntRange(min=0), default=0, metavar="N", help="List the N largest errors.")
def command(
    files: tuple[Path, ...], tier: str, as_json: bool, out: Path | None, core: bool, strong: bool,
    within_resolution: bool, by: str, worst: int,
) -> int:  # fmt: skip
    """Predict every case of CASES.jsonl and show how far the answers are off, per family and in all.

    A case that cannot be expressed or is not supported is listed with its reason, never dropped.
    """
    # Cases are scored on what is known here: a model the hub would have to be asked for is refused by name.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from planner.quantity import Tier
    from tui.render import bench as render
    from validate.bench import run_bench
    from validate.cases import read_cases

    cases = [case for path in files for case in read_cases(path)]
    result = run_bench(
        cases, tier=Tier(tier), core=core, strong=strong, by=by, within_resolution=within_resolution
    )
    if out is not None:
        _write(out, render.predictions(result))
    click.echo(render.as_json(result) if as_json else render.as_table(result, worst=worst))
    return 0


def _write(path: Path, text: str) -> None:
    from planner.errors import RequestError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror}") from error
