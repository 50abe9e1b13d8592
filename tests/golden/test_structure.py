"""The page about how it is built names what is there, and every room."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
FLOORS = ("tui", "validate", "planner", "hardware_db")


def test_every_path_it_names_exists() -> None:
    named = {word for word in re.findall(r"`([\w./]+)`", PAGE) if "/" in word}
    named |= set(re.findall(r"(?:tui|planner|hardware_db)/[\w/.]+", PAGE))
    assert named
    homes = (ROOT, ROOT / "planner" / "throughput")
    assert {word for word in named if not any((home / word).exists() for home in homes)} == set()


def test_every_room_of_a_floor_is_named() -> None:
    rooms = {f"{floor}/{path.parent.name}" for floor in FLOORS for path in (ROOT / floor).glob("*/__init__.py")}
    assert rooms
    assert {room for room in rooms if room not in PAGE} == set()
