"""``plan cost``: a job's price by every way of paying for it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import click

from hardware_db import catalog
from hardware_db.gpu import Gpu
from planner.cost import Terms, job_cost
from planner.economics import assumptions, managed, ownership
from planner.economics.energy import Site
from planner.economics.ownership import Purchase
from planner.economics.spot import SpotRisk
from planner.errors import ExitCode, RequestError, UnsupportedError
from planner.request import HardwareWish
from tui.cli.options import COUNT, FLOAT, INT, USD
from tui.render import costs
from tui.render.listing import render


@click.command("cost")
@click.option("--gpu", help="Any name plan gpus knows; without one, managed services alone.")
@click.option("--num-gpus", type=INT, default=1, show_default=True, help="GPUs the job runs on.")
@click.option("--hours", type=FLOAT, help="Hours of undisturbed work.")
@click.option("--tokens", type=COUNT, help="Tokens of the data set, 2.4M.")
@click.option("--epochs", type=INT, default=1, show_default=True, help="Passes over the data set.")
@click.option("--tokens-per-s", type=FLOAT, help="Speed of the whole job, instead of --hours.")
@click.option("--params", type=COUNT, help="Size of the model, 8B: asks managed services too.")
@click.option("--provider", "providers", multiple=True, help="Rent from this provider alone; may be repeated.")
@click.option("--region", "regions", multiple=True, help="Rent in this region alone; may be repeated.")
@click.option(
    "--interruptions-per-day",
    type=USD,
    metavar="CHANCE",
    help="Chance that a spot instance is taken within a day.",
)
@click.option("--restart-minutes", type=USD, metavar="MINUTES", help="Until work goes on after an interruption.")
@click.option("--checkpoint-minutes", type=USD, metavar="MINUTES", help="One checkpoint stops the work so long.")
@click.option("--buy-usd", type=USD, metavar="USD", help="Price to buy one GPU.")
@click.option("--host-usd", type=USD, metavar="USD", help="Price of the machine around the GPUs.")
@click.option("--lifetime-years", type=USD, metavar="YEARS", help="How long bought GPUs are used.")
@click.option("--resale", type=USD, metavar="SHARE", help="Part of the price that selling brings back.")
@click.option("--utilisation", type=USD, metavar="SHARE", help="Part of its life a bought GPU computes.")
@click.option("--upkeep", type=USD, metavar="SHARE", help="Repair and service per year, as a part of the price.")
@click.option("--usd-per-kwh", type=USD, metavar="USD", help="Price of electricity.")
@click.option("--pue", type=USD, metavar="FACTOR", help="Site power per machine power.")
@click.option("--host-power", type=USD, metavar="FACTOR", help="Machine power per TDP of its GPUs.")
@click.option("--grid-g-per-kwh", type=USD, metavar="GRAMS", help="Carbon intensity of the grid.")
@click.option("--explain", is_flag=True, help="Every assumption with its source and doubt.")
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")
def command(
    gpu: str | None,
    num_gpus: int,
    hours: float | None,
    tokens: int | None,
    epochs: int,
    tokens_per_s: float | None,
    params: int | None,
    providers: tuple[str, ...],
    regions: tuple[str, ...],
    explain: bool,
    as_json: bool,
    **given: Decimal | None,
) -> int:
    """What a job costs rented, on spot, on GPUs of your own and at a managed service, with its energy.

    `plan cost --gpu h100 --num-gpus 8 --hours 24`, `plan cost --params 8B --tokens 2.4M --epochs 3`
    """
    if epochs < 1 or (tokens is not None and tokens < 1):
        raise RequestError("tokens and epochs are at least 1", hint="--tokens 2.4M --epochs 3")
    trained = tokens * epochs if tokens else None
    if gpu is None:
        return _managed_alone(params, trained, as_json)
    found = catalog.match_gpu(gpu)
    if found.others:
        click.echo(f"plan: {gpu} is taken as {found.gpu.name}", err=True)
    terms = _terms(found.gpu, HardwareWish(providers=providers, regions=regions), given)
    cost = job_cost(
        found.gpu,
        catalog.offers_for(found.gpu.id),
        num_gpus=num_gpus,
        hours=_hours(hours, trained, tokens_per_s),
        terms=terms,
        num_tokens=trained,
        num_params=params,
    )
    if as_json:
        import json

        click.echo(json.dumps(costs.as_json(cost, date.today()), indent=2))
    else:
        click.echo(render(costs.listing(cost, terms, date.today())))
        used = costs.assumed(terms)
        if explain:
            click.echo("\n".join(costs.described(assumption) for assumption in used))
        elif used:
            click.echo(costs.summary(used))
    return int(ExitCode.OK)


def _hours(hours: float | None, trained: int | None, tokens_per_s: float | None) -> float:
    if hours is not None:
        return hours
    if trained is None or tokens_per_s is None:
        raise RequestError(
            "how long the job takes is missing", hint="--hours 24, or --tokens 10M --tokens-per-s 3000"
        )
    if not 0 < tokens_per_s < float("inf"):
        raise RequestError("a speed is above zero", hint="--tokens-per-s 3000")
    return trained / tokens_per_s / 3600


def _managed_alone(params: int | None, trained: int | None, as_json: bool) -> int:
    if params is None or trained is None:
        raise RequestError("name a GPU, or a model size and its tokens", hint="--gpu h100 --hours 24")
    found = managed.quotes(params, trained)
    if not found:
        raise UnsupportedError("no managed price is known for this size", hint="name a GPU with --gpu")
    if as_json:
        import json

        click.echo(json.dumps({"num_tokens": trained, "managed": costs.managed_json(found)}, indent=2))
    else:
        click.echo(render(costs.managed_listing(found)))
    return int(ExitCode.OK)


def _terms(gpu: Gpu, wish: HardwareWish, given: dict[str, Decimal | None]) -> Terms:
    def value(name: str, default: Decimal) -> Decimal:
        found = given.get(name)
        return default if found is None else found

    risk = SpotRisk(
        interruptions_per_day=value("interruptions_per_day", assumptions.INTERRUPTIONS_PER_DAY.value),
        restart_minutes=value("restart_minutes", assumptions.RESTART_MINUTES.value),
        checkpoint_minutes=value("checkpoint_minutes", assumptions.CHECKPOINT_MINUTES.value),
    )
    site = Site(
        pue=value("pue", assumptions.PUE.value),
        host_power=value("host_power", assumptions.HOST_POWER.value),
        usd_per_kwh=value("usd_per_kwh", assumptions.USD_PER_KWH.value),
        grid_g_per_kwh=value("grid_g_per_kwh", assumptions.GRID_G_PER_KWH.value),
    )
    latest = ownership.latest_buy_price(gpu)
    gpu_usd = given.get("buy_usd") or (ownership.middle_usd(latest) if latest else None)
    purchase = None
    if gpu_usd is not None:
        purchase = Purchase(
            gpu_usd=gpu_usd,
            host_usd=value("host_usd", Decimal(0)),
            lifetime_years=value("lifetime_years", assumptions.LIFETIME_YEARS.value),
            resale_share=value("resale", Decimal(0)),
            utilisation=value("utilisation", Decimal(1)),
            upkeep_share_per_year=value("upkeep", Decimal(0)),
        )
    return Terms(wish=wish, risk=risk, site=site, purchase=purchase)
