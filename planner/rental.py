"""Renting a number of GPUs: the cheapest dated offer that supplies them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from hardware_db.offer import Offer
from planner.request import HardwareWish

STALE_AFTER_DAYS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Rental:
    """``num_instances`` of one offer."""

    offer: Offer
    num_instances: int

    @property
    def num_gpus(self) -> int:
        """GPUs paid for, which may be more than the workload uses."""
        return self.offer.num_gpus * self.num_instances

    @property
    def usd_per_hour(self) -> Decimal:
        return self.offer.usd_per_hour * self.num_instances


def cheapest_rental(offers: Iterable[Offer], num_gpus: int, wish: HardwareWish) -> Rental | None:
    """The cheapest way to rent ``num_gpus`` GPUs of one kind from one provider.

    At each provider the machine that holds them all is taken; where it lists none so large, several of its largest
    are (providers that quote prices per GPU list single GPUs only). None where nothing is offered.
    """
    candidates = [offer for offer in offers if is_wished(offer, wish)]
    largest: dict[str, int] = {}
    for offer in candidates:
        largest[offer.provider] = max(largest.get(offer.provider, 0), offer.num_gpus)
    rentals = (
        Rental(offer=offer, num_instances=-(-num_gpus // offer.num_gpus))
        for offer in candidates
        if offer.num_gpus >= min(num_gpus, largest[offer.provider])
    )
    return min(rentals, key=lambda rental: (rental.usd_per_hour, rental.num_instances), default=None)


def is_wished(offer: Offer, wish: HardwareWish) -> bool:
    """Whether an offer may be used: sound, on demand unless spot is wished, of a wished provider and region."""
    if offer.quarantined is not None or (offer.spot and not wish.spot):
        return False
    if wish.providers and not any(name.lower() in offer.provider.lower() for name in wish.providers):
        return False
    return not wish.regions or any(name.lower() in offer.region.lower() for name in wish.regions)


def age_days(offer: Offer, today: date | None = None) -> int | None:
    """Days since the price was read; None where the source carries no date."""
    return None if offer.as_of is None else ((today or date.today()) - offer.as_of).days


def is_stale(offer: Offer, today: date | None = None) -> bool:
    """Undated, or read more than ``STALE_AFTER_DAYS`` ago."""
    age = age_days(offer, today)
    return age is None or age > STALE_AFTER_DAYS
