"""What a few runs say: how far to trust their median, and how wide an interval must be to hold what is unseen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

COVERAGE = 0.9
SHRINKAGE_RUNS = 2
"""Runs at which measurements and the answer around them weigh the same."""


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


def band_of(residuals: Sequence[float], around: Band) -> Band:
    """A conformal band; with too few runs, what they span, drawn towards the band around them."""
    band = split_conformal(residuals)
    if band is not None:
        return band
    spanned = Band(low=min(residuals), high=max(residuals))
    wide = Band(low=min(spanned.low, around.low), high=max(spanned.high, around.high))
    return spanned.blended(wide, len(residuals) / enough())


def agreement(shifts: Sequence[float]) -> float:
    """1 where runs call for the same shift, near 0 where they contradict each other.

    The share of the squared median in itself plus its squared standard error, the error from the median absolute
    deviation (1.4826 makes it a standard deviation, 1.2533 that of a median).
    """
    middle = statistics.median(shifts)
    spread = 1.4826 * statistics.median(abs(shift - middle) for shift in shifts)
    error = 1.2533 * spread / math.sqrt(len(shifts))
    return middle**2 / (middle**2 + error**2) if middle else 0.0


def drawn(around: float, logs: Sequence[float], agreed: float) -> float:
    """The median of ``logs``, drawn towards ``around``: the more so the fewer they are and the less they agree."""
    weight = len(logs) / (len(logs) + SHRINKAGE_RUNS) * agreed
    return weight * statistics.median(logs) + (1 - weight) * around
