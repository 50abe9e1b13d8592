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
from hardware_db.errors import LivePricesError, UnknownGpuError
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
    (re.compile(r"^azure standard_nc\d+s?_v3", re.I), "PCIe"),
    (re.compile(r"^azure standard_nc.*a100", re.I), "PCIe"),
    (re.compile(r"^runpod NVIDIA [AH]100 80GB HBM", re.I), "SXM"),
    (re.compile(r"^(verda|datacrunch) \d+[AHV]100\b.*S?", re.I), "SXM"),
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


def refresh(today: date) -> Refresh:
    """Fetch, judge and store live offers; raises ``LivePricesError`` and leaves the cache alone when it cannot.

    Providers that fail this time keep the rows they had.
    """
    items, failed = _fetch()
    fetched, unknown = _as_offers(items, today)
    if not fetched:
        raise LivePricesError("gpuhunt returned no offer of a known GPU")
    kept = [offer for offer in _cached() if offer.provider in failed]
    judged = judge(_cheapest_of_each(fetched))
    offers.write(offers.live_path(), [*judged, *kept])
    catalog.forget_offers()
    return Refresh(offers=judged, unknown_gpus=unknown, failed_providers=failed)


def _cached() -> tuple[Offer, ...]:
    with contextlib.suppress(OSError, ValueError):
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


def _fetch() -> tuple[list[Any], tuple[str, ...]]:
    """gpuhunt's items with a GPU, and the providers that could not be read."""
    try:
        import gpuhunt
        from gpuhunt._internal import default as gpuhunt_default
    except ImportError as error:
        raise LivePricesError("live prices need gpuhunt: pip install 'gpu-planner[live]'") from error
    with _quiet_and_bounded():
        gpuhunt_default.default_catalog.cache_clear()
        try:
            listing = gpuhunt.default_catalog()
        except gpuhunt.GPUHuntError as error:
            raise LivePricesError(f"no price list can be reached ({error.__cause__ or error})") from error
        items: list[Any] = []
        failed = []
        for provider in [*listing.catalog, *(online.NAME for online in listing.providers)]:
            try:
                items += listing.query(provider=provider, min_gpu_count=1)
            except Exception:  # a provider's own client may raise anything; the others still count
                failed.append(_PROVIDERS.get(provider, provider))
    return items, tuple(failed)


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
    open_variant = "the variant (PCIe or SXM) is not stated" if match.others and not form else None
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


def _cheapest_of_each(found: Iterable[Offer]) -> list[Offer]:
    """The cheapest instance of each provider, region, GPU, count and kind, so that the cache stays small."""
    best: dict[tuple[object, ...], Offer] = {}
    for offer in found:
        key = (offer.provider, offer.region, offer.gpu_id, offer.num_gpus, offer.spot, offer.quarantined is None)
        if offer.usd_per_hour > 0 and (key not in best or offer.usd_per_hour < best[key].usd_per_hour):
            best[key] = offer
        elif offer.usd_per_hour <= 0:
            best[(*key, offer.instance_type)] = offer
    return list(best.values())


def judge(found: Iterable[Offer]) -> tuple[Offer, ...]:
    """Put aside, with the reason, what cannot be right: no price, spot above on-demand, far from all peers."""
    found = tuple(found)
    on_demand = {_place(offer): offer.usd_per_hour for offer in found if not offer.spot}
    inverted = {
        _place(offer)
        for offer in found
        if offer.spot and _place(offer) in on_demand and offer.usd_per_hour > on_demand[_place(offer)]
    }
    judged = []
    for offer in found:
        reason = offer.quarantined
        if offer.usd_per_hour <= 0:
            reason = "no price"
        elif _place(offer) in inverted:
            reason = "spot above on-demand: one of the two is wrong"
        judged.append(replace(offer, quarantined=reason))
    medians = _medians(judged)
    return tuple(_without_outliers(offer, medians.get((offer.gpu_id, offer.spot))) for offer in judged)


def _place(offer: Offer) -> tuple[object, ...]:
    return offer.provider, offer.region, offer.gpu_id, offer.num_gpus, offer.instance_type


def _medians(found: Iterable[Offer]) -> dict[tuple[str, bool], Decimal]:
    """Median USD per GPU-hour by GPU and kind over what is new and the dated table; three prices at least."""
    prices: dict[tuple[str, bool], list[Decimal]] = {}
    for offer in (*found, *offers.read(catalog.DATA / "offers.csv")):
        if offer.quarantined is None:
            prices.setdefault((offer.gpu_id, offer.spot), []).append(offer.usd_per_gpu_hour)
    return {key: median(values) for key, values in prices.items() if len(values) >= 3}


def _without_outliers(offer: Offer, usual: Decimal | None) -> Offer:
    if offer.quarantined is not None or usual is None:
        return offer
    price = offer.usd_per_gpu_hour
    if price > OUTLIER_FACTOR * usual or price * OUTLIER_FACTOR < usual:
        reason = f"{price:.2f} USD per GPU-hour is {OUTLIER_FACTOR}x away from the median of {usual:.2f}"
        return replace(offer, quarantined=reason)
    return offer
