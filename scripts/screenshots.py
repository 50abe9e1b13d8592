"""Draw docs/images/: the app itself at 120x40, answering one request on a fixed day, without this machine's GPUs.

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
from tui.app.world import World

IMAGES = Path(__file__).parent.parent / "docs" / "images"
SIZE = (120, 40)
TODAY = date(2026, 11, 20)
"""The day prices are as old as on; the day the shipped ones were collected."""
REQUEST = PlanRequest(
    model="meta-llama/Llama-3.1-8B",
    workload=TrainingWorkload(method="qlora", weight_dtype="nf4-dq", seq_len=4096, num_tokens=30_000_000),
)
KEYS: dict[str, tuple[str, ...]] = {
    "main": (),
    "serving": ("t",),
    "terms": ("tab", "enter"),
    "what-if": ("down",) * 6 + ("w",),
    "compare": ("p", "tab", "down", "down", "p", "c"),
    "pareto": ("P",),
}
"""What is pressed before each picture is taken."""


async def draw(name: str) -> str:
    """The SVG of one screen."""
    app = PlannerApp(Desk(REQUEST, World(today=lambda: TODAY, probe=lambda: ())))
    async with app.run_test(size=SIZE, notifications=False) as pilot:
        for key in KEYS[name]:
            await pilot.press(key)
        await pilot.pause()
        return app.export_screenshot(title=f"plan tui · {name}")


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home  # neither own prices nor a calibration of this machine
        IMAGES.mkdir(exist_ok=True)
        for name in KEYS:
            path = IMAGES / f"app-{name}.svg"
            path.write_text(asyncio.run(draw(name)), encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
