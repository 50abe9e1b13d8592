"""The GPUs and the offers that are known: load once, find by any usual name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardware_db import offers
from hardware_db.errors import UnknownGpuError
from hardware_db.gpu import BuyPrice, Gpu, Interconnect
from hardware_db.offer import Offer

if TYPE_CHECKING:
    from hardware_db.naming import Entry

__all__ = [
    "DATA", "GpuMatch", "UnknownGpuError", "all_gpus", "all_offers",
    "find_gpu", "forget_offers", "match_gpu", "offers_for", "price_problems",
]  # fmt: skip

DATA = Path(__file__).parent / "data"

_LONGEST_NAME = 100
_SPEC_FIELDS = (
    "architecture", "compute_capability", "release", "memory_gb", "memory_type",
    "bandwidth_bytes_per_s", "tdp_w", "form_factor",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMatch:
    """What a name was taken for, and what else it could have meant."""

    gpu: Gpu
    others: tuple[Gpu, ...]


def _fact_sources(row: Mapping[str, Any], sources: list[str]) -> dict[str, str]:
    """What backs each known fact. The file names it by group: ``spec``, ``tensor``, or a single field."""
    given = {field: "; ".join(sources[index] for index in used) for field, used in row["sources"].items()}
    spec, tensor = given.pop("spec"), given.pop("tensor", None)
    found = {field: spec for field in _SPEC_FIELDS if field in row}
    if "pcie_generation" in row:
        found["pcie"] = spec
    for dtype in row["dense_flops_per_s"]:
        found[dtype] = spec if dtype == "fp32" or tensor is None else tensor
    return found | given


def _gpu(row: Mapping[str, Any], sources: list[str]) -> Gpu:
    capability = row.get("compute_capability")
    return Gpu(
        id=row["id"],
        name=row["name"],
        aliases=tuple(row.get("aliases", ())),
        vendor=row["vendor"],
        architecture=row.get("architecture"),
        compute_capability=(capability[0], capability[1]) if capability else None,
        is_cuda=row["is_cuda"],
        release=row.get("release"),
        memory_gb=row["memory_gb"],
        memory_bytes=row["memory_bytes"],
        memory_bytes_derived=row.get("memory_bytes_derived", False),
        memory_type=row.get("memory_type"),
        bandwidth_bytes_per_s=row.get("bandwidth_bytes_per_s"),
        dense_flops_per_s=row["dense_flops_per_s"],
        supports_bf16=row.get("supports_bf16"),
        interconnect=Interconnect(
            nvlink_bytes_per_s=row.get("nvlink_bytes_per_s"),
            pcie_generation=row.get("pcie_generation"),
            pcie_lanes=row.get("pcie_lanes"),
        ),
        tdp_w=row.get("tdp_w"),
        form_factor=row.get("form_factor"),
        buy_prices=tuple(
            BuyPrice(
                low_usd=Decimal(price["low_usd"]),
                high_usd=Decimal(price["high_usd"]),
                date=price["date"],
                condition=price["condition"],
                unit=price["unit"],
                source="; ".join(sources[index] for index in price["source"]),
            )
            for price in row.get("buy_prices", ())
        ),
        sources=_fact_sources(row, sources),
        unverified=frozenset(row.get("unverified", ())),
        notes=row.get("notes", ""),
    )


@cache
def all_gpus() -> tuple[Gpu, ...]:
    """Every accelerator of the catalogue; of a family the variant most often met comes first."""
    document = json.loads((DATA / "gpus.json").read_text(encoding="utf-8"))
    sources = [" ".join(title_and_url) for title_and_url in document["sources"]]
    return tuple(_gpu(row, sources) for row in document["gpus"])


@cache
def _by_id() -> dict[str, Gpu]:
    return {gpu.id: gpu for gpu in all_gpus()}


@cache
def _entries() -> tuple[Entry, ...]:
    from hardware_db.naming import Entry

    return tuple(
        Entry(
            id=gpu.id,
            names=(gpu.name, *gpu.aliases),
            memory_gb=gpu.memory_gb,
            memory_kind=gpu.memory_type.split()[0].lower() if gpu.memory_type else None,
        )
        for gpu in all_gpus()
    )


@cache
def match_gpu(name: str) -> GpuMatch:
    """The GPU ``name`` means and its alternatives; raises ``UnknownGpuError`` with near names."""
    if len(name) > _LONGEST_NAME:
        raise UnknownGpuError(name, ())
    gpus = _by_id()
    exact = gpus.get(name.strip().lower())
    if exact is not None:
        return GpuMatch(gpu=exact, others=())
    from hardware_db import naming

    ids = naming.match(name, _entries())
    if not ids:
        raise UnknownGpuError(name, naming.suggestions(name, _entries()))
    return GpuMatch(gpu=gpus[ids[0]], others=tuple(gpus[other] for other in ids[1:]))


def find_gpu(name: str) -> Gpu:
    """The GPU of this id, product name or usual spelling ("A100 80GB", "h100", "Tesla T4 (14.748 GiB)")."""
    return match_gpu(name).gpu


@cache
def _price_table() -> offers.PriceTable:
    return offers.merged(DATA / "offers.csv")


def all_offers() -> tuple[Offer, ...]:
    """Every price, usable or quarantined: the dated table, refreshed prices and the user's own."""
    return _price_table().offers


def price_problems() -> tuple[str, ...]:
    """What is wrong with the user's price files, one line each; the rest of the prices stays in force."""
    return _price_table().problems


@cache
def _usable_by_gpu() -> dict[str, tuple[Offer, ...]]:
    grouped: dict[str, list[Offer]] = {}
    for offer in all_offers():
        if offer.quarantined is None:
            grouped.setdefault(offer.gpu_id, []).append(offer)
    return {
        gpu_id: tuple(sorted(found, key=lambda offer: (offer.usd_per_gpu_hour, offer.num_gpus)))
        for gpu_id, found in grouped.items()
    }


def offers_for(gpu_id: str) -> tuple[Offer, ...]:
    """Usable offers of one GPU, cheapest per GPU-hour first."""
    return _usable_by_gpu().get(gpu_id, ())


def forget_offers() -> None:
    """Read the price files anew on the next question (after a refresh or an added offer)."""
    _price_table.cache_clear()
    _usable_by_gpu.cache_clear()
