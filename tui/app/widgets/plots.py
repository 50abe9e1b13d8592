"""Two small pictures in plain characters: what-if bars and the Pareto scatter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from textual.content import Content

from planner.fit import Verdict
from planner.units import GIB
from tui.app.cells import hours_text, memory_bar, usd_text
from tui.app.rows import GpuRow

POINT = "•"
TONES = {Verdict.FITS: "$text-success", Verdict.TIGHT: "$text-warning", Verdict.DOES_NOT_FIT: "$text-error"}
WIDEST_BAR = 70
MARGIN = 10
"""Cells left of the vertical axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfPoint:
    """One value of the turned knob and what the selected GPU makes of it."""

    value: str
    row: GpuRow
    is_current: bool


def what_if_bars(label: str, points: Sequence[WhatIfPoint], width: int) -> Content:
    """One line per value: bar of need against memory, need, verdict, count, price, hours and total."""
    name = max(len(label), *(len(point.value) for point in points), 8) if points else len(label)
    bar = max(10, min(WIDEST_BAR, width - name - 50))
    head = f" {label:>{name}} {'memory':<{bar}} {'GiB':>7} {'fit':>5} {'count':>6}"
    lines = [Content.styled(f"{head} {'$/h':>8} {'hours':>8} {'total':>8}"[:width], "bold")]
    for point in points:
        row, placed = point.row, point.row.placement
        tone = TONES[row.verdict]
        drawn = memory_bar(placed.size if placed else None, row.memory_bytes, bar)
        need = f"{placed.size.expected_bytes / GIB:,.1f}" if placed else "-"
        count = f"×{placed.num_gpus}" if placed else "-"
        verdict = {Verdict.FITS: "fits", Verdict.TIGHT: "tight", Verdict.DOES_NOT_FIT: "no"}[row.verdict]
        money = f"{usd_text(row.usd_per_hour):>8} {hours_text(row.hours):>8} {usd_text(row.usd_total):>8}"
        style = "bold" if point.is_current else ""
        lines.append(
            Content.styled(f"{'▸' if point.is_current else ' '}{point.value:>{name}} ", style)
            + Content.styled(drawn, tone)
            + Content.styled(f" {need:>7} ", style)
            + Content.styled(f"{verdict:>5}", tone)
            + Content.styled(f" {count:>6} {money}", style)
        )
    return Content("\n").join(lines)


def pareto_front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Indices of points no other beats in both coordinates (smaller is better)."""
    front: set[int] = set()
    best = float("inf")
    for i in sorted(range(len(points)), key=lambda i: points[i]):
        if points[i][1] < best:
            front.add(i)
            best = points[i][1]
    return front


def scatter(
    points: Sequence[tuple[float, float]],
    signs: Mapping[int, str],
    width: int,
    height: int,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
) -> Content:
    """Points above zero on logarithmic axes; those named in ``signs`` are drawn by their sign, in colour."""
    drawn = [(math.log(x), math.log(y)) for x, y in points]
    left, right = min(x for x, _ in drawn), max(x for x, _ in drawn)
    low, high = min(y for _, y in drawn), max(y for _, y in drawn)
    columns = max(10, width - MARGIN - 2)
    grid = [[" "] * columns for _ in range(height)]
    for i in sorted(range(len(drawn)), key=lambda i: i in signs):
        x, y = drawn[i]
        column = round((x - left) / (right - left or 1) * (columns - 1))
        line = height - 1 - round((y - low) / (high - low or 1) * (height - 1))
        grid[line][column] = signs.get(i, POINT)
    labels = {0: high, height // 2: (low + high) / 2, height - 1: low}
    lines = []
    for i, cells in enumerate(grid):
        label = y_text(math.exp(labels[i])) if i in labels else ""
        dots = [
            Content(cell) if cell in (" ", POINT) else Content.styled(cell, "bold $text-success") for cell in cells
        ]
        lines.append(Content(f"{label:>{MARGIN}} {'┤' if label else '│'}") + Content("").join(dots))
    lines.append(Content(f"{'':{MARGIN}} └" + "─" * columns))
    ends = [x_text(math.exp(x)) for x in (left, (left + right) / 2, right)]
    lines.append(
        Content(" " * (MARGIN + 2) + ends[0] + ends[1].center(columns - len(ends[0]) - len(ends[2])) + ends[2])
    )
    return Content("\n").join(lines)
