"""Trace or measure the selected plan: the command itself in a child process, its words as they come."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from contextlib import suppress
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Footer, RichLog, Static

from planner.errors import ExitCode
from planner.request import PlanRequest
from tui.command_line import command_line

WHAT_RUNS = """\
t  traces the real training step on fake tensors through PyTorch's allocator: no GPU is needed
v  measures the step on this machine's GPU, sets it beside the prediction and remembers it
x  cancels; the app stays usable while either runs
"""
MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.DOES_NOT_FIT: "it does not fit",
    ExitCode.BAD_REQUEST: "the request was refused",
    ExitCode.UNKNOWN: "not modelled",
    ExitCode.ENVIRONMENT: "this machine cannot run it",
    ExitCode.OUTSIDE_INTERVAL: "measured outside the predicted interval",
    ExitCode.INTERRUPTED: "cancelled",
    ExitCode.DEFECT: "stopped by a defect of gpu-planner",
}


def outcome(code: int) -> str:
    """How a child ended, in words."""
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}; nothing else was touched"
    try:
        return MEANINGS[ExitCode(code)]
    except (ValueError, KeyError):
        return f"ended with exit code {code}"


def end_group(leader: int) -> None:
    """End whatever a child of ours and its own children left running."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


class RunScreen(ModalScreen[None]):
    """The app stays live while the child runs; leaving the screen ends the child."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "Back"),
        Binding("t", "run('trace')", "Trace (no GPU)"),
        Binding("v", "run('validate')", "Measure here"),
        Binding("x", "cancel", "Cancel"),
    ]

    def __init__(self, request: PlanRequest, machine: str) -> None:
        super().__init__()
        self.request, self.machine = request, machine
        self.child: asyncio.subprocess.Process | None = None

    def compose(self) -> ComposeResult:
        yield Static(
            "Prove the prediction",
            classes="screen-title",
        )
        yield Static(f"This machine: {self.machine}", id="machine", markup=False)
        yield RichLog(id="output", wrap=True, markup=False, highlight=False)
        yield Static("not started", id="run-state", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(RichLog).write(WHAT_RUNS)

    def action_run(self, command: str) -> None:
        if self.child is None:
            self.run_child(command_line(self.request, ("plan", command)))

    @work(exclusive=True)
    async def run_child(self, arguments: tuple[str, ...]) -> None:
        """Run ``plan …`` and show both of its streams line by line."""
        state, output = self.query_one("#run-state", Static), self.query_one(RichLog)
        output.write(f"$ {shlex.join(arguments)}")
        state.update("starting")
        self.child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tui.cli", *arguments[1:],
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        state.update(f"running as process {self.child.pid}; x cancels")
        assert self.child.stdout is not None
        shown = asyncio.create_task(self._show_lines(self.child.stdout))
        try:
            code = await self.child.wait()
        finally:
            end_group(self.child.pid)
            self.child = None
        await shown
        state.update(f"{arguments[1]}: {outcome(code)}")

    async def _show_lines(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.query_one(RichLog).write(line.decode(errors="replace").rstrip())

    def action_cancel(self) -> None:
        if self.child is not None and self.child.returncode is None:
            os.killpg(self.child.pid, signal.SIGINT)

    def action_leave(self) -> None:
        self.action_cancel()
        self.dismiss()
