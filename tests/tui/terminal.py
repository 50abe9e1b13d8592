"""The app as a whole process in a real terminal: tmux holds it, keys go in, the screen's text comes out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
"""How long a screen may take on a machine busy with other things; a test ends as soon as it is there."""
POLL_S = 0.05


class ScreenError(AssertionError):
    """The screen never showed what was waited for."""


class Terminal:
    """``python -m tui.cli ARGS…`` in a tmux server of its own, in an empty home, without a network."""

    def __init__(
        self, home: Path, *args: str, columns: int = 120, rows: int = 40, env: dict[str, str] | None = None
    ) -> None:
        self._tmux = shutil.which("tmux") or "tmux"
        self._folder = tempfile.TemporaryDirectory(prefix="plan-")
        home.mkdir(exist_ok=True)
        self._env = {
            "PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8",
            "TERM": "xterm-256color", "HF_HUB_OFFLINE": "1", **(env or {}),
        }  # fmt: skip
        self._code = Path(self._folder.name, "exit-code")
        config = Path(self._folder.name, "tmux.conf")
        config.write_text("set -g remain-on-exit on\nset -s set-clipboard on\nset -s escape-time 0\n")
        self._run(
            "-f", str(config), "new-session", "-d", "-x", str(columns), "-y", str(rows), "-c", str(home),
            "sh", "-c", '"$@"; echo $? > "$0.new"; mv "$0.new" "$0"', str(self._code),
            sys.executable, "-m", "tui.cli", *args,
        )  # fmt: skip

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._run("kill-server", check=False)
        self._folder.cleanup()

    def _run(self, *args: str, check: bool = True) -> str:
        done = subprocess.run(
            [self._tmux, "-S", str(Path(self._folder.name, "socket")), *args],
            env=self._env, capture_output=True, text=True, timeout=PATIENCE_S, check=check,
        )  # fmt: skip
        return done.stdout

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: ``Enter``, ``C-s``, ``Down``, or a character."""
        self._run("send-keys", *keys)

    def type(self, text: str) -> None:
        self._run("send-keys", "-l", text)

    def click(self, column: int, row: int) -> None:
        """The left button down and up on a cell; both count from 0."""
        at = f"{column + 1};{row + 1}"
        self.type(f"\x1b[<0;{at}M\x1b[<0;{at}m")

    def resize(self, columns: int, rows: int) -> None:
        self._run("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self) -> str:
        return self._run("capture-pane", "-p")

    def words(self) -> str:
        """The screen's text with every run of blanks and line ends as one space, so that wrapped lines read on."""
        return " ".join(self.screen().split())

    def clipboard(self) -> str:
        return self._run("show-buffer", check=False)

    @property
    def app_pid(self) -> int:
        (app,) = children_of(int(self._run("display-message", "-p", "#{pane_pid}")))
        return app

    @property
    def exit_code(self) -> int | None:
        """None while the app runs. Written by the shell around it: tmux can miss that its own child ended."""
        return int(self._code.read_text()) if self._code.exists() else None

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Poll until ``holds``; the last screen is part of the failure."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                raise ScreenError(f"waited {PATIENCE_S:.0f} s for {what}; the screen is\n{self.screen()}")
            time.sleep(POLL_S)

    def until_shown(self, *texts: str) -> None:
        self.until(lambda: all(text in self.words() for text in texts), f"{' and '.join(texts)} to be shown")

    def until_gone(self, text: str) -> None:
        self.until(lambda: text not in self.words(), f"{text} to go away")

    def until_exit(self) -> int:
        self.until(lambda: self.exit_code is not None, "the app to end")
        code = self.exit_code
        assert code is not None
        return code

    def move_to_knob(self, label: str) -> None:
        """Arrow down the job panel until its mark stands before ``label``."""
        while f"▸{label}" not in self.words():
            marked = self._marked_knob()
            self.press("Down")
            self.until(lambda before=marked: self._marked_knob() != before, "the mark to move")  # type: ignore[misc]

    def _marked_knob(self) -> str:
        return next((line[: line.find("▕")] for line in self.screen().splitlines() if line.startswith("▸")), "")


def children_of(pid: int) -> list[int]:
    """Processes that ``pid`` started and that are still listed, read from Linux's /proc."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def is_running(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be collected by its parent."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"
