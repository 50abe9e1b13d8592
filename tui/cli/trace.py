"""``plan trace``: run the real training step on fake tensors and replay PyTorch's allocator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.errors import ExitCode, RequestError
from planner.units import parse_bytes
from tui.cli.shared import progress
from tui.cli.shared.options import FLOAT, INT, RequestCommand, request_options
from tui.cli.shared.output import report_warnings
from tui.files import save

if TYPE_CHECKING:
    from hardware_db.gpu import Gpu
    from planner.request import PlanRequest
    from validate.trace.run import TraceResult

FILE = click.Path(dir_okay=False, path_type=Path)
PLOT_SUFFIXES = (".svg", ".html", ".png")
_OWN = (
    "steps", "script", "lengths", "tokenizer", "packing", "histories", "seed", "save_to", "replayed", "capacity",
    "expandable_segments", "plot", "snapshot", "timeout", "as_json",
)  # fmt: skip


@click.command(cls=RequestCommand)
@request_options
@click.option("--steps", type=INT, help="Optimizer steps to run: 2, or 50 of each history.")
@click.option("--script", metavar="FILE.py::FUNCTION", help="Trace your own step (docs/trace.md).")
@click.option("--lengths", type=FILE, help="JSON lines of a data set: batches get its lengths, shuffled.")
@click.option("--tokenizer", metavar="NAME", help="Counts the tokens of a data set that holds text.")
@click.option("--packing", is_flag=True, help="Pack batches to --seq-len instead of padding them.")
@click.option("--histories", type=INT, default=3, help="How many shuffled orders to simulate.")
@click.option("--seed", type=INT, default=0, help="Of the first order.")
@click.option("--save", "save_to", type=FILE, help="Keep the event log in this file.")
@click.option("--replay", "replayed", type=FILE, help="Answer from a saved event log.")
@click.option("--capacity", metavar="SIZE", help="Memory of the simulated device, such as 24GiB.")
@click.option("--expandable-segments", is_flag=True, help="Simulate PYTORCH_ALLOC_CONF=expandable_segments:True.")
@click.option("--plot", type=FILE, help="Draw memory over the steps into a .svg, .html or .png file.")
@click.option("--snapshot", type=FILE, help="Export a pickle for https://pytorch.org/memory_viz.")
@click.option("--timeout", type=FLOAT, default=300.0, help="Give up after so many seconds.")
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")
def command(**values: Any) -> int:
    """Trace a training step without a GPU: peaks per phase, and what is live at the peak.

    The real model code and the real step run on fake tensors; their allocations are replayed through a simulation
    of PyTorch's allocator. Exits with 1 where a capacity or GPU is named and the step does not fit.
    """
    plot: Path | None = values["plot"]
    if plot is not None and plot.suffix not in PLOT_SUFFIXES:
        raise RequestError(f"--plot writes {', '.join(PLOT_SUFFIXES)}, not {plot.name!r}", hint="--plot run.svg")
    result, request, gpu = _traced(values)
    report_warnings(result.warnings)
    if values["save_to"] is not None:
        _write(values["save_to"], result.log.save)
    if values["snapshot"] is not None:
        from validate.trace.snapshot import save_snapshot

        _write(values["snapshot"], lambda path: save_snapshot(result.log, path))
    _answer(result, request, gpu, plot, as_json=values["as_json"])
    return _exit_code(result)


def _traced(values: dict[str, Any]) -> tuple[TraceResult, PlanRequest | None, Gpu | None]:
    from dataclasses import replace

    from hardware_db import catalog
    from validate.trace.events import load
    from validate.trace.run import result_of, trace, trace_script

    sources = [name for name in ("replayed", "script") if values[name] is not None]
    asked = {name: value for name, value in values.items() if name not in _OWN}
    if sources and (len(sources) > 1 or any(value is not None for value in asked.values())):
        raise RequestError("--replay, --script and a model exclude each other", hint="give one of them")
    settings: dict[str, Any] = {
        "capacity_bytes": parse_bytes(values["capacity"]) if values["capacity"] else None,
        "expandable_segments": values["expandable_segments"],
    }
    if values["replayed"] is not None:
        return result_of(load(values["replayed"]), **settings), None, None
    if values["script"] is not None:
        with progress.status("tracing"):
            log, wall_s = trace_script(values["script"], timeout_s=values["timeout"])
        return result_of(log, wall_s=wall_s, **settings), None, None
    from tui.request_builder import build_one

    request = build_one(asked if asked.get("task") is not None else asked | {"task": "train"})
    gpu = catalog.find_gpu(request.hardware.gpus[0]) if request.hardware.gpus else None
    if gpu is not None and settings["capacity_bytes"] is None:
        settings["capacity_bytes"] = _free_bytes(gpu, request)
    if values["lengths"] is not None:
        return _over_histories(values, request, gpu, settings["capacity_bytes"]), request, gpu
    with progress.status("tracing"):
        result = trace(request, gpu=gpu, num_steps=values["steps"], timeout_s=values["timeout"])
    return replace(result_of(result.log, wall_s=result.wall_s, **settings), ranks=result.ranks), request, gpu


def _over_histories(
    values: dict[str, Any], request: PlanRequest, gpu: Gpu | None, capacity_bytes: int | None
) -> TraceResult:
    from planner.checks import check_range
    from validate.trace.lengths import read_lengths
    from validate.trace.run import HISTORY_STEPS, trace_histories

    steps = values["steps"] or HISTORY_STEPS
    check_range("steps", steps, 1, 1000)
    check_range("histories", values["histories"], 1, 20)
    samples = read_lengths(values["lengths"], values["tokenizer"])
    with progress.status("tracing"):
        return trace_histories(
            request, samples, gpu=gpu, packing=values["packing"], num_histories=values["histories"],
            num_steps=steps, seed=values["seed"], capacity_bytes=capacity_bytes, timeout_s=values["timeout"],
        )  # fmt: skip


def _free_bytes(gpu: Gpu, request: PlanRequest) -> int:
    """What the allocator can have: the card less the process's own context."""
    from planner.memory.runtime import context_terms

    ranks = request.parallelism.num_gpus if request.parallelism else 1
    return gpu.memory_bytes - sum(term.size_bytes for term in context_terms(gpu, num_gpus=ranks))


def _answer(
    result: TraceResult, request: PlanRequest | None, gpu: Gpu | None, plot: Path | None, *, as_json: bool
) -> None:
    from tui.render import trace as render
    from tui.render import trace_chart
    from validate.trace.estimate import counters
    from validate.trace.oracle import judge
    from validate.trace.timeline import timeline

    estimates = counters(result, request, gpu)
    answer = render.text(result, estimates, gpu)
    verdict = None if request is None else judge(result, request, gpu)
    if verdict is not None:
        answer += f"\n\n{render.verdict_text(verdict)}"
    drawn = timeline(result.log, result.default.settings)
    if plot is not None:
        title = str(result.log.meta.get("title") or result.log.meta.get("model") or "traced run")
        if plot.suffix == ".png":
            _write(plot, lambda path: trace_chart.png(drawn, title, path))
        else:
            save(plot, trace_chart.svg(drawn, title) if plot.suffix == ".svg" else
                 trace_chart.html(drawn, title, answer))  # fmt: skip
    if as_json:
        click.echo(render.json_text(result, estimates))
    else:
        click.echo(f"{answer}\n\n{trace_chart.terminal(drawn)}")


def _exit_code(result: TraceResult) -> int:
    runs = (result.default, *result.histories)
    failed = any(run.out_of_memory is not None for run in runs)
    return int(ExitCode.DOES_NOT_FIT if failed else ExitCode.OK)


def _write(path: Path, write: Any) -> None:
    try:
        write(path)
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror}", hint="name another file") from None
