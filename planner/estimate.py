"""An answer in bytes: which tier says so, of which counter, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

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
