"""docs/app.md lists the keys the app's own help lists, and shows pictures that are there."""

from __future__ import annotations

import re
from pathlib import Path

from tui.app.screens.help import KEYS

GUIDE = Path(__file__).parents[2] / "docs" / "app.md"


def test_the_guide_lists_the_keys_of_the_help_screen() -> None:
    shown = {key for section in KEYS.values() for keys, _ in section for key in keys.split()}
    rows = [line for line in GUIDE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    told = {key for row in rows for key in re.findall(r"`([^`]+)`", row)}
    assert shown
    assert shown <= told, shown - told


def test_every_picture_of_the_guide_is_there() -> None:
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", GUIDE.read_text(encoding="utf-8"))
    assert pictures
    assert all((GUIDE.parent / picture).is_file() for picture in pictures)
