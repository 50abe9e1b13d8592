"""Two small pictures in plain characters: what-if bars and the Pareto scatter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from planner.units import format_gib
from tui.app.cells import memory_bar, usd_text
from tui.app.rows import GpuRow

POINT, FRONT_POINT = "·", "●"


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfPoint:
    """One value of the turned knob and what the selected GPU makes of it."""

    value: str
    row: GpuRow
    is_current: bool


def what_if_bars(points: Sequence[WhatIfPoint], width: int) -> Content:
    """One line per value: bar of need against memory, need, count and price."""
    bar = max(10, width - 52)
    lines = []
    for point in points:
        mark = "▸" if point.is_current else " "
        placed = point.row.placement
        size = placed.size if placed else None
        need = format_gib(size.expected_bytes) if size else "cannot be placed"
        count = f"×{placed.num_gpus}" if placed else ""
        line = (
            f"{mark}{point.value:>10} {memory_bar(size, point.row.memory_bytes, bar)} {need:>16} "
            f"{count:>5} {usd_text(point.row.usd_per_hour):>9}/h"
        )
        lines.append(Content.styled(line, "bold" if point.is_current else ""))
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


def scatter(points: Sequence[tuple[float, float]], width: int, height: int, x_label: str, y_label: str) -> Content:
    """Points on logarithmic axes; those on the Pareto front are drawn full."""
    import math

    drawn = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if not drawn:
        return Content("No plan has both a time and a price.")
    left, right = min(x for x, _ in drawn), max(x for x, _ in drawn)
    low, high = min(y for _, y in drawn), max(y for _, y in drawn)
    grid = [[" "] * width for _ in range(height)]
    front = pareto_front(drawn)
    for i in sorted(range(len(drawn)), key=lambda i: i in front):
        x, y = drawn[i]
        column = round((x - left) / (right - left or 1) * (width - 1))
        line = height - 1 - round((y - low) / (high - low or 1) * (height - 1))
        grid[line][column] = FRONT_POINT if i in front else POINT
    title = f"{y_label} {math.exp(high):,.2f} (top) to {math.exp(low):,.2f} (bottom)"
    axis = f"{x_label} {math.exp(left):,.2f} (left) to {math.exp(right):,.2f} (right); ● no plan is better in both"
    return Content("\n".join([title, *("│" + "".join(line) for line in grid), "└" + "─" * width, axis]))
