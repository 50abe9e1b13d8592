"""GPUs as listings, as one page of facts with their sources, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from hardware_db.gpu import Gpu
from hardware_db.offer import Offer
from planner.units import format_bandwidth, format_flops, format_gib
from tui.render import prices
from tui.render.listing import Column, Listing

_COLUMNS = (
    Column(title="GPU"),
    Column(title="memory", right=True),
    Column(title="bandwidth", right=True),
    Column(title="bf16 TFLOP/s", right=True),
    Column(title="fp32 TFLOP/s", right=True, optional=True),
    Column(title="TDP W", right=True, optional=True),
    Column(title="release", optional=True),
    Column(title="USD/h", right=True),
    Column(title="price as of", optional=True),
)
_UNKNOWN = "-"
_MARKS = "~ derived or confirmed by no source; USD/h is the cheapest on-demand GPU-hour, dated prices first"


def _marked(text: str, doubtful: bool) -> str:
    return f"{text}~" if doubtful else text


def listing(gpus: Sequence[Gpu], cheapest: dict[str, Offer]) -> Listing:
    """One line per GPU; ``cheapest`` is the best on-demand offer by GPU id."""
    return Listing(columns=_COLUMNS, rows=tuple(_row(gpu, cheapest.get(gpu.id)) for gpu in gpus), notes=(_MARKS,))


def _row(gpu: Gpu, offer: Offer | None) -> tuple[str, ...]:
    def rate(dtype: str) -> str:
        flops = gpu.dense_flops_per_s.get(dtype)  # type: ignore[call-overload]
        return _marked(format_flops(flops), dtype in gpu.unverified) if flops else _UNKNOWN

    memory_doubtful = gpu.memory_bytes_derived or "memory_bytes" in gpu.unverified
    return (
        gpu.name,
        _marked(format_gib(gpu.memory_bytes), memory_doubtful),
        format_bandwidth(gpu.bandwidth_bytes_per_s) if gpu.bandwidth_bytes_per_s else _UNKNOWN,
        rate("bf16"),
        rate("fp32"),
        str(gpu.tdp_w) if gpu.tdp_w else _UNKNOWN,
        _marked(gpu.release, "release" in gpu.unverified) if gpu.release else _UNKNOWN,
        f"{offer.usd_per_gpu_hour:.2f}" if offer else _UNKNOWN,
        prices.when(offer) if offer else _UNKNOWN,
    )


def _facts(gpu: Gpu) -> Iterable[tuple[str, str, str]]:
    """(field as in ``Gpu.sources``, what it is called, value) of every known fact."""
    yield "memory_bytes", "memory", f"{format_gib(gpu.memory_bytes)} ({gpu.memory_bytes:,} bytes)"
    yield "memory_gb", "sold as", f"{gpu.memory_gb:g} GB"
    yield "memory_type", "memory type", gpu.memory_type or ""
    if gpu.bandwidth_bytes_per_s:
        yield "bandwidth_bytes_per_s", "bandwidth", format_bandwidth(gpu.bandwidth_bytes_per_s)
    for dtype, flops in gpu.dense_flops_per_s.items():
        yield dtype, f"{dtype}, dense", f"{format_flops(flops)} TFLOP/s"
    if gpu.supports_bf16 is not None:
        yield "supports_bf16", "bf16", "yes" if gpu.supports_bf16 else "no"
    yield "architecture", "architecture", gpu.architecture or ""
    if gpu.compute_capability:
        yield "compute_capability", "compute capability", "{}.{}".format(*gpu.compute_capability)
    links = gpu.interconnect
    if links.nvlink_bytes_per_s:
        yield "nvlink", "NVLink, both directions", format_bandwidth(links.nvlink_bytes_per_s)
    if links.pcie_generation:
        lanes = f" x{links.pcie_lanes}" if links.pcie_lanes else ""
        yield "pcie", "PCIe", f"{links.pcie_generation:g}{lanes}"
    if gpu.tdp_w:
        yield "tdp_w", "TDP", f"{gpu.tdp_w} W"
    yield "form_factor", "form factor", gpu.form_factor or ""
    yield "release", "release", gpu.release or ""


def page(gpu: Gpu, offers: Sequence[Offer], today: date) -> tuple[Listing, ...]:
    """Everything known about one GPU: facts with sources, prices to buy, the cheapest offers."""
    rows = []
    numbers: dict[str, int] = {}
    for field, label, value in _facts(gpu):
        if value:
            doubt = "derived" if field == "memory_bytes" and gpu.memory_bytes_derived else ""
            doubt = doubt or ("unverified" if field in gpu.unverified else "")
            used = [numbers.setdefault(source, len(numbers) + 1) for source in gpu.sources[field].split("; ")]
            rows.append((label, value, doubt, ", ".join(map(str, used))))
    columns = (Column(title="fact"), Column(title="value"), Column(title="doubt"), Column(title="source"))
    notes = tuple(f"{number}  {source}" for source, number in numbers.items())
    if gpu.notes:
        notes = (f"Notes: {gpu.notes}", *notes)
    also = f" (also {', '.join(gpu.aliases)})" if gpu.aliases else ""
    pages = [Listing(title=f"{gpu.name}  [{gpu.id}]{also}", columns=columns, rows=tuple(rows), notes=notes)]
    if gpu.buy_prices:
        pages.append(_buying(gpu))
    if offers:
        pages.append(prices.listing(offers[:8], today, gpu_names={}, title=f"To rent, cheapest of {len(offers)}"))
    return tuple(pages)


def _buying(gpu: Gpu) -> Listing:
    rows = tuple(
        (
            f"{price.low_usd:,}" if price.low_usd == price.high_usd else f"{price.low_usd:,}-{price.high_usd:,}",
            price.date,
            price.condition,
            price.source,
        )
        for price in gpu.buy_prices
    )
    columns = (Column(title="USD", right=True), Column(title="date"), Column(title="what"), Column(title="source"))
    return Listing(title="To buy", columns=columns, rows=rows)


def as_json(gpu: Gpu, cheapest: Offer | None) -> dict[str, Any]:
    """One GPU for ``plan gpus --json``: bytes, bytes/s and FLOP/s are integers, unknown facts are null."""
    return {
        "id": gpu.id,
        "name": gpu.name,
        "aliases": list(gpu.aliases),
        "vendor": gpu.vendor,
        "architecture": gpu.architecture,
        "compute_capability": "{}.{}".format(*gpu.compute_capability) if gpu.compute_capability else None,
        "is_cuda": gpu.is_cuda,
        "release": gpu.release,
        "memory_gb": gpu.memory_gb,
        "memory_bytes": gpu.memory_bytes,
        "memory_bytes_derived": gpu.memory_bytes_derived,
        "memory_type": gpu.memory_type,
        "bandwidth_bytes_per_s": gpu.bandwidth_bytes_per_s,
        "dense_flops_per_s": dict(gpu.dense_flops_per_s),
        "supports_bf16": gpu.supports_bf16,
        "nvlink_bytes_per_s": gpu.interconnect.nvlink_bytes_per_s,
        "pcie_generation": gpu.interconnect.pcie_generation,
        "pcie_lanes": gpu.interconnect.pcie_lanes,
        "tdp_w": gpu.tdp_w,
        "form_factor": gpu.form_factor,
        "usd_per_gpu_hour": float(cheapest.usd_per_gpu_hour) if cheapest else None,
        "price_as_of": (cheapest.as_of.isoformat() if cheapest.as_of else cheapest.as_of_text)
        if cheapest
        else None,
        "provider": cheapest.provider if cheapest else None,
        "buy_prices": [
            {
                "low_usd": float(price.low_usd),
                "high_usd": float(price.high_usd),
                "date": price.date,
                "condition": price.condition,
                "unit": price.unit,
                "source": price.source,
            }
            for price in gpu.buy_prices
        ],
        "sources": dict(gpu.sources),
        "unverified": sorted(gpu.unverified),
        "notes": gpu.notes,
    }
