"""What a job costs by every way of paying for it: rented, on spot, owned, managed; and its energy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hardware_db.gpu import Gpu
from hardware_db.offer import Offer
from planner.economics import energy as energy_of
from planner.economics import managed, ownership, rent
from planner.economics.energy import Energy, Site
from planner.economics.managed import ManagedQuote
from planner.economics.ownership import Ownership, Purchase
from planner.economics.rent import RentCost
from planner.economics.spot import SpotRisk
from planner.errors import RequestError
from planner.request import HardwareWish

MAX_GPUS = 1_000_000
MAX_HOURS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Under which conditions a job is priced."""

    wish: HardwareWish = field(default_factory=HardwareWish)
    risk: SpotRisk = field(default_factory=SpotRisk)
    site: Site = field(default_factory=Site)
    purchase: Purchase | None = None
    """None: bought at the newest known price, with the default lifetime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCost:
    """One job of ``hours`` undisturbed hours on ``num_gpus`` GPUs of one kind; None where nothing is known."""

    gpu: Gpu
    num_gpus: int
    hours: float
    num_tokens: int | None
    on_demand: RentCost | None
    spot: RentCost | None
    owned: Ownership | None
    energy: Energy | None
    managed: tuple[ManagedQuote, ...]


def job_cost(
    gpu: Gpu,
    offers: Iterable[Offer],
    *,
    num_gpus: int,
    hours: float,
    terms: Terms,
    num_tokens: int | None = None,
    num_params: int | None = None,
) -> JobCost:
    """Price a job. ``num_tokens`` counts every epoch; ``num_params`` asks managed services as well."""
    if not 1 <= num_gpus <= MAX_GPUS:
        raise RequestError(f"a job takes 1 to {MAX_GPUS:,} GPUs", hint="--num-gpus 8")
    if not 0 < hours <= MAX_HOURS:
        raise RequestError(f"a job takes more than 0 and at most {MAX_HOURS:,} hours", hint="--hours 2.5")
    offers = tuple(offers)
    on_demand = rent.on_demand(offers, num_gpus, hours, terms.wish, num_tokens)
    rent_usd_per_hour = on_demand.usd_per_hour * num_gpus / on_demand.rental.num_gpus if on_demand else None
    purchase = terms.purchase or _default_purchase(gpu)
    return JobCost(
        gpu=gpu,
        num_gpus=num_gpus,
        hours=hours,
        num_tokens=num_tokens,
        on_demand=on_demand,
        spot=rent.on_spot(offers, num_gpus, hours, terms.wish, terms.risk, num_tokens),
        owned=ownership.owning(gpu, num_gpus, purchase, terms.site, rent_usd_per_hour) if purchase else None,
        energy=energy_of.energy(gpu, num_gpus, hours, terms.site),
        managed=managed.quotes(num_params, num_tokens) if num_params and num_tokens else (),
    )


def _default_purchase(gpu: Gpu) -> Purchase | None:
    price = ownership.latest_buy_price(gpu)
    return Purchase(gpu_usd=ownership.middle_usd(price)) if price else None
