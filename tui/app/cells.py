"""Short texts of a table cell; "-" where there is nothing to say. Colour is never the only signal."""

from __future__ import annotations

from decimal import Decimal

from planner.fit import Size
from planner.units import GIB, HOURS_PER_DAY

FULL, LIKELY, FREE, OVER = "█", "▒", "·", "▶"


def memory_bar(size: Size | None, memory_bytes: int, width: int) -> str:
    """Need against memory: full up to the low end, shaded up to the high end, an arrow where it runs over."""
    if size is None:
        return OVER.rjust(width, FULL)

    def cells(size_bytes: int) -> int:
        return -(-size_bytes * width // memory_bytes)

    low, high = cells(size.low_bytes), cells(max(size.high_bytes, size.expected_bytes))
    bar = (FULL * min(low, width)).ljust(min(high, width), LIKELY).ljust(width, FREE)
    return bar[:-1] + OVER if size.high_bytes > memory_bytes else bar


def need_text(size_bytes: int | None) -> str:
    """In GiB, as the column's title says."""
    return "-" if size_bytes is None else f"{size_bytes / GIB:,.1f}"


def shortened(name: str, width: int) -> str:
    """A name that is too long loses its middle: what tells it from its neighbours often stands last."""
    if len(name) <= width:
        return name
    tail = width // 3
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"


def usd_text(usd: Decimal | None) -> str:
    if usd is None:
        return "-"
    if 0 < usd < 1:
        return f"${usd:,.3f}" if usd < Decimal("0.1") else f"${usd:,.2f}"
    for step, letter in ((Decimal(10**9), "B"), (Decimal(10**6), "M")):
        if usd >= step:
            return f"${usd / step:,.1f}{letter}"
    if usd >= 100_000:
        return f"${usd / 1000:,.0f}k"
    return f"${usd:,.0f}" if usd >= 1000 else f"${usd:,.2f}"


def hours_text(hours: float | None) -> str:
    if hours is None:
        return "-"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    if hours >= 10_000:
        return f"{hours / HOURS_PER_DAY:,.0f} d"
    return f"{hours:,.1f} h" if hours < 1000 else f"{hours:,.0f} h"


def age_text(days: int | None) -> str:
    """Days since a price was read; "?" where its source carries no date."""
    return "?" if days is None else f"{days} d"
