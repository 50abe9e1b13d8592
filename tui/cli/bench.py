"""``plan bench``: score the engine on published measurements."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
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
@click.option("--family", "families", multiple=True, metavar="NAME", help="Only cases of this family; repeatable.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Take predictions this file holds, add the others.",
)
@click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", help="Predict at most N cases anew, with --resume."
)
@click.option(
    "--timeout", type=click.FloatRange(min=1), default=300.0, help="Give up a trace after so many seconds."
)
@click.option("--worst", type=click.IntRange(min=0), default=0, metavar="N", help="List the N largest errors.")
def command(
    files: tuple[Path, ...], tier: str, as_json: bool, out: Path | None, core: bool, strong: bool,
    within_resolution: bool, by: str, families: tuple[str, ...], resume: Path | None, limit: int | None,
    timeout: float, worst: int,
) -> int:  # fmt: skip
    """Predict every case of CASES.jsonl and show how far the answers are off, per family and in all.

    A case that cannot be expressed or is not supported is listed with its reason, never dropped.
    """
    # Cases are scored on what is known here: a model the hub would have to be asked for is refused by name.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from planner.errors import RequestError
    from planner.quantity import Tier
    from tui.render import bench as render
    from validate.published.bench import predict, run_bench
    from validate.published.cases import Case, Prediction, read_cases
    from validate.published.recorded import Recording

    cases = [case for path in files for case in read_cases(path)]
    predictor: Callable[[Case], Prediction] = partial(predict, tier=Tier(tier), timeout_s=timeout)
    if resume is not None:
        predictor = Recording(resume, Tier(tier)).resume(predictor, limit=limit)
    elif limit is not None:
        raise RequestError("--limit needs a file to go on from", hint="--resume predictions.jsonl")
    result = run_bench(
        cases, tier=Tier(tier), core=core, strong=strong, by=by, within_resolution=within_resolution,
        families=families, predictor=predictor,
    )  # fmt: skip
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
