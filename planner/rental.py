"""Renting a number of GPUs: the cheapest dated offer that supplies them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from hardware_db.offer import Offer
from planner.errors import UnknownNameError
from planner.request import HardwareWish

STALE_AFTER_DAYS = 90
GPUS_PER_MACHINE = 8
"""HGX boards and every large cloud instance of the catalogue hold eight GPUs."""


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
    """The cheapest way to rent ``num_gpus`` linked GPUs of one kind; None where nothing is offered.

    Up to eight GPUs come as one machine that holds them all, or as so many of a list price per GPU; more come as
    whole machines of at least eight. Undated offers are used only where no dated one serves.
    """
    rentals = [
        Rental(offer=offer, num_instances=-(-num_gpus // offer.num_gpus))
        for offer in offers
        if is_wished(offer, wish) and _links(offer, num_gpus)
    ]
    return min(
        rentals,
        key=lambda rental: (rental.offer.as_of is None, rental.usd_per_hour, rental.num_instances),
        default=None,
    )


def check_wish(offers: Iterable[Offer], wish: HardwareWish) -> None:
    """Raises UnknownNameError for a provider or a region that no offer has."""
    known = tuple(offers)
    for what, wished, names in (
        ("provider", wish.providers, {offer.provider for offer in known}),
        ("region", wish.regions, {offer.region for offer in known if offer.region}),
    ):
        for name in wished:
            if any(name.lower() in other.lower() for other in names):
                continue
            from difflib import get_close_matches

            near = get_close_matches(name.lower(), sorted(names), n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"for example {', '.join(sorted(names)[:6])}"
            raise UnknownNameError(f"no price is known of {what} {name[:40]!r}", hint=hint)


def _links(offer: Offer, num_gpus: int) -> bool:
    if num_gpus > GPUS_PER_MACHINE:
        return offer.num_gpus >= GPUS_PER_MACHINE
    return offer.num_gpus >= num_gpus or offer.per_gpu


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
