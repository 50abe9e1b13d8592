"""Which memory counter a number speaks of, and the tier of knowledge behind it."""

from __future__ import annotations

from enum import StrEnum


class Quantity(StrEnum):
    """PyTorch's counters, each containing the one before; a prediction meets a measurement of its own only."""

    ALLOCATED = "allocated"
    """Blocks handed out by the caching allocator, rounded to 512 bytes (``max_memory_allocated``)."""
    ACTIVE = "active"
    """Allocated blocks and those waiting for another stream."""
    RESERVED = "reserved"
    """Segments the allocator holds from the driver (``max_memory_reserved``)."""
    DEVICE = "device"
    """What nvidia-smi shows: reserved plus CUDA context and libraries."""

    def includes(self, other: Quantity) -> bool:
        return _RANK[other] <= _RANK[self]


_RANK = {quantity: rank for rank, quantity in enumerate(Quantity)}


class Tier(StrEnum):
    """How a number was obtained, from rule of thumb to measurement."""

    RULE = "rule"
    ANALYTIC = "analytic"
    TRACE = "trace"
    MEASURED = "measured"
