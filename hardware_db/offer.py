"""One rentable configuration and its dated price."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """``usd_per_hour`` buys the whole instance: ``num_gpus`` GPUs of kind ``gpu_id``."""

    provider: str
    instance_type: str
    gpu_id: str
    num_gpus: int
    region: str
    usd_per_hour: Decimal
    spot: bool
    per_gpu: bool = False
    """True where one GPU of a larger machine is quoted, so that several of them share one; False: a machine."""
    as_of: date | None
    """Day of the reading; None where the source carries no usable date (``as_of_text`` says what it does)."""
    as_of_text: str
    source: str
    note: str
    quarantined: str | None
    """Why this row must not be used to answer; None for a usable row."""

    @property
    def usd_per_gpu_hour(self) -> Decimal:
        return self.usd_per_hour / self.num_gpus
