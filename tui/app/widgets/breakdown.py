"""What the memory of the selected GPU is made of: a stacked bar per phase and the terms behind it."""

from __future__ import annotations

from textwrap import wrap

from textual.content import Content
from textual.widgets import Static

from planner.memory.breakdown import MemoryTerm, PhaseBreakdown
from planner.memory.estimate import Estimate
from planner.quantity import Quantity
from planner.units import GIB, format_gib

PATTERNS = "█▓▒░▚▞▤▥▦▩"
"""One pattern per kind of term, so that the picture is readable without colour."""

LABEL_WIDTH, SIZE_WIDTH, TERM_INDENT = 17, 11, 13
ALL_PHASES_FROM_LINES = 30
"""A shorter terminal shows the peak alone."""

COLOURS = (
    "$primary",
    "$success",
    "$warning",
    "$accent",
    "$secondary",
    "$error",
    "$primary-lighten-2",
    "$success-lighten-2",
    "$warning-lighten-2",
    "$accent-lighten-2",
)


def kinds_of(estimate: Estimate) -> list[str]:
    """The kinds of the breakdown's terms, largest at any phase first."""
    phases = estimate.breakdown.phases if estimate.breakdown else ()
    largest: dict[str, int] = {}
    for term in (term for phase in phases for term in phase.terms):
        largest[term.kind] = max(largest.get(term.kind, 0), term.size_bytes)
    return sorted(largest, key=lambda kind: -largest[kind])


def phase_bar(phase: PhaseBreakdown, kinds: list[str], scale_bytes: int, width: int) -> Content:
    """One phase as a bar of ``width`` cells standing for ``scale_bytes``."""
    parts: list[Content] = []
    drawn = filled = 0
    for i, kind in enumerate(kinds):
        filled += sum(term.size_bytes for term in phase.terms if term.kind == kind)
        end = min(width, filled * width // max(1, scale_bytes))
        if end > drawn:
            parts.append(Content.styled(PATTERNS[i % len(PATTERNS)] * (end - drawn), COLOURS[i % len(COLOURS)]))
            drawn = end
    parts.append(Content("·" * (width - drawn)))
    return Content("").join(parts)


class BreakdownView(Static):
    """Stacked bars per phase on the scale of one GPU's memory, with a legend; as wide as it is given room."""

    estimate: Estimate | None = None
    memory_bytes = 1

    def show(self, estimate: Estimate | None, memory_bytes: int) -> None:
        self.estimate, self.memory_bytes = estimate, memory_bytes
        self.refresh(layout=True)

    def render(self) -> Content:
        memory = self.estimate.breakdown if self.estimate else None
        if self.estimate is None or memory is None:
            return Content("No breakdown: this job cannot be placed on the selected GPU.")
        kinds = kinds_of(self.estimate)
        peak = memory.peak_phase(Quantity.DEVICE)
        scale = max(self.memory_bytes, *(phase.size_bytes(Quantity.DEVICE) for phase in memory.phases))
        bar_width = max(10, self.content_size.width - LABEL_WIDTH - SIZE_WIDTH)
        lines = []
        for phase in (peak,) if self.app.size.height < ALL_PHASES_FROM_LINES else memory.phases:
            mark = "▸" if phase is peak else " "
            head = Content(f"{mark}{phase.phase[: LABEL_WIDTH - 2]:<{LABEL_WIDTH - 1}}")
            size = format_gib(phase.size_bytes(Quantity.DEVICE))
            lines.append(head + phase_bar(phase, kinds, scale, bar_width) + Content(f"{size:>{SIZE_WIDTH}}"))
        lines += legend(peak, kinds, self.content_size.width)
        return Content("\n").join(lines)


def legend(peak: PhaseBreakdown, kinds: list[str], width: int) -> list[Content]:
    """The patterns with what each holds at the peak, in GiB, on lines of ``width`` cells."""
    lines: list[Content] = [Content("")]
    for i, kind in enumerate(kinds):
        size_bytes = sum(term.size_bytes for term in peak.terms if term.kind == kind)
        sign = Content.styled(PATTERNS[i % len(PATTERNS)], COLOURS[i % len(COLOURS)])
        entry = sign + Content(f" {kind.replace('_', ' ')} {size_bytes / GIB:.2f}  ")
        if lines[-1].cell_length + entry.cell_length > width + 2:
            lines.append(Content(""))
        lines[-1] += entry
    return lines


def terms_text(terms: tuple[MemoryTerm, ...], width: int, *, with_source: bool) -> Content:
    """The terms at the peak, largest first, with formula and source, on lines of ``width`` cells."""
    lines: list[Content] = []

    def add(text: str, style: str, further: str = "") -> None:
        indent = " " * TERM_INDENT
        wrapped = wrap(text, max(20, width), initial_indent=indent, subsequent_indent=indent + further)
        lines.extend(Content.styled(line, style) for line in wrapped)

    for term in sorted(terms, key=lambda term: -term.size_bytes):
        lines.append(Content.styled(f"{format_gib(term.size_bytes):>{TERM_INDENT - 2}}  {term.label}", "bold"))
        values = ", ".join(f"{symbol} = {_grouped(value)}" for symbol, value in term.inputs.items())
        add(f"= {term.formula}", "", "  ")
        if values:
            add(f"with {values}", "")
        if with_source:
            add(term.source.title, "dim")
            add(term.source.url or "", "dim")
    return Content("\n").join(lines)


def _grouped(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
