"""An answer in bytes: which tier says so, of which counter, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.memory.breakdown import MemoryBreakdown, MemoryTerm
from planner.quantity import Quantity, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Peak memory per rank. ``terms`` are those live at the peak and add up to ``expected_bytes``."""

    task: str
    method: str
    tier: Tier
    quantity: Quantity
    low_bytes: int
    expected_bytes: int
    high_bytes: int
    num_gpus: int
    """GPUs the workload is spread over; bytes are per GPU."""
    phase: str
    terms: tuple[MemoryTerm, ...]
    breakdown: MemoryBreakdown | None = None
    label: str = ""
    """Tells apart estimates of one tier, for example "pessimistic" among the rules."""
    calibration: str | None = None
    """What the estimate was calibrated on, in words; None: not calibrated."""

    def around(self, breakdown: MemoryBreakdown) -> Estimate:
        """This estimate with the phases of ``breakdown``: its peak, and the terms live there. The bounds stay."""
        peak = breakdown.peak_phase(self.quantity)
        return replace(
            self,
            breakdown=breakdown,
            phase=peak.phase,
            terms=tuple(term for term in peak.terms if self.quantity.includes(term.counts_in)),
            expected_bytes=peak.size_bytes(self.quantity),
        )
