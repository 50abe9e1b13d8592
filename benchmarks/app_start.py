"""Whole-process time until the app's first frame with every GPU in it, beside an empty interpreter's, in turns.

    python benchmarks/app_start.py [--repeat 7]

The app runs in a pseudo-terminal of 120x40 as ``python -m tui.cli tui``; the clock stops when the count of GPUs
that hold the job has been written to it. Byte code is compiled first, as an installed package has it. Nothing
fails on a clock here; tests/imports asserts what is loaded.
"""

from __future__ import annotations

import argparse
import compileall
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
COLUMNS, LINES = 120, 40
FIRST_FRAME = b"GPUs hold it"
PATIENCE_S = 60.0


def empty_s() -> float:
    """Seconds of ``python -c pass``."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - started


def first_frame_s() -> float:
    """Seconds from starting the process to the first frame with an answer."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    env = os.environ | {"TERM": "xterm-256color"}
    started = time.perf_counter()
    app = subprocess.Popen(
        [sys.executable, "-m", "tui.cli", "tui"],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=env, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    drawn = b""
    try:
        while FIRST_FRAME not in drawn:
            if not select.select([ours], [], [], PATIENCE_S)[0]:
                raise TimeoutError(f"no frame in {PATIENCE_S:.0f} s")
            drawn += os.read(ours, 65536)
        return time.perf_counter() - started
    finally:
        app.send_signal(signal.SIGKILL)
        app.wait()
        os.close(ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    for package in ("hardware_db", "planner", "validate", "tui"):
        compileall.compile_dir(ROOT / package, quiet=1)
    empty, app = [], []
    for _ in range(options.repeat):
        empty.append(empty_s())
        app.append(first_frame_s())
    for name, times in (("python -c pass", empty), ("plan tui, first frame", app)):
        print(f"{name:<24} best {min(times) * 1e3:7.1f} ms  median {statistics.median(times) * 1e3:7.1f} ms")
    print(
        f"ratio of medians {statistics.median(app) / statistics.median(empty):.1f} (target: first frame in 1.0 s)"
    )


if __name__ == "__main__":
    main()
