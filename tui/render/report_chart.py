"""Charts of a report as SVG text: memory by phase, and price against what is left free."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from planner.estimate import Estimate
from planner.fit import Fit
from planner.memory.breakdown import MemoryTerm, PhaseBreakdown
from planner.units import format_bytes, format_gib

WIDTH = 860
LABEL_WIDTH = 150
BAR_HEIGHT = 26
ROW_HEIGHT = 40
LEGEND_HEIGHT = 20
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
        parts.append(_text(LABEL_WIDTH - 8, top + 18, name, anchor="end"))
        left = float(LABEL_WIDTH)
        for kind, size_bytes in sizes.items():
            width = size_bytes * scale
            parts.append(
                f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{BAR_HEIGHT}" fill="{colours[kind]}">'
                f"<title>{escape(kind)}: {format_bytes(size_bytes)}</title></rect>"
            )
            left += width
        parts.append(_text(left + 6, top + 18, format_gib(sum(sizes.values()))))
    legend_top = len(by_phase) * ROW_HEIGHT + 8
    for index, kind in enumerate(kinds):
        x, y = LABEL_WIDTH + index % 4 * 175, legend_top + index // 4 * LEGEND_HEIGHT
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colours[kind]}"/>')
        parts.append(_text(x + 18, y + 11, kind))
    height = legend_top + (len(kinds) + 3) // 4 * LEGEND_HEIGHT
    return _svg(height, "Memory by phase", parts)


def _by_kind(terms: Sequence[MemoryTerm], estimate: Estimate) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for term in terms:
        if estimate.quantity.includes(term.counts_in) and term.size_bytes:
            sizes[term.kind] = sizes.get(term.kind, 0) + term.size_bytes
    return sizes


def prices_chart(fits: Sequence[Fit]) -> str:
    """Dollars per hour against the share of memory left free; ringed: nothing is both cheaper and freer."""
    points = [
        (float(fit.usd_per_hour), fit.headroom_bytes / fit.gpu.memory_bytes, fit)
        for fit in fits
        if fit.usd_per_hour
    ]
    if not points:
        return ""
    height, bottom = 300, 260
    dearest = max(price for price, _, _ in points)
    parts = [
        f'<line x1="{LABEL_WIDTH}" y1="{bottom}" x2="{WIDTH - 20}" y2="{bottom}" stroke="currentColor"/>',
        f'<line x1="{LABEL_WIDTH}" y1="20" x2="{LABEL_WIDTH}" y2="{bottom}" stroke="currentColor"/>',
        _text(LABEL_WIDTH, bottom + 30, "USD per hour →"),
        _text(LABEL_WIDTH - 8, 16, "memory left free ↑", anchor="end"),
    ]
    for price, free, fit in points:
        x = LABEL_WIDTH + price / dearest * (WIDTH - LABEL_WIDTH - 260)
        y = bottom - max(free, 0.0) * (bottom - 30)
        best = not any(other < price and more >= free for other, more, _ in points)
        ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="{COLOURS[2]}" stroke-width="2"/>'
        name = f"{fit.num_gpus} x {fit.gpu.name}, {price:.2f}, {free:.0%}, {fit.verdict}"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[0]}"/>' + (ring if best else ""))
        parts.append(_text(x + 12, y + 4, name, size=11))
    return _svg(height, "Price against free memory", parts)


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 13) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'


def _svg(height: int, label: str, parts: Sequence[str]) -> str:
    return "\n".join((_FRAME.format(width=WIDTH, height=height, label=label), *parts, "</svg>"))
