"""How long a whole ``plan trace`` takes, in seconds of wall and CPU time and host memory; reported, never asserted.

python benchmarks/trace_speed.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

CASES = (
    ("meta-llama/Llama-3.2-1B", "lora", 512),
    ("meta-llama/Llama-3.1-8B", "lora", 2048),
    ("meta-llama/Llama-3.1-70B", "qlora", 2048),
)
MIB = 1024**2


def timed(*args: str) -> tuple[float, float]:
    """Wall and CPU seconds of a process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tui.cli", *args], check=True, stdout=subprocess.DEVNULL)
    wall_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    print(
        f"{'model':<26} {'method':<6} {'trace wall':>11} {'trace CPU':>10} {'analytic wall':>14} {'largest process':>16}"
    )
    for model, method, seq_len in CASES:
        request = ("--model", model, "--method", method, "--seq-len", str(seq_len))
        wall_s, cpu_s = timed("trace", *request, "--json")
        analytic_s, _ = timed("estimate", *request, "--json")
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MIB
        print(
            f"{model:<26} {method:<6} {wall_s:>9.1f} s {cpu_s:>8.1f} s {analytic_s:>12.2f} s {largest:>12.0f} MiB"
        )


if __name__ == "__main__":
    main()
