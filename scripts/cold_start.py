"""Whole-process time of ``plan --model llama-70b --bits 4 --json`` beside an empty interpreter's, in turns.

    python scripts/cold_start.py [--repeat 15] [--imports]

Prints the best and the median of each and the ratio of the medians. Byte code is compiled first, as an installed
package has it. Times are reported, not asserted: the suite asserts which modules are loaded instead.
"""

from __future__ import annotations

import argparse
import compileall
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
QUESTION = ("-m", "tui.cli", "--model", "llama-70b", "--bits", "4", "--json")
EMPTY = ("-c", "pass")


def seconds(*args: str) -> float:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    started = time.perf_counter()
    subprocess.run([sys.executable, *args], cwd=ROOT, env=env, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--imports", action="store_true", help="also list the slowest imports")
    options = parser.parse_args()
    for package in ("hardware_db", "planner", "validate", "tui"):
        compileall.compile_dir(ROOT / package, quiet=1)
    times: dict[tuple[str, ...], list[float]] = {EMPTY: [], QUESTION: []}
    for _ in range(options.repeat):
        for command, taken in times.items():
            taken.append(seconds(*command))
    for command, taken in times.items():
        shown = " ".join(("python", *command))
        print(f"{shown:<60} best {min(taken) * 1e3:6.1f} ms  median {statistics.median(taken) * 1e3:6.1f} ms")
    ratio = statistics.median(times[QUESTION]) / statistics.median(times[EMPTY])
    print(f"ratio of medians {ratio:.1f} (target: at most 15)")
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
