"""``plan search``: every GPU, count, spread and choice of a job, ranked; and the largest value that fits."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from planner.checks import check_choice
from planner.errors import EnvironmentProblemError, ExitCode, RequestError
from planner.request import PlanRequest, ServingWorkload, TrainingWorkload
from planner.vocabulary import KV_CACHE_DTYPES, METHODS
from tui.cli.shared.dataset import dataset_option, with_dataset
from tui.cli.shared.options import COUNT, FLOAT, INT, USD, RequestCommand, Word, request_options
from tui.cli.shared.output import report_warnings
from tui.cli.shared.report import check_report, report_option, write_report

TOP = 10
MAX_SHOWN = 1000


@click.command(cls=RequestCommand, short_help="The cheapest, fastest or roomiest plan over every offer.")
@request_options
@click.option("--by", "ranking", type=Word(("cost", "time", "headroom")), default="cost", help="What to rank by.")
@click.option("--max-usd", type=USD, help="Budget of the whole job (needs --tokens).")
@click.option("--max-hours", type=FLOAT, help="Longest the job may take (needs --tokens).")
@dataset_option
@click.option("--providers", metavar="NAMES", help="Clouds to rent from, separated by commas.")
@click.option("--min-context", type=COUNT, help="Least context of a request, or least sequence in training.")
@click.option("--min-concurrency", type=INT, help="Least requests at once (serving).")
@click.option(
    "--solve", type=Word(("batch-size", "seq-len", "lora-rank", "concurrency")), help="Largest value that fits."
)
@click.option("--search-methods", metavar="NAMES", help="Methods to try, separated by commas.")
@click.option("--search-weights", metavar="NAMES", help="Storage formats to try, separated by commas.")
@click.option("--search-kv", metavar="NAMES", help="KV cache dtypes to try, separated by commas (serving).")
@click.option("--top", type=INT, default=TOP, show_default=True, help="How many plans to show.")
@report_option
@click.option("--json", "as_json", is_flag=True, help="Plans, front and near misses as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="The ranked plans as CSV.")
@click.option(
    "--parquet", type=click.Path(dir_okay=False, path_type=Path), help="Also write the plans as Parquet."
)
def command(
    ranking: Any,
    max_usd: Decimal | None,
    max_hours: float | None,
    dataset: Path | None,
    providers: str | None,
    min_context: int | None,
    min_concurrency: int | None,
    solve: Any,
    top: int,
    report: Path | None,
    as_json: bool,
    as_csv: bool,
    parquet: Path | None,
    **values: Any,
) -> int:
    """Search GPU, count, machine, spread, precision, micro-batch, checkpointing, optimizer, attention and offload.

    A choice named on the command line is kept; the others are varied. Exit code 1: nothing meets the wish, and the
    nearest misses say why.
    """
    from planner.checks import check_range
    from tui.request_builder import build_one

    check_range("top", top, 1, MAX_SHOWN)
    check_report(report)
    values = with_dataset(values, dataset)
    request = _limited(build_one(values), max_usd, max_hours, providers)
    request = _at_least(request, min_context, min_concurrency)
    if solve is not None:
        if report is not None or as_csv or parquet is not None:
            raise RequestError("--solve answers as text or --json", hint="leave out --report, --csv and --parquet")
        return _solve(request, solve, top, as_json)
    return _search(request, values, ranking, top, as_json=as_json, as_csv=as_csv, parquet=parquet, report=report)


def _limited(
    request: PlanRequest, max_usd: Decimal | None, max_hours: float | None, providers: str | None
) -> PlanRequest:
    if (max_usd is not None or max_hours is not None) and getattr(request.workload, "num_tokens", None) is None:
        raise RequestError("--max-usd and --max-hours are of a whole job", hint="add --tokens 100M")
    wish = request.hardware
    named = tuple(name.strip() for name in providers.split(",") if name.strip()) if providers else ()
    wish = replace(wish, max_usd=max_usd, max_hours=max_hours, providers=wish.providers + named)
    return replace(request, hardware=wish)


def _at_least(request: PlanRequest, min_context: int | None, min_concurrency: int | None) -> PlanRequest:
    workload = request.workload
    if isinstance(workload, TrainingWorkload):
        if min_concurrency is not None:
            raise RequestError("--min-concurrency belongs to serving", hint="add --task serve")
        seq_len = max(workload.seq_len, min_context or 0)
        return replace(request, workload=replace(workload, seq_len=seq_len))
    if min_context is not None and min_context > workload.context_tokens:
        workload = replace(workload, prompt_tokens=min_context - workload.output_tokens)
    if min_concurrency is not None:
        workload = replace(workload, concurrency=max(workload.concurrency, min_concurrency))
    return replace(request, workload=workload)


def _axes(request: PlanRequest, values: dict[str, Any]) -> Any:
    """What stays open: every choice the command line does not name."""
    from planner.dtypes import weight_format
    from planner.search import Axes

    def open_unless(name: str, alternatives: Any) -> Any:
        return () if values.get(name) is not None else alternatives

    default = Axes()
    weights = tuple(weight_format(name).name for name in _names(values, "search_weights"))
    if isinstance(request.workload, ServingWorkload):
        if values["search_methods"]:
            raise RequestError("--search-methods belongs to training", hint="add --task train")
        return Axes(weight_dtypes=weights, kv_cache_dtypes=_names(values, "search_kv", KV_CACHE_DTYPES))
    if values["search_kv"]:
        raise RequestError("--search-kv belongs to serving", hint="add --task serve")
    return replace(
        default,
        checkpointing=open_unless("gradient_checkpointing", default.checkpointing),
        optimizers=open_unless("optimizer", default.optimizers),
        attention=open_unless("attention", default.attention),
        losses=open_unless("loss", default.losses),
        cpu_offload=(values["cpu_offload"],) if values.get("cpu_offload") else default.cpu_offload,
        micro_batches=(values["batch_size"],) if values.get("batch_size") else default.micro_batches,
        methods=_names(values, "search_methods", METHODS),
        weight_dtypes=weights or ((request.workload.weight_dtype,) if values.get("weight_dtype") else ()),
    )


def _names(values: dict[str, Any], option: str, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Names separated by commas, each once; refuses a name that is not ``known``, if any are."""
    words = (word.strip().lower() for word in (values[option] or "").split(","))
    names = tuple(dict.fromkeys(word for word in words if word))
    for name in names if known else ():
        check_choice(
            option.replace("search_kv", "kv_cache_dtype").replace("search_methods", "method"), name, known
        )
    return names


def _search(
    request: PlanRequest, values: dict[str, Any], ranking: Any, top: int, *, as_json: bool, as_csv: bool,
    parquet: Path | None, report: Path | None,
) -> int:  # fmt: skip
    from planner.search import search
    from tui.render import search as render

    result = search(request, by=ranking, axes=_axes(request, values))
    report_warnings(result.notes)
    if len(_names(values, "search_weights")) > 1 or len(_names(values, "search_kv")) > 1:
        report_warnings(
            ["formats differ in the quality of answers, which is not ranked (plan advise warns of it)"]
        )
    if parquet is not None:
        _write_parquet(result, parquet)
    if report is not None:
        from datetime import date

        from tui.render.search_report import search_report

        write_report(search_report(result, date.today(), top), report)
    shown = result.limited(top)
    text = render.as_json(shown) if as_json else render.as_csv(shown) if as_csv else render.as_text(result, top)
    click.echo(text)
    return int(ExitCode.OK if result.best is not None else ExitCode.DOES_NOT_FIT)


def _write_parquet(result: Any, path: Path) -> None:
    try:
        result.to_frame().to_parquet(path)
    except ImportError as error:
        raise EnvironmentProblemError(
            "writing Parquet needs pyarrow", hint="pip install 'gpu-planner[parquet]'"
        ) from error
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror}") from error


def _solve(request: PlanRequest, unknown: Any, top: int, as_json: bool) -> int:
    from planner.search.solve import solve
    from tui.render import search as render

    solutions = solve(request, unknown)
    click.echo(render.solutions_json(solutions[:top]) if as_json else render.solutions_text(solutions, top))
    return int(ExitCode.OK if solutions and solutions[0].largest else ExitCode.DOES_NOT_FIT)
