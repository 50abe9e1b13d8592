"""How fast the search is: a 70B QLoRA job over every offer, on one core. Run: python benchmarks/search_speed.py"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

from planner.request import PlanRequest, TrainingWorkload
from planner.search import search
from planner.units import MIB


def main() -> None:
    workload = TrainingWorkload(
        method="qlora", weight_dtype="nf4-dq", seq_len=2048, num_tokens=100_000_000, optimizer="adamw"
    )
    request = PlanRequest(model="meta-llama/Llama-3.1-70B", workload=workload)
    for _ in range(3):
        cpu, wall = time.process_time(), time.perf_counter()
        result = search(request)
        cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
        print(
            f"{result.num_candidates:,} candidates, {result.num_feasible:,} feasible: {wall_s:.2f} s wall,"
            f" {cpu_s:.2f} s CPU, {result.num_candidates / cpu_s:,.0f} per second"
        )
    print(f"peak resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB:,.0f} MiB")
    best = result.best
    if best is not None:
        print(best.row())


if __name__ == "__main__":
    main()
