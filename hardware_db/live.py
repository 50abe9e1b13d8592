"""Prices of today from the clouds' own lists, through gpuhunt (extra ``live``), kept in the user's cache.

gpuhunt publishes what the clouds list and queries some of them directly; see https://github.com/dstackai/gpuhunt.
A row that cannot be right stays in the cache under its reason and is never used to answer.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from statistics import median
from typing import Any

from hardware_db import catalog, offers
from hardware_db.errors import BrokenPriceFileError, LivePricesError, UnknownGpuError
from hardware_db.offer import Offer

OUTLIER_FACTOR = 8
"""A price this many times the median of its GPU, or as small a part of it, is a mistake rather than a bargain."""
_TIMEOUT_S = 30

_PROVIDERS = {"lambdalabs": "lambda", "vastai": "vast.ai"}
"""gpuhunt's names where the dated table writes another."""
_GPU_NAMES = {"RTXPRO6000": "RTX PRO 6000 Blackwell Server", "v5litepod": "v5e"}
_FORMS = (
    (re.compile(r"sxm|hgx", re.I), "SXM"),
    (re.compile(r"pcie", re.I), "PCIe"),
    (re.compile(r"^(aws p[345]|gcp a[23]-|azure standard_nd|oci bm\.gpu|nebius gpu-[hb])", re.I), "SXM"),
    (re.compile(r"^azure standard_nc", re.I), "PCIe"),
    (re.compile(r"^runpod NVIDIA [AH]100 80GB HBM", re.I), "SXM"),
    (re.compile(r"^verda \d+[AHV]100", re.I), "SXM"),
)
"""What an instance's name tells of its GPUs' form, where gpuhunt's GPU name ("H100") does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """What came back: every row to keep, and what was left aside."""

    offers: tuple[Offer, ...]
    unknown_gpus: tuple[tuple[str, int], ...]
    """Names that are in no catalogue, with how many rows carried them."""
    failed_providers: tuple[str, ...]

    @property
    def usable(self) -> tuple[Offer, ...]:
        return tuple(offer for offer in self.offers if offer.quarantined is None)

    @property
    def quarantined(self) -> tuple[Offer, ...]:
        return tuple(offer for offer in self.offers if offer.quarantined is not None)


def refresh(today: date, providers: tuple[str, ...] = ()) -> Refresh:
    """Fetch, judge and store live offers; raises ``LivePricesError`` and leaves the cache alone when it cannot.

    ``providers`` limits what is asked, empty asks everyone. Providers that did not answer keep the rows they had.
    """
    items, failed = _fetch(providers)
    fetched, unknown = _as_offers(items, today)
    if not fetched:
        asked = f" from {', '.join(providers)}" if providers else ""
        raise LivePricesError(f"no price of a known GPU came back{asked}")
    judged = _cheapest_of_each(judge(fetched))
    answered = {offer.provider for offer in judged}
    kept = [offer for offer in _cached() if offer.provider not in answered]
    offers.write(offers.live_path(), [*judged, *kept])
    catalog.forget_offers()
    return Refresh(offers=judged, unknown_gpus=unknown, failed_providers=failed)


def _cached() -> tuple[Offer, ...]:
    with contextlib.suppress(BrokenPriceFileError):
        return offers.read(offers.live_path())
    return ()


@contextlib.contextmanager
def _quiet_and_bounded() -> Iterator[None]:
    """gpuhunt logs every provider it must skip and sets no time limit of its own."""
    logger = logging.getLogger("gpuhunt")
    level, timeout_s = logger.level, socket.getdefaulttimeout()
    logger.setLevel(logging.CRITICAL + 1)
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        yield
    finally:
        logger.setLevel(level)
        socket.setdefaulttimeout(timeout_s)


def _fetch(providers: tuple[str, ...]) -> tuple[list[Any], tuple[str, ...]]:
    """gpuhunt's items with a GPU, and the providers that could not be read."""
    try:
        import gpuhunt
    except ImportError as error:
        raise LivePricesError("live prices need gpuhunt: pip install 'gpu-planner[live]'") from error
    with _quiet_and_bounded():
        gpuhunt.default_catalog.cache_clear()
        try:
            listing = gpuhunt.default_catalog()
        except gpuhunt.GPUHuntError as error:
            raise LivePricesError(f"no price list can be reached ({_innermost(error)})") from error
        items: list[Any] = []
        failed = []
        for provider in [*listing.catalog, *(online.NAME for online in listing.providers)]:
            name = _PROVIDERS.get(provider, provider)
            if providers and name not in providers:
                continue
            try:
                items += listing.query(provider=provider, min_gpu_count=1)
            except Exception:  # a cloud's own client may raise anything, the other clouds still count
                failed.append(name)
    return items, tuple(failed)


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _gpu_id(item: Any) -> tuple[str, str | None]:
    """The catalogue's id, and why the row must not be used when the name leaves the variant open."""
    name = _GPU_NAMES.get(item.gpu_name, item.gpu_name)
    if item.gpu_vendor == "google":
        return catalog.find_gpu(f"TPU {name}").id, None
    wanted = f"{item.provider} {item.instance_name}"
    form = next((form for pattern, form in _FORMS if pattern.search(wanted)), "")
    size = f"{item.gpu_memory:g}GB" if item.gpu_memory else ""
    try:
        match = catalog.match_gpu(f"{name} {form} {size}")
    except UnknownGpuError:
        match = catalog.match_gpu(f"{name} {size}")
    others = [gpu for gpu in match.others if "NVL" not in gpu.name]  # gpuhunt names NVL cards apart
    open_variant = "the variant (PCIe or SXM) is not stated" if others and not form else None
    return match.gpu.id, open_variant


def _as_offers(items: Iterable[Any], today: date) -> tuple[list[Offer], tuple[tuple[str, int], ...]]:
    found = []
    unknown: Counter[str] = Counter()
    for item in items:
        try:
            gpu_id, open_variant = _gpu_id(item)
        except UnknownGpuError:
            unknown[str(item.gpu_name)] += 1
            continue
        found.append(
            Offer(
                provider=_PROVIDERS.get(item.provider, item.provider),
                instance_type=item.instance_name,
                gpu_id=gpu_id,
                num_gpus=item.gpu_count,
                region=item.location,
                usd_per_hour=Decimal(str(item.price)),
                spot=item.spot,
                as_of=today,
                as_of_text=today.isoformat(),
                source="gpuhunt https://github.com/dstackai/gpuhunt",
                note="",
                quarantined=open_variant,
            )
        )
    return found, tuple(unknown.most_common())


def _cheapest_of_each(judged: Iterable[Offer]) -> tuple[Offer, ...]:
    """The cheapest instance of each provider, region, GPU, count and kind, so that the cache stays small."""
    best: dict[tuple[object, ...], Offer] = {}
    for offer in judged:
        key = (offer.provider, offer.region, offer.gpu_id, offer.num_gpus, offer.spot, offer.quarantined)
        if key not in best or offer.usd_per_hour < best[key].usd_per_hour:
            best[key] = offer
    return tuple(best.values())


def judge(found: Iterable[Offer]) -> tuple[Offer, ...]:
    """Put aside, with the reason, what cannot be right: no price, spot above on-demand, far from all peers."""
    found = tuple(found)
    on_demand = {_place(offer): offer.usd_per_hour for offer in found if not offer.spot}
    inverted = {
        _place(offer)
        for offer in found
        if offer.spot and _place(offer) in on_demand and offer.usd_per_hour > on_demand[_place(offer)]
    }
    judged = [replace(offer, quarantined=offer.quarantined or _impossible(offer, inverted)) for offer in found]
    medians = _medians(judged)
    return tuple(
        replace(offer, quarantined=offer.quarantined or _outlying(offer, medians.get((offer.gpu_id, offer.spot))))
        for offer in judged
    )


def _impossible(offer: Offer, inverted: set[tuple[object, ...]]) -> str | None:
    if offer.usd_per_hour <= 0:
        return "no price"
    return "spot above on-demand: one of the two is wrong" if _place(offer) in inverted else None


def _place(offer: Offer) -> tuple[object, ...]:
    return offer.provider, offer.region, offer.gpu_id, offer.num_gpus, offer.instance_type


def _medians(found: Iterable[Offer]) -> dict[tuple[str, bool], Decimal]:
    """Median USD per GPU-hour by GPU and kind, over the new offers and the dated table; three prices at least."""
    prices: dict[tuple[str, bool], list[Decimal]] = {}
    for offer in (*found, *offers.read(catalog.DATA / "offers.csv")):
        if offer.quarantined is None:
            prices.setdefault((offer.gpu_id, offer.spot), []).append(offer.usd_per_gpu_hour)
    return {key: median(values) for key, values in prices.items() if len(values) >= 3}


def _outlying(offer: Offer, usual: Decimal | None) -> str | None:
    price = offer.usd_per_gpu_hour
    if usual is None or usual / OUTLIER_FACTOR <= price <= usual * OUTLIER_FACTOR:
        return None
    return f"{OUTLIER_FACTOR}x away from the median of {usual:.2f} USD per GPU-hour"
