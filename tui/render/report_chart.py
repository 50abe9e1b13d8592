"""Charts of a report as SVG text: memory by phase, and price against what is left free."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from planner.fit import Fit
from planner.memory.breakdown import MemoryTerm, PhaseBreakdown
from planner.memory.estimate import Estimate
from planner.units import format_bytes, format_gib

WIDTH = 860
LABEL_WIDTH = 150
BAR_HEIGHT = 26
ROW_HEIGHT = 40
LEGEND_HEIGHT = 20
KEY_WIDTH, KEY_HEIGHT = 290, 17
FLOOR = 240
COLOURS = (
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0",
)  # fmt: skip
_FRAME = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'


def phases_chart(estimate: Estimate) -> str:
    """One stacked bar per phase, on one scale; every segment says its kind and size when pointed at."""
    phases = estimate.breakdown.phases if estimate.breakdown else ()
    phases = phases or (PhaseBreakdown(phase=estimate.phase, terms=estimate.terms),)
    by_phase = [(phase.phase, _by_kind(phase.terms, estimate)) for phase in phases]
    kinds = list(dict.fromkeys(kind for _, sizes in by_phase for kind in sizes))
    colours = {kind: COLOURS[index % len(COLOURS)] for index, kind in enumerate(kinds)}
    largest = max(sum(sizes.values()) for _, sizes in by_phase) or 1
    scale = (WIDTH - LABEL_WIDTH - 90) / largest
    parts = []
    for row, (name, sizes) in enumerate(by_phase):
        top = row * ROW_HEIGHT
        parts.append(text(LABEL_WIDTH - 8, top + 18, name, anchor="end"))
        left = float(LABEL_WIDTH)
        for kind, size_bytes in sizes.items():
            width = size_bytes * scale
            parts.append(
                f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{BAR_HEIGHT}" fill="{colours[kind]}">'
                f"<title>{escape(kind)}: {format_bytes(size_bytes)}</title></rect>"
            )
            left += width
        parts.append(text(left + 6, top + 18, format_gib(sum(sizes.values()))))
    legend_top = len(by_phase) * ROW_HEIGHT + 8
    for index, kind in enumerate(kinds):
        x, y = LABEL_WIDTH + index % 4 * 175, legend_top + index // 4 * LEGEND_HEIGHT
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colours[kind]}"/>')
        parts.append(text(x + 18, y + 11, kind))
    height = legend_top + (len(kinds) + 3) // 4 * LEGEND_HEIGHT
    return svg(height, "Memory by phase", parts)


def _by_kind(terms: Sequence[MemoryTerm], estimate: Estimate) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for term in terms:
        if estimate.quantity.includes(term.counts_in) and term.size_bytes:
            sizes[term.kind] = sizes.get(term.kind, 0) + term.size_bytes
    return sizes


def prices_chart(fits: Sequence[Fit]) -> str:
    """Dollars per hour against the share of memory left free; ringed: nothing else is cheaper and freer."""
    points = [
        (float(fit.usd_per_hour), fit.headroom_bytes / fit.gpu.memory_bytes, fit)
        for fit in fits
        if fit.usd_per_hour is not None
    ]
    if not points:
        return ""
    dearest = max(price for price, _, _ in points)
    right = WIDTH - KEY_WIDTH
    parts = [
        f'<line x1="{LABEL_WIDTH}" y1="{FLOOR}" x2="{right}" y2="{FLOOR}" stroke="currentColor"/>',
        f'<line x1="{LABEL_WIDTH}" y1="20" x2="{LABEL_WIDTH}" y2="{FLOOR}" stroke="currentColor"/>',
        text(LABEL_WIDTH, FLOOR + 20, "0"),
        text(right, FLOOR + 20, f"{dearest:,.2f} USD/h", anchor="end"),
        text(LABEL_WIDTH - 8, FLOOR, "0% free", anchor="end"),
        text(LABEL_WIDTH - 8, 32, "100% free", anchor="end"),
    ]
    for number, (price, free, fit) in enumerate(points, 1):
        x = LABEL_WIDTH + price / dearest * (right - LABEL_WIDTH - 20)
        y = FLOOR - max(free, 0.0) * (FLOOR - 28)
        best = not any(other < price and more >= free for other, more, _ in points)
        ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="{COLOURS[2]}" stroke-width="2"/>'
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[0]}"/>' + (ring if best else ""))
        parts.append(text(x + 9, y - 6 + number % 2 * 18, str(number), size=11))
        name = f"{number}: {fit.num_gpus} x {fit.gpu.name}, {fit.verdict.replace('_', ' ')}"
        parts.append(text(right + 16, 28 + (number - 1) * KEY_HEIGHT, name, size=11))
    height = max(FLOOR + 30, 28 + len(points) * KEY_HEIGHT)
    return svg(height, "Price against free memory", parts)


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 13) -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def svg(height: int, label: str, parts: Sequence[str]) -> str:
    """A drawing of the page's width."""
    return "\n".join((_FRAME.format(width=WIDTH, height=height, label=label), *parts, "</svg>"))
