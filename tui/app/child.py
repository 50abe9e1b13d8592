"""A ``plan`` command in a process of its own: its words as they come, how it ended, and its end."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from planner.errors import ExitCode

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


class Child:
    """It outlives the screen that started it, never the task that runs it."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self.arguments = arguments
        self.lines = [f"$ {shlex.join(arguments)}"]
        self.state = "starting"
        self.is_running = True
        self.watcher: Callable[[], None] | None = None
        """Called after every change, by whoever shows this child."""
        self._process: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        """The command, such as "trace"."""
        return self.arguments[1]

    async def run(self) -> None:
        """Start the command and follow it to its end; cancelling ends it at once."""
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tui.cli", *self.arguments[1:],
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self._tell(f"running as process {process.pid}; x cancels")
        assert process.stdout is not None
        followed = asyncio.create_task(self._follow(process.stdout))
        try:
            code = await process.wait()
        finally:
            end_group(process.pid)
            self.is_running = False
        await followed
        self._tell(f"{self.name}: {outcome(code)}")

    def cancel(self) -> None:
        """Ask it to stop, as ctrl+c does."""
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGINT)

    async def _follow(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.lines.append(line.decode(errors="replace").rstrip())
            self._tell(self.state)

    def _tell(self, state: str) -> None:
        self.state = state
        if self.watcher is not None:
            self.watcher()
