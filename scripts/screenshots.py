"""Draw docs/images/: the app itself, answering one request on a fixed day, without this machine's GPUs.

python scripts/screenshots.py
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from datetime import date
from pathlib import Path

from planner.request import PlanRequest, TrainingWorkload
from tui.app.app import PlannerApp
from tui.app.desk import Desk
from tui.app.local_gpus import LocalGpus
from tui.app.world import World

IMAGES = Path(__file__).parent.parent / "docs" / "images"
USUAL, WIDE = (120, 40), (180, 46)
TODAY = date(2026, 11, 20)
"""The day prices are as old as on; the day the shipped ones were collected."""
REQUEST = PlanRequest(
    model="meta-llama/Llama-3.1-8B",
    workload=TrainingWorkload(method="qlora", weight_dtype="nf4-dq", seq_len=4096, num_tokens=30_000_000),
)
PICTURES: dict[str, tuple[tuple[int, int], tuple[str, ...]]] = {
    "main": (USUAL, ()),
    "wide": (WIDE, ("tab", "down", "down")),
    "serving": (USUAL, ("t",)),
    "cost": (USUAL, ("tab", "down", "down", "$")),
    "search": (USUAL, ("m", *"llama 70")),
    "terms": (USUAL, ("tab", "enter")),
    "what-if": (USUAL, ("down",) * 6 + ("w",)),
    "compare": (USUAL, ("p", *("down",) * 6, "right", "tab", "down", "down", "p", "c")),
    "pareto": (USUAL, ("P",)),
}
"""The terminal's size and what is pressed before each picture is taken."""


async def draw(name: str) -> str:
    """The SVG of one screen."""
    app = PlannerApp(Desk(REQUEST, World(today=lambda: TODAY, probe=LocalGpus)))
    size, keys = PICTURES[name]
    async with app.run_test(size=size, notifications=False) as pilot:
        await pilot.press(*keys)
        await pilot.pause()
        return app.export_screenshot(title=f"plan tui · {name}")


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home  # neither own prices nor a calibration of this machine
        IMAGES.mkdir(exist_ok=True)
        for name in PICTURES:
            path = IMAGES / f"app-{name}.svg"
            path.write_text(asyncio.run(draw(name)), encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
