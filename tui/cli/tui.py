"""``plan tui``: the full-screen application, in the terminal or in a browser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from planner.errors import EnvironmentProblemError, RequestError
from planner.request import PlanRequest
from tui.cli.options import INT, RequestCommand, request_options
from tui.request_builder import build_one
from tui.request_file import load

DEFAULT_MODEL = "meta-llama/Llama-3.1-8B"
DEFAULT_PORT = 8000


@click.command(cls=RequestCommand)
@request_options
@click.option("--request", "saved", type=click.Path(dir_okay=False, path_type=Path), help="Reopen a request file.")
@click.option("--web", is_flag=True, help="Serve the app to a browser on this machine.")
@click.option("--host", default="127.0.0.1", help="With --web: the address to listen on.")
@click.option("--port", type=INT, default=DEFAULT_PORT, help="With --web: the port to listen on.")
def command(saved: Path | None, web: bool, host: str, port: int, **values: Any) -> int:
    """Pick GPUs in a full-screen terminal app; takes the options of plan as its start."""
    if web:
        return _serve(host, port)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise EnvironmentProblemError("the app needs a terminal", hint="plan tui --web serves it to a browser")
    from tui.app.app import PlannerApp

    PlannerApp(_start(saved, values)).run()
    return 0


def _start(saved: Path | None, values: dict[str, Any]) -> PlanRequest:
    if saved is not None:
        return load(saved)[0]
    if values.get("model") is None:
        values = {**values, "model": DEFAULT_MODEL}
    return build_one(values)


def _serve(host: str, port: int) -> int:
    if not 0 < port < 65536:
        raise RequestError(f"{port} is not a port", hint="--port 8000")
    try:
        from textual_serve.server import Server
    except ImportError:
        raise EnvironmentProblemError(
            "the web version needs textual-serve", hint="pip install 'gpu-planner[web]'"
        ) from None
    click.echo(f"plan tui: http://{host}:{port} (Ctrl-C ends)", err=True)
    Server(f"{sys.executable} -m tui.cli tui", host=host, port=port, title="gpu-planner").serve()
    return 0
