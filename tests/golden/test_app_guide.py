"""docs/app.md lists the keys the app's own help lists, and shows pictures that are there."""

from __future__ import annotations

import re
from pathlib import Path

from tui.app.screens.help import HELP

GUIDE = Path(__file__).parents[2] / "docs" / "app.md"


def test_the_guide_lists_the_keys_of_the_help_screen() -> None:
    keys = [line for line in HELP.splitlines() if line.startswith("|")]
    assert keys
    assert set(keys) <= set(GUIDE.read_text(encoding="utf-8").splitlines())


def test_every_picture_of_the_guide_is_there() -> None:
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", GUIDE.read_text(encoding="utf-8"))
    assert pictures
    assert all((GUIDE.parent / picture).is_file() for picture in pictures)
