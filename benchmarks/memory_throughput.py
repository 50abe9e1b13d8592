"""Memory estimates per second on one core: one request at a time, and a table of requests at once.

Run: ``python benchmarks/memory_throughput.py [MODEL]``. Reports, never fails on a clock.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from planner.memory.engine import breakdown
from planner.model.registry import resolve
from planner.quantity import Quantity
from planner.request import AdapterSpec, Parallelism, TrainingWorkload

ROWS = 200_000
SCALAR_ROWS = 200


def main(model: str = "meta-llama/Llama-3.1-8B") -> None:
    """Print both rates, and check that they give the same bytes."""
    architecture = resolve(model).architecture
    if architecture is None:
        raise SystemExit(f"{model} is a size alone")
    index = np.arange(ROWS)
    table = TrainingWorkload(
        batch_size=index % 16 + 1,  # type: ignore[arg-type]
        seq_len=(index % 64 + 1) * 128,  # type: ignore[arg-type]
        adapter=AdapterSpec(rank=index % 5 * 16 + 8),  # type: ignore[arg-type]
    )
    spread = Parallelism(dp_shard=index % 8 + 1)  # type: ignore[arg-type]
    start = time.perf_counter()
    peaks = breakdown(architecture, table, spread, None).peak_bytes(Quantity.DEVICE)
    vectorised = ROWS / (time.perf_counter() - start)
    start = time.perf_counter()
    for row in range(SCALAR_ROWS):
        one = replace(
            table,
            batch_size=row % 16 + 1,
            seq_len=(row % 64 + 1) * 128,
            adapter=AdapterSpec(rank=row % 5 * 16 + 8),
        )
        peak = breakdown(architecture, one, Parallelism(dp_shard=row % 8 + 1), None).peak_bytes(Quantity.DEVICE)
        if peak != peaks[row]:  # type: ignore[index]
            raise SystemExit(f"row {row}: {peak} bytes alone, {peaks[row]} in the table")  # type: ignore[index]
    scalar = SCALAR_ROWS / (time.perf_counter() - start)
    print(f"{architecture.name}: {vectorised:,.0f} estimates/s in a table of {ROWS:,}; {scalar:,.0f}/s one by one")


if __name__ == "__main__":
    main(*sys.argv[1:])
