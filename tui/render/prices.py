"""Offers as a listing with the age of each price, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from hardware_db.offer import Offer
from planner.rental import age_days, is_stale
from tui.render.listing import Column, Listing

_UNKNOWN = "-"


def when(offer: Offer) -> str:
    """The day of a price, or what its source says instead."""
    return offer.as_of.isoformat() if offer.as_of else offer.as_of_text


def age(offer: Offer, today: date) -> str:
    """For example "11 d", "140 d stale", "unknown"."""
    days = age_days(offer, today)
    if days is None:
        return "unknown"
    return f"{days} d stale" if is_stale(offer, today) else f"{days} d"


def listing(
    offers: Sequence[Offer],
    today: date,
    *,
    gpu_names: dict[str, str],
    title: str | None = None,
    reasons: bool = False,
) -> Listing:
    """One line per offer. ``gpu_names`` empty leaves the GPU out; ``reasons`` adds why a row is put aside."""
    columns = [
        Column(title="USD/GPU-h", right=True),
        Column(title="USD/h", right=True, optional=True),
        Column(title="GPUs", right=True),
        Column(title="provider"),
        Column(title="instance", optional=True),
        Column(title="region", optional=True),
        Column(title="kind"),
        Column(title="as of", optional=True),
        Column(title="age"),
    ]
    if gpu_names:
        columns.insert(0, Column(title="GPU"))
    if reasons:
        columns.append(Column(title="not used because"))
    rows = []
    for offer in offers:
        cells = [
            f"{offer.usd_per_gpu_hour:.3f}",
            f"{offer.usd_per_hour:.2f}",
            str(offer.num_gpus),
            offer.provider,
            offer.instance_type or _UNKNOWN,
            offer.region or _UNKNOWN,
            "spot" if offer.spot else "on demand",
            when(offer),
            age(offer, today),
        ]
        if gpu_names:
            cells.insert(0, gpu_names.get(offer.gpu_id, offer.gpu_id))
        if reasons:
            cells.append(offer.quarantined or "")
        rows.append(tuple(cells))
    return Listing(title=title, columns=tuple(columns), rows=tuple(rows))


def as_json(offer: Offer, today: date) -> dict[str, Any]:
    """One offer for ``plan prices --json``; ``usd_per_hour`` buys the whole instance."""
    return {
        "provider": offer.provider,
        "instance_type": offer.instance_type,
        "per_gpu": offer.per_gpu,
        "gpu": offer.gpu_id,
        "num_gpus": offer.num_gpus,
        "region": offer.region,
        "usd_per_hour": float(offer.usd_per_hour),
        "usd_per_gpu_hour": float(offer.usd_per_gpu_hour),
        "spot": offer.spot,
        "as_of": offer.as_of.isoformat() if offer.as_of else None,
        "as_of_text": offer.as_of_text,
        "age_days": age_days(offer, today),
        "stale": is_stale(offer, today),
        "source": offer.source,
        "note": offer.note,
        "quarantined": offer.quarantined,
    }
