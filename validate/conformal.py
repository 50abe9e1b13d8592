"""How wide an interval must be to hold a stated share of measurements it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

COVERAGE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Bounds on log(measured / expected)."""

    low: float
    high: float

    def blended(self, other: Band, weight: float) -> Band:
        """``weight`` of this band and the rest of ``other``."""
        return Band(
            low=weight * self.low + (1 - weight) * other.low, high=weight * self.high + (1 - weight) * other.high
        )

    def widened(self, factor: float) -> Band:
        """A band that many times as wide around the same middle, never without the expectation itself."""
        more = (factor - 1) * (self.high - self.low) / 2
        return Band(low=min(0.0, self.low - more), high=max(0.0, self.high + more))

    def holds(self, residual: float) -> bool:
        return self.low <= residual <= self.high


def split_conformal(residuals: Sequence[float], coverage: float = COVERAGE) -> Band | None:
    """Distribution-free bounds from exchangeable residuals; None where there are too few for a finite one.

    With n residuals the k-th smallest from either end, k = floor((n + 1) (1 - coverage) / 2), leaves at most the
    stated share outside: https://arxiv.org/abs/2107.07511, section 1.
    """
    ordered = sorted(residuals)
    rank = math.floor((len(ordered) + 1) * (1 - coverage) / 2)
    if rank < 1:
        return None
    return Band(low=ordered[rank - 1], high=ordered[-rank])


def enough(coverage: float = COVERAGE) -> int:
    """Residuals needed for a finite band."""
    return math.ceil(2 / (1 - coverage)) - 1
