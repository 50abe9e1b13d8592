"""The GPU table as values: one row per GPU, how rows are filtered and in which order they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from planner.board import Candidate, Placement
from planner.fit import Fit, Verdict
from planner.units import format_bytes, format_gib
from tui.app.cells import age_text, hours_text, usd_text


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One GPU against the current job. ``placement`` is None where no count of it can hold the job."""

    gpu_id: str
    name: str
    vendor: str
    memory_bytes: int
    release: str | None
    here: bool = False
    """In this machine."""
    free_bytes: int | None = None
    """What other processes leave of it now, where it is in this machine."""
    owned: bool = False
    """Marked by the user as their own: its hours cost no rent."""
    candidate: Candidate
    work_out: Callable[[Candidate], Fit | None]
    hours: float | None = None
    usd_per_hour: Decimal | None = None
    usd_total: Decimal | None = None
    price_age_days: int | None = None
    provider: str = ""

    @property
    def verdict(self) -> Verdict:
        return self.placement.verdict if self.placement else Verdict.DOES_NOT_FIT

    @property
    def fit(self) -> Fit | None:
        """The whole answer with its terms, worked out when asked for."""
        return self.work_out(self.candidate)

    @property
    def placement(self) -> Placement | None:
        return self.candidate.placement

    @property
    def placed(self) -> str:
        """Count and name, such as "2 × H100 SXM5 80GB"."""
        return f"{self.placement.num_gpus} × {self.name}" if self.placement else self.name

    @property
    def is_rented(self) -> bool:
        """Whether an offer gave the price."""
        return bool(self.usd_per_hour) and not self.owned

    @property
    def need_bytes(self) -> int:
        return self.placement.size.expected_bytes if self.placement else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFilter:
    """What the table shows. Empty means everything."""

    text: str = ""
    vendor: str = ""
    provider: str = ""
    min_memory_bytes: int = 0
    max_usd_per_hour: Decimal | None = None
    one_gpu_only: bool = False
    fitting_only: bool = False

    @property
    def words(self) -> str:
        """The filters in force, in words; empty where everything is shown."""
        limit = self.max_usd_per_hour
        words = (
            f"name~{self.text}" if self.text else "",
            self.vendor,
            f"from~{self.provider}" if self.provider else "",
            f"≥ {format_bytes(self.min_memory_bytes)}" if self.min_memory_bytes else "",
            "fits on one" if self.one_gpu_only else "",
            "only what fits" if self.fitting_only else "",
            f"≤ {usd_text(limit)}/h" if limit is not None else "",
        )
        return ", ".join(word for word in words if word)

    def admits(self, row: GpuRow) -> bool:
        if self.text and not all(word in row.name.lower() for word in self.text.lower().split()):
            return False
        if self.vendor and row.vendor.lower() != self.vendor.lower():
            return False
        if self.provider and self.provider.lower() not in row.provider.lower():
            return False
        if row.memory_bytes < self.min_memory_bytes:
            return False
        if self.max_usd_per_hour is not None and (
            row.usd_per_hour is None or row.usd_per_hour > self.max_usd_per_hour
        ):
            return False
        if self.one_gpu_only and (row.placement is None or row.placement.num_gpus > 1):
            return False
        return not (self.fitting_only and row.verdict is Verdict.DOES_NOT_FIT)


_VERDICT_ORDER = {Verdict.FITS: 0, Verdict.TIGHT: 1, Verdict.DOES_NOT_FIT: 2}
_NO_PRICE = Decimal("Infinity")

SORTS: dict[str, Callable[[GpuRow], tuple[object, ...]]] = {
    "$/h": lambda row: (row.usd_per_hour is None, row.usd_per_hour or _NO_PRICE),
    "total": lambda row: (row.usd_total is None, row.usd_total or _NO_PRICE),
    "hours": lambda row: (row.hours is None, row.hours or 0.0),
    "count": lambda row: (row.placement is None, row.placement.num_gpus if row.placement else 0, row.memory_bytes),
    "memory": lambda row: (-row.memory_bytes,),
    "name": lambda row: (row.name.lower(),),
    "age": lambda row: (row.price_age_days is None, row.price_age_days or 0),
}


def arrange(rows: tuple[GpuRow, ...], shown: RowFilter, sort: str, descending: bool) -> tuple[GpuRow, ...]:
    """Admitted rows in order: this machine's GPUs first, then those that fit, then by ``sort``."""
    admitted = [row for row in rows if shown.admits(row)]
    admitted.sort(key=SORTS[sort], reverse=descending)
    if sort not in ("name", "memory"):
        admitted.sort(key=lambda row: _VERDICT_ORDER[row.verdict])
    admitted.sort(key=lambda row: not row.here)
    return tuple(admitted)


def _age_words(row: GpuRow) -> str:
    return "undated" if row.price_age_days is None else f"{age_text(row.price_age_days)} old"


def placed_words(row: GpuRow) -> str:
    """The placement of a row in a line: count, memory with its interval, money, time."""
    placed = row.placement
    if placed is None:
        return f"{row.name}: {row.candidate.why_not}"
    size = placed.size
    interval = f"{format_gib(size.low_bytes)} to {format_gib(size.high_bytes)}"
    parts = [row.placed, f"{format_gib(size.expected_bytes)} ({interval}) of {format_gib(row.memory_bytes)} each"]
    if row.free_bytes is not None:
        short = ", too little" if row.free_bytes < size.expected_bytes else ""
        parts.append(f"{format_gib(row.free_bytes)} free now{short}")
    price = "no price known" if row.usd_per_hour is None else f"{usd_text(row.usd_per_hour)}/h"
    whose = f" {row.provider}" if row.provider else ""
    parts.append(price + whose + (f", {_age_words(row)}" if row.is_rented else ""))
    if row.hours is not None:
        parts.append(f"{hours_text(row.hours)}, {usd_text(row.usd_total)} in all")
    return " · ".join(parts)
