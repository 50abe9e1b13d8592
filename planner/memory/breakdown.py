"""Terms, phases and the peak: the largest phase, never the sum of every term's maximum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.citation import Citation
from planner.memory.ops import maximum
from planner.quantity import Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTerm:
    """One cause of memory on one rank. In vectorised use the sizes are int64 arrays of equal shape."""

    kind: str
    """weights, adapter, gradients, optimizer, activations, logits, kv_cache, workspace, slack, context…"""
    label: str
    size_bytes: int
    low_bytes: int | None = None
    high_bytes: int | None = None
    """None: as certain as ``size_bytes``."""
    formula: str
    """In symbols, for example "L × B × S × d × 2"."""
    inputs: Mapping[str, object] = field(default_factory=dict)
    """The value of each symbol of ``formula``."""
    source: Citation
    counts_in: Quantity = Quantity.ALLOCATED
    """The innermost counter that sees this memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseBreakdown:
    """What is live at the worst moment of one phase: load, forward, backward, optimizer step, eval, prefill…"""

    phase: str
    terms: tuple[MemoryTerm, ...]

    def size_bytes(self, quantity: Quantity) -> int:
        return sum(term.size_bytes for term in self.terms if quantity.includes(term.counts_in))

    def low_bytes(self, quantity: Quantity) -> int:
        return sum(
            term.size_bytes if term.low_bytes is None else term.low_bytes
            for term in self.terms
            if quantity.includes(term.counts_in)
        )

    def high_bytes(self, quantity: Quantity) -> int:
        return sum(
            term.size_bytes if term.high_bytes is None else term.high_bytes
            for term in self.terms
            if quantity.includes(term.counts_in)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBreakdown:
    """The phases of a workload on its worst rank."""

    phases: tuple[PhaseBreakdown, ...]

    def peak_phase(self, quantity: Quantity) -> PhaseBreakdown:
        return max(self.phases, key=lambda phase: phase.size_bytes(quantity))

    def peak_bytes(self, quantity: Quantity) -> int:
        """The largest phase; element by element where sizes are arrays."""
        return _largest([phase.size_bytes(quantity) for phase in self.phases])

    def low_bytes(self, quantity: Quantity) -> int:
        return _largest([phase.low_bytes(quantity) for phase in self.phases])

    def high_bytes(self, quantity: Quantity) -> int:
        return _largest([phase.high_bytes(quantity) for phase in self.phases])


def _largest(sizes: list[int]) -> int:
    largest: int = maximum(*sizes)
    return largest
