"""Pictures of a traced run: memory over its events by category and phase, for terminals and as SVG or HTML."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from pathlib import Path

from planner.errors import EnvironmentProblemError
from planner.units import GIB, format_bytes
from tui.render.report_chart import COLOURS
from validate.trace.timeline import CATEGORIES, Timeline

WIDTH, HEIGHT = 960, 360
LEFT, TOP, RIGHT, BOTTOM = 74, 34, 12, 64
_EIGHTHS = " ▁▂▃▄▅▆▇█"


def terminal(timeline: Timeline, *, width: int = 72, height: int = 10) -> str:
    """Allocated memory as columns, reserved as dots above them, and the phases underneath."""
    moments = timeline.moments
    if not moments:
        return ""
    edges = [index * len(moments) // width for index in range(width + 1)]
    columns = [moments[first : max(last, first + 1)] for first, last in pairwise(edges)]
    tops = [max(moment.allocated_bytes for moment in column) for column in columns]
    reserved = [max(moment.reserved_bytes for moment in column) for column in columns]
    ceiling = max(reserved) or 1
    lines = []
    for row in range(height, 0, -1):
        cells = []
        for top, held in zip(tops, reserved, strict=True):
            filled = top * height * 8 // ceiling - (row - 1) * 8
            cell = _EIGHTHS[max(0, min(8, filled))]
            at_reserved = -(-held * height // ceiling) == row
            cells.append("·" if cell == " " and at_reserved else cell)
        label = format_bytes(ceiling * row // height) if row in (height, height // 2) else ""
        lines.append(f"{label:>11} │{''.join(cells)}".rstrip())
    lines.append(f"{'':>11} └{'─' * width}")
    lines.append(f"{'':>13}{_ruler(timeline, width)}".rstrip())
    return "\n".join(lines)


def _ruler(timeline: Timeline, width: int) -> str:
    cells = [" "] * width
    total = len(timeline.moments)
    for name, step, first, last in timeline.spans():
        start, end = first * width // total, last * width // total
        label = f"{name} {step}" if end - start > len(name) + 2 else name[: max(end - start - 1, 1)]
        for offset, letter in enumerate(label):
            if start + offset < width:
                cells[start + offset] = letter
    return "".join(cells)


def svg(timeline: Timeline, title: str) -> str:
    """A stacked area per category, the reserved line above, phases shaded; shapes explain themselves on hover."""
    moments = timeline.moments
    names = _names(timeline)
    ceiling = max(timeline.peak_reserved_bytes, 1)
    span_x, span_y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(index: float) -> float:
        return LEFT + index * span_x / max(len(moments), 1)

    def y(size_bytes: int) -> float:
        return TOP + span_y * (1 - size_bytes / ceiling)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for index, (name, step, first, last) in enumerate(timeline.spans()):
        shade = "#f4f4f4" if index % 2 else "#e9e9e9"
        width = x(last) - x(first)
        parts.append(
            f'<rect x="{x(first):.1f}" y="{TOP}" width="{width:.1f}" height="{span_y}" fill="{shade}">'
            f"<title>{escape(name)}, step {step}</title></rect>"
        )
        if width > 7 * len(name):
            parts.append(f'<text x="{x(first) + 3:.1f}" y="{TOP + span_y + 14}" fill="#555">{escape(name)}</text>')
    for tick in range(5):
        size = ceiling * tick // 4
        parts.append(
            f'<text x="{LEFT - 6}" y="{y(size) + 4:.1f}" text-anchor="end" fill="#555">{format_bytes(size)}</text>'
        )
    base = [0] * len(moments)
    for position, name in enumerate(names):
        above = [
            low + moment.by_category.get(name, 0) for low, moment in zip(base, moments, strict=True)
        ]  # fmt: skip
        edge = [f"{x(i):.1f},{y(v):.1f} {x(i + 1):.1f},{y(v):.1f}" for i, v in enumerate(above)]
        back = [f"{x(i + 1):.1f},{y(v):.1f} {x(i):.1f},{y(v):.1f}" for i, v in reversed(list(enumerate(base)))]
        most = max(moment.by_category.get(name, 0) for moment in moments)
        parts.append(
            f'<polygon points="{" ".join(edge + back)}" fill="{COLOURS[position % len(COLOURS)]}">'
            f"<title>{escape(name)}: at most {format_bytes(most)}</title></polygon>"
        )
        left = LEFT + position % 5 * 170
        top = HEIGHT - 36 + position // 5 * 18
        parts.append(
            f'<rect x="{left}" y="{top}" width="12" height="12" fill="{COLOURS[position % len(COLOURS)]}"/>'
        )
        parts.append(f'<text x="{left + 18}" y="{top + 11}">{escape(name)}</text>')
        base = above
    line = " ".join(f"{x(i):.1f},{y(m.reserved_bytes):.1f} {x(i + 1):.1f},{y(m.reserved_bytes):.1f}"
                    for i, m in enumerate(moments))  # fmt: skip
    parts.append(
        f'<polyline points="{line}" fill="none" stroke="#333" stroke-dasharray="4 3">'
        "<title>reserved</title></polyline>"
    )
    return "\n".join([*parts, "</svg>"])


def png(timeline: Timeline, title: str, path: Path) -> None:
    """The same picture through matplotlib, which is an optional extra."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EnvironmentProblemError(
            "PNG pictures need matplotlib", hint="pip install 'gpu-planner[plot]', or write --plot run.svg"
        ) from None
    names = _names(timeline)
    figure = Figure(figsize=(12, 4.5))
    axes = figure.subplots()
    positions = range(len(timeline.moments))
    axes.stackplot(
        positions,
        [[moment.by_category.get(name, 0) / GIB for moment in timeline.moments] for name in names],
        labels=names, colors=COLOURS, step="post",
    )  # fmt: skip
    axes.plot(positions, [moment.reserved_bytes / GIB for moment in timeline.moments], "k--", label="reserved")
    for name, _, first, last in timeline.spans():
        axes.axvline(first, color="#999999", linewidth=0.5)
        axes.text((first + last) / 2, 0, name, ha="center", va="bottom", fontsize=7, rotation=90)
    axes.set(title=title, ylabel="GiB", xticks=[], xlim=(0, max(len(timeline.moments) - 1, 1)))
    axes.legend(loc="upper left", fontsize=8)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def _names(timeline: Timeline) -> list[str]:
    used = {name for moment in timeline.moments for name in moment.by_category}
    return [name for name in CATEGORIES if name in used] + sorted(used - set(CATEGORIES))


def html(timeline: Timeline, title: str, table: str) -> str:
    """A page of its own with the picture and the text of the answer."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        "<style>body{font-family:system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem}"
        "pre{overflow-x:auto;background:#f6f6f6;padding:1rem}</style></head><body>\n"
        f"{svg(timeline, title)}\n<pre>{escape(table)}</pre>\n</body></html>\n"
    )
