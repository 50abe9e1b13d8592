"""``plan gpus``: what is known about accelerators, as a list or one page."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import click

from hardware_db import catalog
from hardware_db.gpu import Gpu
from hardware_db.offer import Offer
from planner.errors import ExitCode, RequestError
from planner.units import parse_bytes
from tui.cli.shared.options import USD
from tui.render import gpu_facts
from tui.render.listing import render

SORTS = ("memory", "bandwidth", "bf16", "fp32", "price", "release", "name")


def memory_size(text: str) -> int:
    """Bytes; a bare number is gigabytes, as product names count them."""
    return parse_bytes(f"{text}GB" if text.strip().replace(".", "", 1).isdigit() else text)


def cheapest_on_demand(gpus: tuple[Gpu, ...]) -> dict[str, Offer]:
    """The best on-demand offer of each GPU that has one; an undated price only where no dated one is known."""
    found = {}
    for gpu in gpus:
        on_demand = [offer for offer in catalog.offers_for(gpu.id) if not offer.spot]
        if on_demand:
            found[gpu.id] = min(on_demand, key=lambda offer: (offer.as_of is None, offer.usd_per_gpu_hour))
    return found


def _matching(query: str) -> tuple[Gpu, ...]:
    """GPUs of exactly this name, or whose names hold every word of ``query``; one at least, or an error."""
    words = query.lower().replace("-", " ").split()
    exact = [gpu for gpu in catalog.all_gpus() if query.strip().lower() in (gpu.id, gpu.name.lower())]
    if exact:
        return tuple(exact)
    holding = tuple(
        gpu
        for gpu in catalog.all_gpus()
        if all(word in " ".join((gpu.id, gpu.name, *gpu.aliases)).lower().replace("-", " ") for word in words)
    )
    return holding or (catalog.find_gpu(query),)


def _sorted(gpus: tuple[Gpu, ...], key: str, cheapest: dict[str, Offer]) -> list[Gpu]:
    """Largest, fastest and newest first; cheapest and alphabetical first. Unknown comes last."""
    if key == "name":
        return sorted(gpus, key=lambda gpu: gpu.name.lower())
    if key == "price":
        known = [gpu for gpu in gpus if gpu.id in cheapest]
        known.sort(key=lambda gpu: cheapest[gpu.id].usd_per_gpu_hour)
        return known + [gpu for gpu in gpus if gpu.id not in cheapest]
    if key == "release":
        return sorted(gpus, key=lambda gpu: gpu.release or "", reverse=True)
    if key == "memory":
        return sorted(gpus, key=lambda gpu: gpu.memory_bytes, reverse=True)
    if key == "bandwidth":
        return sorted(gpus, key=lambda gpu: gpu.bandwidth_bytes_per_s or 0, reverse=True)
    return sorted(gpus, key=lambda gpu: gpu.dense_flops_per_s.get(key, 0), reverse=True)  # type: ignore[call-overload]


@click.command("gpus")
@click.argument("query", required=False)
@click.option("--vendor", help="NVIDIA, AMD, Intel, Apple, Google or AWS.")
@click.option("--architecture", help="Ampere, Hopper, CDNA… or a part of the name.")
@click.option("--min-memory", type=memory_size, metavar="SIZE", help="80GB, 24GiB, or 80 for 80GB.")
@click.option("--max-price", type=USD, metavar="USD", help="USD per GPU-hour, on demand.")
@click.option("--cuda-only", is_flag=True, help="NVIDIA GPUs alone.")
@click.option(
    "--sort", type=click.Choice(SORTS, case_sensitive=False), help="Best first. Default: the catalogue's order."
)
@click.option("--limit", type=click.IntRange(min=1), help="Show so many.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def command(
    query: str | None,
    vendor: str | None,
    architecture: str | None,
    min_memory: int | None,
    max_price: Decimal | None,
    cuda_only: bool,
    sort: str | None,
    limit: int | None,
    as_csv: bool,
    as_json: bool,
) -> int:
    """List GPUs, or show all that is known about one: `plan gpus h100-sxm5-80gb`."""
    gpus = _matching(query) if query else catalog.all_gpus()
    cheapest = cheapest_on_demand(gpus)
    if vendor:
        _known(vendor, {gpu.vendor for gpu in catalog.all_gpus()}, "vendor")
        gpus = tuple(gpu for gpu in gpus if gpu.vendor.lower() == vendor.lower())
    if architecture:
        gpus = tuple(gpu for gpu in gpus if architecture.lower() in (gpu.architecture or "").lower())
    if cuda_only:
        gpus = tuple(gpu for gpu in gpus if gpu.is_cuda)
    if min_memory is not None:
        gpus = tuple(gpu for gpu in gpus if gpu.memory_bytes >= min_memory)
    if max_price is not None:
        if not 0 < max_price < Decimal("Infinity"):
            raise RequestError("a price is an amount above zero", hint="--max-price 2.50")
        gpus = tuple(gpu for gpu in gpus if gpu.id in cheapest and cheapest[gpu.id].usd_per_gpu_hour <= max_price)
    shown = _sorted(gpus, sort, cheapest)[:limit] if sort else list(gpus)[:limit]
    if as_json:
        import json

        click.echo(json.dumps([gpu_facts.as_json(gpu, cheapest.get(gpu.id)) for gpu in shown], indent=2))
    elif as_csv:
        click.echo(render(gpu_facts.listing(shown, cheapest), "csv"))
    elif query and len(shown) == 1:
        pages = gpu_facts.page(shown[0], catalog.offers_for(shown[0].id), date.today())
        click.echo("\n\n".join(render(page) for page in pages))
    elif shown:
        click.echo(render(gpu_facts.listing(shown, cheapest)))
    if not shown:
        click.echo("plan: no GPU of the catalogue meets all of this (loosen a filter)", err=True)
        return int(ExitCode.DOES_NOT_FIT)
    return int(ExitCode.OK)


def _known(value: str, known: set[str], what: str) -> None:
    if value.lower() not in {name.lower() for name in known}:
        raise RequestError(f"there is no {what} {value[:40]!r}", hint=f"one of {', '.join(sorted(known))}")
