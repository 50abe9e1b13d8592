"""Cost against time as SVG text: every plan found, and the line nothing beats in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tui.render.report_chart import COLOURS, FLOOR, KEY_HEIGHT, KEY_WIDTH, LABEL_WIDTH, WIDTH, svg, text

_TOP, _MOST_NAMED = 28, 14


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """One plan; ``time`` and ``usd`` in the units the chart names."""

    name: str
    time: float
    usd: float
    on_front: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What the chart draws; at least two points."""

    points: tuple[FrontPoint, ...]
    time_unit: str
    usd_unit: str


def front_chart(front: Front) -> str:
    """Both axes logarithmic; plans on the line are numbered from the cheapest."""
    points, time_unit, usd_unit = front.points, front.time_unit, front.usd_unit
    right = WIDTH - KEY_WIDTH
    x_of = _scale([point.time for point in points], LABEL_WIDTH + 12, right - 12)
    y_of = _scale([point.usd for point in points], FLOOR - 12, _TOP)
    times, amounts = [point.time for point in points], [point.usd for point in points]
    parts = [
        f'<line x1="{LABEL_WIDTH}" y1="{FLOOR}" x2="{right}" y2="{FLOOR}" stroke="currentColor"/>',
        f'<line x1="{LABEL_WIDTH}" y1="20" x2="{LABEL_WIDTH}" y2="{FLOOR}" stroke="currentColor"/>',
        text(LABEL_WIDTH, FLOOR + 20, f"{min(times):,.3g} {time_unit}"),
        text(right, FLOOR + 20, f"{max(times):,.3g} {time_unit}", anchor="end"),
        text(LABEL_WIDTH - 8, FLOOR - 8, f"{min(amounts):,.2f} {usd_unit}", anchor="end", size=11),
        text(LABEL_WIDTH - 8, _TOP + 4, f"{max(amounts):,.2f} {usd_unit}", anchor="end", size=11),
    ]
    best = sorted((point for point in points if point.on_front), key=lambda point: point.usd)
    line = " ".join(f"{x_of(point.time):.1f},{y_of(point.usd):.1f}" for point in best)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[2]}" stroke-width="1.5"/>')
    for point in points:
        colour, radius = (COLOURS[2], 5) if point.on_front else (COLOURS[0], 3)
        parts.append(
            f'<circle cx="{x_of(point.time):.1f}" cy="{y_of(point.usd):.1f}" r="{radius}" fill="{colour}"/>'
        )
    for number, point in enumerate(best[:_MOST_NAMED], 1):
        parts.append(text(x_of(point.time) + 7, y_of(point.usd) - 6, str(number), size=11))
        parts.append(text(right + 16, _TOP + (number - 1) * KEY_HEIGHT, f"{number}: {point.name}", size=11))
    height = max(FLOOR + 30, _TOP + min(len(best), _MOST_NAMED) * KEY_HEIGHT)
    return svg(height, "Cost against time", parts)


def _scale(values: Sequence[float], first: float, last: float) -> Callable[[float], float]:
    """Values to pixels, by their logarithm."""
    low, high = math.log(min(values)), math.log(max(values))

    def place(value: float) -> float:
        return first + (math.log(value) - low) / (high - low or 1.0) * (last - first)

    return place
