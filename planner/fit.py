"""Does a workload fit a GPU, with how much to spare, and what stands in the way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hardware_db.gpu import Gpu
from hardware_db.offer import Offer
from planner.estimate import Estimate
from planner.request import Parallelism


class Verdict(StrEnum):
    """FITS: even the high end fits. TIGHT: the expectation fits, the high end does not."""

    FITS = "FITS"
    TIGHT = "TIGHT"
    DOES_NOT_FIT = "DOES_NOT_FIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One workload on ``num_gpus`` GPUs of one kind."""

    task: str
    method: str
    gpu: Gpu
    num_gpus: int
    parallelism: Parallelism
    verdict: Verdict
    headroom_bytes: int
    """Memory of one GPU less the expected device peak of the worst rank; negative when it does not fit."""
    limiting_term: str
    """Label of the largest term at the peak."""
    estimate: Estimate
    offer: Offer | None
    """Cheapest usable offer that holds ``num_gpus`` GPUs; None when no price is known."""
