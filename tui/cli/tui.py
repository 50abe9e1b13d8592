"""``plan tui``: the full-screen application, in the terminal or in a browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from planner.errors import EnvironmentProblemError, RequestError
from planner.request import PlanRequest
from tui.cli.shared.options import INT, RequestCommand, request_options
from tui.cli.shared.saved_request import reopened_one, request_file_option
from tui.request_builder import build_one

DEFAULT_MODEL = "meta-llama/Llama-3.1-8B"
DEFAULT_PORT = 8000
WEB_DRIVER = "web_driver"
"""In textual's name of the driver that ``--web`` gives to the app process behind a page."""


@click.command(cls=RequestCommand)
@request_options
@request_file_option
@click.option("--web", is_flag=True, help="Serve the app to a browser on this machine.")
@click.option("--host", default="127.0.0.1", help="With --web: the address to listen on.")
@click.option("--port", type=INT, default=DEFAULT_PORT, help="With --web: the port to listen on.")
def command(saved: Path | None, web: bool, host: str, port: int, **values: Any) -> int:
    """Pick GPUs in a full-screen terminal app; takes the options of plan as its start."""
    request = _start(saved, values)
    if web:
        return _serve(request, host, port)
    if WEB_DRIVER in os.environ.get("TEXTUAL_DRIVER", ""):
        from tui.web.parent import end_with_parent

        end_with_parent()
    elif not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise EnvironmentProblemError("the app needs a terminal", hint="plan tui --web serves it to a browser")
    from tui.app.app import PlannerApp
    from tui.app.desk import Desk

    PlannerApp(Desk(request)).run()
    return 0


def _start(saved: Path | None, values: dict[str, Any]) -> PlanRequest:
    if saved is not None:
        return reopened_one(saved, values)
    if values.get("model") is None:
        values = {**values, "model": DEFAULT_MODEL}
    return build_one(values)


def _serve(request: PlanRequest, host: str, port: int) -> int:
    if not 0 < port < 65536:
        raise RequestError(f"{port} is not a port", hint="--port 8000")
    from tui.web.server import serve

    serve(request, host, port)
    return 0
