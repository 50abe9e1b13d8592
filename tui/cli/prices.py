"""``plan prices``: what renting costs and how old each price is; refresh them, add your own."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

import click

from hardware_db import catalog, offers
from hardware_db.errors import BrokenPriceFileError, LivePricesError, UnknownGpuError
from hardware_db.offer import Offer
from planner.errors import EnvironmentProblemError, ExitCode, RequestError, UnknownNameError
from planner.rental import STALE_AFTER_DAYS, is_stale
from tui.render import prices
from tui.render.listing import render

DEAREST_USD_PER_HOUR = 10_000_000
"""The most that is taken for the price of one rental: 100 USD for each of 100,000 GPUs."""


class PricesGroup(click.Group):
    """``plan prices h100`` is ``plan prices list h100``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] not in (["-h"], ["--help"]) and (not args or args[0] not in self.commands):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("prices", cls=PricesGroup)
def command() -> None:
    """What renting costs and how old each price is: `plan prices h100 --spot`.

    The dated table comes with the product; `refresh` adds today's prices, `add` your own contracts and machines.
    """


def _say_problems() -> None:
    for problem in catalog.price_problems():
        click.echo(f"plan: {problem}", err=True)


@command.command("list")
@click.argument("gpu", required=False)
@click.option("--provider", help="A provider, or a part of its name.")
@click.option("--region", help="A region, or a part of its name.")
@click.option("--spot/--on-demand", default=None, help="One kind alone.")
@click.option("--num-gpus", type=click.IntRange(min=1), help="Instances of exactly so many GPUs.")
@click.option("--quarantined", is_flag=True, help="Rows that are not used, and why.")
@click.option("--limit", type=click.IntRange(min=1), help="Show so many.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def list_prices(
    gpu: str | None,
    provider: str | None,
    region: str | None,
    spot: bool | None,
    num_gpus: int | None,
    quarantined: bool,
    limit: int | None,
    as_csv: bool,
    as_json: bool,
) -> int:
    """Offers, the cheapest GPU-hour first, each with its date and age."""
    _say_problems()
    today = date.today()
    gpu_ids = _variants(gpu) if gpu else ()
    found = [
        offer
        for offer in catalog.all_offers()
        if (offer.quarantined is not None) == quarantined
        and (not gpu_ids or offer.gpu_id in gpu_ids)
        and (provider is None or provider.lower() in offer.provider.lower())
        and (region is None or region.lower() in offer.region.lower())
        and (spot is None or offer.spot == spot)
        and (num_gpus is None or offer.num_gpus == num_gpus)
    ]
    shown = sorted(found, key=lambda offer: (offer.usd_per_gpu_hour, offer.num_gpus))[:limit]
    names = {each.id: each.name for each in catalog.all_gpus()} if len(gpu_ids) != 1 else {}
    if as_json:
        import json

        click.echo(json.dumps([prices.as_json(offer, today) for offer in shown], indent=2))
    elif shown:
        table = prices.listing(shown, today, gpu_names=names, reasons=quarantined)
        click.echo(render(table, "csv" if as_csv else "auto"))
    stale = sum(is_stale(offer, today) for offer in shown)
    if stale and not quarantined:
        click.echo(
            f"plan: {stale} of {len(shown)} prices are undated or older than {STALE_AFTER_DAYS} days"
            " (plan prices refresh)",
            err=True,
        )
    if not shown:
        click.echo("plan: no price is known for this (plan prices refresh, or loosen a filter)", err=True)
        return int(ExitCode.DOES_NOT_FIT)
    return int(ExitCode.OK)


def _variants(name: str) -> tuple[str, ...]:
    """Every variant an open name may mean: "h100" is SXM5, PCIe and NVL."""
    match = catalog.match_gpu(name)
    return (match.gpu.id, *(other.id for other in match.others))


@command.command
@click.option("--provider", "providers", multiple=True, help="Ask this provider alone; may be repeated.")
def refresh(providers: tuple[str, ...]) -> int:
    """Fetch today's prices through gpuhunt (extra `live`) into your cache."""
    from hardware_db import live

    try:
        done = live.refresh(date.today(), providers)
    except LivePricesError as error:
        raise EnvironmentProblemError(str(error), hint="the prices at hand stay in force") from error
    except OSError as error:
        raise EnvironmentProblemError(f"cannot write {offers.live_path()}: {error.strerror}") from error
    names = {gpu.id: gpu.name for gpu in catalog.all_gpus()}
    click.echo(f"{len(done.usable)} offers of {len({offer.gpu_id for offer in done.usable})} GPUs")
    click.echo(f"providers: {', '.join(sorted({offer.provider for offer in done.usable}))}")
    if done.failed_providers:
        click.echo(f"plan: no answer from {', '.join(done.failed_providers)}, their old prices stay", err=True)
    for name, count in done.unknown_gpus:
        click.echo(f"plan: {name} is in no catalogue, {count} offers left out", err=True)
    if done.quarantined:
        table = prices.listing(done.quarantined, date.today(), gpu_names=names, title="Not used", reasons=True)
        click.echo(render(table))
    return int(ExitCode.OK)


def _money(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise RequestError(f"{text[:40]!r} is not an amount of USD", hint="write 12.50")
    if amount > DEAREST_USD_PER_HOUR:
        raise RequestError(
            f"{text[:40]} USD per hour is beyond anything that exists", hint=f"at most {DEAREST_USD_PER_HOUR:,}"
        )
    return amount


@command.command
@click.option("--gpu", required=True, help="Any name plan gpus knows.")
@click.option(
    "--num-gpus", type=click.IntRange(1, 100_000), default=1, show_default=True, help="GPUs of one instance."
)
@click.option("--usd-per-hour", type=_money, metavar="USD", help="For the whole instance.")
@click.option("--per-gpu", is_flag=True, help="The price is of one GPU, rented as many at a time as wanted.")
@click.option("--owned", is_flag=True, help="A machine of your own: 0 USD per hour unless you say otherwise.")
@click.option("--name", "provider", required=True, help="What to call it: your cloud contract or your machine.")
@click.option("--region", default="", help="Where it is.")
@click.option("--spot", is_flag=True, help="It may be taken away.")
@click.option("--note", default="", help="Anything to remember.")
def add(
    gpu: str,
    num_gpus: int,
    usd_per_hour: Decimal | None,
    per_gpu: bool,
    owned: bool,
    provider: str,
    region: str,
    spot: bool,
    note: str,
) -> int:
    """Add a contract or a machine of yours; it is used from now on.

    An entry of the same name for the same machine is replaced.
    """
    if usd_per_hour is None and not owned:
        raise RequestError("a price is missing", hint="--usd-per-hour 12.50, or --owned for a machine of yours")
    if usd_per_hour == 0 and not owned:
        raise RequestError("a contract for 0 USD is hard to believe", hint="--owned for a machine of yours")
    if per_gpu and num_gpus != 1:
        raise RequestError("--per-gpu quotes one GPU", hint="leave out --num-gpus")
    if not provider.strip():
        raise RequestError("the name is empty", hint="--name my-lab")
    match = catalog.match_gpu(gpu)
    offer = Offer(
        provider=provider.strip(),
        instance_type="owned" if owned else "contract",
        gpu_id=match.gpu.id,
        num_gpus=num_gpus,
        region=region.strip(),
        usd_per_hour=usd_per_hour or Decimal(0),
        spot=spot,
        per_gpu=per_gpu,
        as_of=date.today(),
        as_of_text=date.today().isoformat(),
        source="entered by the user",
        note=note.strip(),
        quarantined=None,
    )
    own = _own()
    kept = [old for old in own if _slot(old) != _slot(offer)]
    _replace_own([*kept, offer])
    if match.others:
        others = ", ".join(other.name for other in match.others)
        click.echo(f"plan: {gpu} is taken as {match.gpu.name} (also: {others})", err=True)
    replaced = ", in place of what was kept under that name" if len(kept) < len(own) else ""
    click.echo(f"{offer.provider}: {num_gpus}x {match.gpu.name} at {offer.usd_per_hour:f} USD/h{replaced}")
    return int(ExitCode.OK)


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
def import_file(file: Path) -> int:
    """Add every row of a CSV file.

    Columns as `plan prices export` writes them; provider, gpu_id (any GPU name), num_gpus, usd_per_hour suffice.
    """
    if not file.is_file():
        raise RequestError(f"there is no file {str(file)!r}")
    try:
        rows = offers.read(file)
    except BrokenPriceFileError as error:
        raise RequestError(str(error), hint="nothing was added") from error
    rows = tuple(replace(offer, gpu_id=_known_gpu(offer.gpu_id, file)) for offer in rows)
    slots = {_slot(offer) for offer in rows}
    _replace_own([*(old for old in _own() if _slot(old) not in slots), *rows])
    click.echo(f"{len(rows)} prices added")
    return int(ExitCode.OK)


def _known_gpu(name: str, file: Path) -> str:
    try:
        return catalog.find_gpu(name).id
    except UnknownGpuError as error:
        near = f"did you mean {' or '.join(error.suggestions)}?" if error.suggestions else "see plan gpus"
        raise UnknownNameError(
            f"{file.name}: there is no GPU {name[:40]!r}, nothing was added", hint=near
        ) from error


@command.command
def export() -> int:
    """Your own prices as CSV, for `plan prices import` elsewhere."""
    sys.stdout.write(offers.text(_own()))
    return int(ExitCode.OK)


@command.command
@click.argument("name")
def remove(name: str) -> int:
    """Remove your own prices of this name."""
    before = _own()
    after = [offer for offer in before if offer.provider != name]
    if len(after) == len(before):
        known = ", ".join(sorted({offer.provider for offer in before}))
        raise UnknownNameError(
            f"you have no price named {name[:40]!r}", hint=f"you have {known}" if known else None
        )
    _replace_own(after)
    click.echo(f"{len(before) - len(after)} prices of {name} removed")
    return int(ExitCode.OK)


def _slot(offer: Offer) -> tuple[object, ...]:
    """Two own offers that agree here are one offer with a new price."""
    return offer.provider, offer.gpu_id, offer.num_gpus, offer.region, offer.spot


def _own() -> tuple[Offer, ...]:
    try:
        return offers.own()
    except BrokenPriceFileError as error:
        raise RequestError(str(error), hint=f"mend or remove {offers.own_path()}") from error


def _replace_own(found: list[Offer]) -> None:
    try:
        offers.write(offers.own_path(), found)
    except OSError as error:
        raise EnvironmentProblemError(f"cannot write {offers.own_path()}: {error.strerror}") from error
    catalog.forget_offers()
