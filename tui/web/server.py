"""The app in a browser: one page that needs no network, and one app process per visitor."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server

from planner.errors import EnvironmentProblemError
from planner.request import PlanRequest
from tui.command_line import command_text

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class AppServer(Server):  # type: ignore[misc]
    """textual-serve's server, open to its own page only and quiet on stdout."""

    def __init__(self, command: str, host: str, port: int) -> None:
        super().__init__(command, host=host, port=port, title="gpu-planner", templates_path=Path(__file__).parent)
        self._visits: set[asyncio.Task[object]] = set()

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Every page of every site may open a socket to this machine; only ours may drive the app."""
        origin = request.headers.get("Origin")
        if not is_own_page(origin, request.host, listening_on=self.host):
            raise web.HTTPForbidden(text="this app answers to its own page only")
        visit = asyncio.current_task()
        assert visit is not None
        self._visits.add(visit)
        try:
            response: web.WebSocketResponse = await super().handle_websocket(request)
        finally:
            self._visits.discard(visit)
        return response

    async def on_shutdown(self, app: web.Application) -> None:
        """Pages are told at once; waiting for them to leave would take as long as they stay open."""
        for visit in self._visits:
            visit.cancel()

    def initialize_logging(self) -> None:
        logging.basicConfig(level=logging.WARNING)

    async def on_startup(self, app: web.Application) -> None:
        print(f"plan tui: http://{self.host}:{self.port} (Ctrl-C ends)", file=sys.stderr, flush=True)


def is_own_page(origin: str | None, host: str, *, listening_on: str) -> bool:
    """Whether a socket asked for by a page of ``origin`` under the name ``host`` belongs to our page.

    On loopback the name must be a loopback name too: a site whose name was pointed at this machine is not ours.
    No ``Origin``: not a browser.
    """
    if listening_on in LOOPBACK and urlsplit(f"//{host}").hostname not in LOOPBACK:
        return False
    return origin is None or urlsplit(origin).netloc == host


def serve(request: PlanRequest, host: str, port: int) -> None:
    """Serve until interrupted; every visitor starts with ``request``."""
    arguments = command_text(request, ("-m", "tui.cli", "tui"))
    try:
        AppServer(f"exec {shlex.quote(sys.executable)} {arguments}", host, port).serve()
    except OSError as error:
        raise EnvironmentProblemError(
            f"{host}:{port} cannot be listened on: {os.strerror(error.errno or 0)}",
            hint=f"--port {port % 65535 + 1}",
        ) from None
