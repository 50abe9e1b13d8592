"""What managed fine-tuning services charge per trained token, to set beside renting."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from planner.citation import Citation
from planner.units import BILLION, MILLION


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedPrice:
    """A price list's row: ``usd`` for ``per_tokens`` trained tokens (data set × epochs) of models of some size."""

    service: str
    model: str
    above_params: int
    up_to_params: int
    usd: Decimal
    per_tokens: int
    as_of: str
    source: Citation
    note: str = ""

    @property
    def usd_per_million_tokens(self) -> Decimal:
        return self.usd * MILLION / self.per_tokens

    def covers(self, num_params: int) -> bool:
        return self.above_params < num_params <= self.up_to_params


_FIREWORKS = Citation(title="Fireworks AI, pricing", url="https://fireworks.ai/pricing")

PRICES = (
    ManagedPrice(
        service="the lecture's service",
        model="Llama-3-8B",
        above_params=7 * BILLION,
        up_to_params=9 * BILLION,
        usd=Decimal("5.00"),
        per_tokens=2_400_000 * 3,
        as_of="undated",
        source=Citation(title="founding documents"),
        note="2.4M tokens x 3 epochs; whether it holds a minimum charge is not said",
    ),
    ManagedPrice(
        service="Fireworks AI",
        model="up to 16B",
        above_params=0,
        up_to_params=16 * BILLION,
        usd=Decimal("0.50"),
        per_tokens=MILLION,
        as_of="undated page, about 2025",
        source=_FIREWORKS,
    ),
    ManagedPrice(
        service="Fireworks AI",
        model="16.1B to 80B",
        above_params=16 * BILLION,
        up_to_params=80 * BILLION,
        usd=Decimal("3.00"),
        per_tokens=MILLION,
        as_of="undated page, about 2025",
        source=_FIREWORKS,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedQuote:
    """What a service would charge for a job."""

    price: ManagedPrice
    usd: Decimal


def quotes(num_params: int, trained_tokens: int) -> tuple[ManagedQuote, ...]:
    """Every known price for a model of this size, cheapest first; ``trained_tokens`` counts every epoch."""
    found = (
        ManagedQuote(price=price, usd=price.usd * trained_tokens / price.per_tokens)
        for price in PRICES
        if price.covers(num_params)
    )
    return tuple(sorted(found, key=lambda quote: quote.usd))
