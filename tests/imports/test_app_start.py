"""What the app's first screen loads, asked of a clean interpreter, and that it asks no network for anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch", "transformers", "peft", "bitsandbytes", "accelerate", "pandas", "pydantic", "huggingface_hub",
    "gpuhunt", "aiohttp", "textual_serve", "validate",
)  # fmt: skip
PROBE = """
import asyncio, json, sys

NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
asked = []
sys.addaudithook(lambda event, args: asked.append(event) if event in NETWORK else None)

from planner.request import PlanRequest, TrainingWorkload
from tui.app.app import PlannerApp
from tui.app.desk import Desk
import tui.cli.tui

async def first_screen():
    app = PlannerApp(Desk(PlanRequest(model="meta-llama/Llama-3.1-8B", workload=TrainingWorkload())))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        return str(app.screen.query_one("#title-count").render())

title = asyncio.run(first_screen())
print(json.dumps({"title": title, "asked": asked, "modules": sorted(sys.modules)}))
"""


def test_the_first_screen_loads_no_model_library_and_asks_no_network(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=tmp_path, env={"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "GPUs hold it" in seen["title"]
    assert seen["asked"] == []
    loaded = {name.split(".")[0] for name in seen["modules"]}
    assert loaded.isdisjoint(HEAVY), sorted(loaded.intersection(HEAVY))
