"""Whole-process time of ``plan --model llama-70b --bits 4 --json`` beside an empty interpreter's, in turns.

    python scripts/cold_start.py [--repeat 15] [--imports]

Prints the best and the median of each and the ratio of the medians. Byte code is compiled first, as an installed
package has it. Times are reported, not asserted: the suite asserts which modules are loaded instead.
"""

from __future__ import annotations

import argparse
import compileall
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
QUESTION = ("-m", "tui.cli", "--model", "llama-70b", "--bits", "4", "--json")
EMPTY = ("-c", "pass")


def seconds(*args: str) -> tuple[float, float]:
    """Wall and processor seconds of one interpreter; the second is steady on a busy machine."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run([sys.executable, *args], cwd=ROOT, env=env, check=True, capture_output=True)
    wall, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--imports", action="store_true", help="also list the slowest imports")
    options = parser.parse_args()
    for package in ("hardware_db", "planner", "validate", "tui"):
        compileall.compile_dir(ROOT / package, quiet=1)
    taken: dict[tuple[str, ...], list[tuple[float, float]]] = {EMPTY: [], QUESTION: []}
    for _ in range(options.repeat):
        for command, runs in taken.items():
            runs.append(seconds(*command))
    for number, clock in enumerate(("wall", "processor")):
        middle = {}
        for command, runs in taken.items():
            times = sorted(run[number] * 1e3 for run in runs)
            middle[command] = statistics.median(times)
            shown = " ".join(("python", *command))
            print(f"{clock:<10}{shown:<55} best {times[0]:6.1f} ms  median {middle[command]:6.1f} ms")
        print(f"{clock:<10}ratio of medians {middle[QUESTION] / middle[EMPTY]:.1f} (target, wall: at most 15)")
    if options.imports:
        report = subprocess.run(
            [sys.executable, "-X", "importtime", *QUESTION], cwd=ROOT, check=True, capture_output=True, text=True
        ).stderr
        mark = "import time:"
        lines = [line.removeprefix(mark) for line in report.splitlines() if line.startswith(mark)]
        slowest = sorted(lines[1:], key=lambda line: int(line.split("|")[0]), reverse=True)[:25]
        print("self us | cumulative us | module", *slowest, sep="\n")


if __name__ == "__main__":
    main()
