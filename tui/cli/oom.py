"""``plan oom``: what an out-of-memory message says, and what would have fitted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from planner.errors import ExitCode, RequestError
from tui.cli.shared.options import RequestCommand, request_options
from tui.cli.shared.output import report_warnings

FILE = click.Path(dir_okay=False, path_type=Path)
MAX_LOG_BYTES = 50_000_000
_ANY_REQUEST = ("model", "params")


@click.command(cls=RequestCommand)
@click.argument("log", required=False, type=FILE)
@request_options
@click.option("--json", "as_json", is_flag=True, help="The diagnosis as JSON.")
def command(log: Path | None, as_json: bool, **values: Any) -> int:
    """Explain an out-of-memory message, read from LOG or piped in.

    With the options of the run (--model, --method, --batch-size…) the changes that would fit are listed with their
    predicted saving.
    """
    from tui.render import out_of_memory as render
    from validate.oom.message import parse
    from validate.oom.remedies import general

    message = parse(_read(log))
    if message is None:
        raise RequestError(
            "there is no out-of-memory message in this text", hint="paste the line that says “out of memory”"
        )
    remedies = None
    if any(values.get(name) for name in _ANY_REQUEST):
        remedies = _remedies(values, message)
    changes = general(message) if remedies is None else remedies.changes
    if as_json:
        click.echo(render.json_text(message, changes, remedies))
    else:
        click.echo(render.text(message, changes, remedies))
    return int(ExitCode.OK)


def _read(log: Path | None) -> str:
    if log is None:
        if sys.stdin.isatty():
            click.echo("paste the message, then press Ctrl-D", err=True)
        return sys.stdin.buffer.read(MAX_LOG_BYTES).decode(errors="replace")
    try:
        with log.open("rb") as file:
            return file.read(MAX_LOG_BYTES).decode(errors="replace")
    except OSError as error:
        raise RequestError(
            f"{log} cannot be read: {error.strerror}", hint="give a file, or pipe the message"
        ) from None


def _remedies(values: dict[str, Any], message: Any) -> Any:
    from hardware_db.catalog import find_gpu
    from planner.calibration_file import load
    from planner.model import registry
    from tui.request_builder import build_one
    from validate.oom.remedies import suggest

    request = build_one(values)
    resolved = registry.resolve(request.model)
    report_warnings(resolved.notes)
    if resolved.architecture is None:
        raise RequestError("a size alone says nothing about activations", hint="name the model")
    gpu = find_gpu(request.hardware.gpus[0]) if request.hardware.gpus else None
    limit = message.limit_bytes or message.total_bytes or (gpu.memory_bytes if gpu else None)
    if limit is None:
        raise RequestError("the message does not say how large the GPU is", hint="name it with --gpu")
    learnt = load() if request.calibrated else None
    return suggest(request, resolved.architecture, gpu, limit - message.other_processes_bytes, learnt, message)
