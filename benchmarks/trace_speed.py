"""How long a whole ``plan trace`` takes: seconds of wall and CPU time, host memory; reported, never asserted.

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
    print(f"{'model':<26} {'method':<6} {'trace':>9} {'CPU':>9} {'analytic':>9} {'largest process':>16}")
    for model, method, seq_len in CASES:
        request = ("--model", model, "--method", method, "--seq-len", str(seq_len))
        wall_s, cpu_s = timed("trace", *request, "--json")
        analytic_s, _ = timed("estimate", *request, "--json")
        largest_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MIB
        seconds = " ".join(f"{value:>7.1f} s" for value in (wall_s, cpu_s, analytic_s))
        print(f"{model:<26} {method:<6} {seconds} {largest_mib:>12.0f} MiB")


if __name__ == "__main__":
    main()
