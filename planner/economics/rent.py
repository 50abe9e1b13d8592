"""What renting costs: per hour, per month, for a job, per million tokens; on demand and on spot instances."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from statistics import median

from hardware_db.offer import Offer
from planner.economics.spot import SpotRisk, SpotRun, expected_run
from planner.rental import Rental, cheapest_rental
from planner.request import HardwareWish
from planner.units import HOURS_PER_MONTH, MILLION


@dataclass(frozen=True, slots=True, kw_only=True)
class RentCost:
    """One job on rented machines."""

    rental: Rental
    hours: float
    """Wall time, interruptions included."""
    usd: Decimal
    num_tokens: int | None = None
    spot_run: SpotRun | None = None
    """None: on demand."""

    @property
    def usd_per_hour(self) -> Decimal:
        return self.rental.usd_per_hour

    @property
    def usd_per_month(self) -> Decimal:
        """Machines that run all month."""
        return self.rental.usd_per_hour * HOURS_PER_MONTH

    @property
    def usd_per_million_tokens(self) -> Decimal | None:
        """None where the job counts no tokens."""
        return self.usd * MILLION / self.num_tokens if self.num_tokens else None


def on_demand(
    offers: Iterable[Offer], num_gpus: int, hours: float, wish: HardwareWish, num_tokens: int | None = None
) -> RentCost | None:
    """The cheapest on-demand machines that hold ``num_gpus`` GPUs; None where no price is known."""
    rental = cheapest_rental((offer for offer in offers if not offer.spot), num_gpus, wish)
    if rental is None:
        return None
    return RentCost(rental=rental, hours=hours, usd=_usd(rental, hours), num_tokens=num_tokens)


def on_spot(
    offers: Iterable[Offer],
    num_gpus: int,
    hours: float,
    wish: HardwareWish,
    risk: SpotRisk,
    num_tokens: int | None = None,
) -> RentCost | None:
    """The cheapest spot machines with the hours lost to interruptions; None where none is known or worth it."""
    rental = cheapest_rental((offer for offer in offers if offer.spot), num_gpus, _allowing_spot(wish))
    if rental is None:
        return None
    run = expected_run(hours, rental.num_instances, risk)
    if math.isinf(run.stretch):
        return None
    stretched = hours * run.stretch
    return RentCost(
        rental=rental, hours=stretched, usd=_usd(rental, stretched), num_tokens=num_tokens, spot_run=run
    )


def median_usd_per_gpu_hour(offers: Iterable[Offer]) -> Decimal | None:
    """The middle of all usable on-demand prices: what many GPUs cost, where the cheapest offer is one machine."""
    prices = [offer.usd_per_gpu_hour for offer in offers if not offer.spot and offer.quarantined is None]
    return median(prices) if prices else None


def _usd(rental: Rental, hours: float) -> Decimal:
    return rental.usd_per_hour * Decimal(str(hours))


def _allowing_spot(wish: HardwareWish) -> HardwareWish:
    return replace(wish, spot=True)
