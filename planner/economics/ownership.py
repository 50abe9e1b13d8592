"""Buying against renting: what an hour of one's own GPUs costs, and after how many hours buying pays."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from hardware_db.gpu import BuyPrice, Gpu
from planner.economics import assumptions
from planner.economics.energy import Site, site_kw
from planner.errors import RequestError
from planner.units import HOURS_PER_MONTH

_MONTHS_PER_YEAR = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What is bought and how it is used. The price of the machine around the GPUs comes on top (``host_usd``)."""

    gpu_usd: Decimal
    """One GPU."""
    host_usd: Decimal = Decimal(0)
    """Everything around the GPUs, for all of them."""
    lifetime_years: Decimal = assumptions.LIFETIME_YEARS.value
    resale_share: Decimal = Decimal(0)
    """Part of the price that selling brings back at the end; nothing is assumed."""
    utilisation: Decimal = Decimal(1)
    """Part of its life the machine computes; idle power is not counted."""
    upkeep_share_per_year: Decimal = Decimal(0)
    """Repair and service per year as a part of the price; nothing is assumed."""

    def __post_init__(self) -> None:
        if self.gpu_usd < 0 or self.host_usd < 0:
            raise RequestError("a buying price cannot be negative")
        if self.lifetime_years <= 0:
            raise RequestError("a lifetime is above zero years", hint="--lifetime-years 5")
        if not 0 <= self.resale_share <= 1:
            raise RequestError("resale is a part of the price, from 0 to 1", hint="--resale 0.2")
        if not 0 < self.utilisation <= 1:
            raise RequestError("utilisation is above 0 and at most 1", hint="--utilisation 0.6")
        if self.upkeep_share_per_year < 0:
            raise RequestError("upkeep cannot be negative")

    @property
    def lifetime_hours(self) -> Decimal:
        return self.lifetime_years * _MONTHS_PER_YEAR * HOURS_PER_MONTH

    @property
    def used_hours(self) -> Decimal:
        return self.lifetime_hours * self.utilisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """An hour of use of owned GPUs, and how that compares with renting them."""

    purchase: Purchase
    num_gpus: int
    price_usd: Decimal
    """GPUs and host together."""
    capital_usd_per_hour: Decimal
    """Price less resale, plus upkeep, over the hours of use."""
    power_usd_per_hour: Decimal | None
    """None where the TDP is unknown."""
    break_even_hours: Decimal | None
    """Hours of use after which buying was cheaper; None where it never is, or where no rent is known."""

    @property
    def usd_per_hour(self) -> Decimal:
        return self.capital_usd_per_hour + (self.power_usd_per_hour or Decimal(0))

    @property
    def break_even_months(self) -> Decimal | None:
        """Calendar months at the assumed utilisation."""
        if self.break_even_hours is None:
            return None
        return self.break_even_hours / self.purchase.utilisation / HOURS_PER_MONTH

    @property
    def pays(self) -> bool:
        """Whether the break-even lies within the lifetime."""
        return self.break_even_hours is not None and self.break_even_hours <= self.purchase.used_hours


def owning(
    gpu: Gpu, num_gpus: int, purchase: Purchase, site: Site, rent_usd_per_hour: Decimal | None
) -> Ownership:
    """Cost of ``num_gpus`` owned GPUs per hour of use; ``rent_usd_per_hour`` is for as many rented ones."""
    price = purchase.gpu_usd * num_gpus + purchase.host_usd
    upkeep = price * purchase.upkeep_share_per_year * purchase.lifetime_years
    spent = price * (1 - purchase.resale_share) + upkeep
    kw = site_kw(gpu, num_gpus, site)
    power = None if kw is None else kw * site.usd_per_kwh
    saved_per_hour = None if rent_usd_per_hour is None else rent_usd_per_hour - (power or Decimal(0))
    pays_ever = saved_per_hour is not None and saved_per_hour > 0
    return Ownership(
        purchase=purchase,
        num_gpus=num_gpus,
        price_usd=price,
        capital_usd_per_hour=spent / purchase.used_hours,
        power_usd_per_hour=power,
        break_even_hours=spent / saved_per_hour if pays_ever and saved_per_hour else None,
    )


def latest_buy_price(gpu: Gpu) -> BuyPrice | None:
    """The newest price of a card; prices whose unit is unclear and prices without a year are never used."""
    dated = [(_year_first(price.date), price) for price in gpu.buy_prices if price.unit == "card"]
    known = [(when, price) for when, price in dated if when]
    return max(known, key=lambda pair: (pair[0], pair[1].high_usd))[1] if known else None


def _year_first(text: str) -> str:
    """The sortable part of a date in words: "2026-Q1" of itself, "2026" of "mid-2026"."""
    digits = [word for word in text.replace("mid-", "").split() if word[:4].isdigit()]
    return digits[0] if digits else ""


def middle_usd(price: BuyPrice) -> Decimal:
    """The middle of a price range."""
    return (price.low_usd + price.high_usd) / 2
