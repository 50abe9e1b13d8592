"""The page about speed shows the figures of the file the product reads."""

from __future__ import annotations

import re
from pathlib import Path

from planner.throughput.constants import document

PAGE = (Path(__file__).parents[2] / "docs" / "speed.md").read_text(encoding="utf-8")


def test_the_held_out_errors_are_those_of_the_fit() -> None:
    rows = dict(re.findall(r"^\| (\S+) \| (\d+ \| [0-9.]+% \| [0-9.]+%)", PAGE, flags=re.MULTILINE))
    evaluation = document()["evaluation"]
    for name, entry in (evaluation["groups"] | evaluation["left_out"]).items():
        shown = f"{entry['cases']} | {entry['median_error']:.1%} | {entry['p90_error']:.1%}"
        assert rows[name] == shown, name


def test_low_and_high_are_those_of_held_out_cases() -> None:
    for group, spread in document()["spread"].items():
        assert f"{spread['low']:.2f} to {spread['high']:.2f}" in PAGE, group
        assert 0.3 < spread["low"] < 1 < spread["high"] < 3
