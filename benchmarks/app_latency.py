"""From a key press to the repainted table with every GPU of the catalogue, at 120x40.

    python benchmarks/app_latency.py

Prints the median and 95th percentile over a walk through the knobs. Nothing fails on a clock here.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from planner.request import PlanRequest, ServingWorkload, TrainingWorkload
from tui.app.app import PlannerApp
from tui.app.desk import Desk
from tui.app.local_gpus import LocalGpus
from tui.app.screens.main import MainScreen
from tui.app.widgets.knob_list import KnobList
from tui.app.world import World

WALK = ("seq", "batch", "rank", "checkpointing", "optimizer", "weights", "method")
SERVING_WALK = ("concurrency", "prompt", "kv", "weights")
REQUESTS = {
    "train 8B": (PlanRequest(model="meta-llama/Llama-3.1-8B", workload=TrainingWorkload(num_tokens=10**7)), WALK),
    "train 70B": (
        PlanRequest(model="meta-llama/Llama-3.1-70B", workload=TrainingWorkload(num_tokens=10**7)),
        WALK,
    ),
    "serve 70B": (PlanRequest(model="meta-llama/Llama-3.1-70B", workload=ServingWorkload()), SERVING_WALK),
}


async def latencies(request: PlanRequest, walk: tuple[str, ...]) -> list[float]:
    """Seconds from each key press to the first frame after the table was replaced."""
    app = PlannerApp(Desk(request, World(probe=LocalGpus)))
    painted = asyncio.Event()
    found: list[float] = []
    async with app.run_test(size=(120, 40)) as pilot:
        screen = next(screen for screen in app.screen_stack if isinstance(screen, MainScreen))
        draw: Any = app._display

        def display(*arguments: Any) -> None:
            draw(*arguments)
            painted.set()

        app._display = display  # type: ignore[method-assign]
        for knob in walk:
            screen.query_one(KnobList).select(knob)
            await pilot.pause()
            for key in ("right", "left"):
                before = screen.board
                painted.clear()
                start = time.perf_counter()
                app.simulate_key(key)
                while screen.board is before or not painted.is_set():
                    painted.clear()
                    await asyncio.wait_for(painted.wait(), 10)
                found.append(time.perf_counter() - start)
                await pilot.pause()
    return found


def main() -> None:
    for name, (request, walk) in REQUESTS.items():
        seconds = sorted(asyncio.run(latencies(request, walk)))
        p95 = seconds[min(len(seconds) - 1, round(0.95 * len(seconds)))]
        middle = statistics.median(seconds)
        print(f"{name:<10} {len(seconds)} keys  median {middle * 1e3:.0f} ms  p95 {p95 * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
