"""``plan cost``: a job's price by every way of paying for it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from hardware_db import catalog
from hardware_db.gpu import Gpu
from planner.cost import JobCost, Terms, job_cost
from planner.economics import assumptions, managed, ownership
from planner.economics.energy import Site
from planner.economics.ownership import Purchase
from planner.economics.spot import SpotRisk
from planner.errors import ExitCode, RequestError, UnsupportedError
from planner.request import HardwareWish
from planner.units import SECONDS_PER_HOUR, parse_count
from tui.cli.shared.dataset import dataset_option, with_dataset
from tui.cli.shared.options import FLOAT, USD, RequestCommand, request_options
from tui.cli.shared.output import report_warnings
from tui.render import costs
from tui.render.listing import render

_TERMS = (
    ("--interruptions-per-day", "CHANCE", "Chance that a spot instance is taken away within a day."),
    ("--restart-minutes", "MINUTES", "Until work goes on after an interruption."),
    ("--checkpoint-minutes", "MINUTES", "One checkpoint stops the work so long."),
    ("--buy-usd", "USD", "Price to buy one GPU."),
    ("--host-usd", "USD", "Price of the machine around the GPUs."),
    ("--lifetime-years", "YEARS", "How long bought GPUs are used."),
    ("--resale", "SHARE", "Part of the price that selling brings back."),
    ("--utilisation", "SHARE", "Part of its life a bought GPU computes."),
    ("--upkeep", "SHARE", "Repair and service per year, as a part of the price."),
    ("--usd-per-kwh", "USD", "Price of electricity."),
    ("--pue", "FACTOR", "Site power per machine power."),
    ("--host-power", "FACTOR", "Machine power per TDP of its GPUs."),
    ("--grid-g-per-kwh", "GRAMS", "Carbon intensity of the grid."),
)


def _terms_options(command: Any) -> Any:
    for flag, metavar, text in reversed(_TERMS):
        command = click.option(flag, type=USD, metavar=metavar, help=text)(command)
    return command


@click.command("cost", cls=RequestCommand)
@click.option("--hours", type=FLOAT, help="Hours of undisturbed work.")
@click.option("--tokens-per-s", type=FLOAT, help="Speed of the whole job where no --model is named.")
@_terms_options
@dataset_option
@click.option("--explain", is_flag=True, help="Every assumption with its source and doubt.")
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")
@request_options
def command(
    hours: float | None,
    tokens_per_s: float | None,
    dataset: Path | None,
    explain: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """What a job costs rented, on spot, on GPUs of your own and at a managed service, with its energy.

    `plan cost --model llama-3.1-8b --method qlora --tokens 2.4M --epochs 3`, `plan cost --gpu h100 --hours 24`
    """
    values = with_dataset(values, dataset)
    tokens: int | None = values.pop("tokens")
    typed: int | None = values.pop("epochs")
    epochs = 1 if typed is None else typed
    if epochs < 1 or (tokens is not None and tokens < 1):
        raise RequestError("tokens and epochs are at least 1", hint="--tokens 2.4M --epochs 3")
    trained = tokens * epochs if tokens else None
    if values.get("model"):
        return _of_model(values, trained, hours, explain=explain, as_json=as_json)
    params = parse_count(values["params"]) if values.get("params") else None
    if not values.get("gpu"):
        return _managed_alone(params, trained, as_json)
    length = _hours(hours, trained, tokens_per_s)
    if trained is None and tokens_per_s is not None:
        trained = round(tokens_per_s * length * SECONDS_PER_HOUR)
    priced = []
    for name in values["gpu"]:
        found = catalog.match_gpu(name)
        if found.others:
            report_warnings([f"{name} is taken as {found.gpu.name}"])
        terms = _terms(found.gpu, values)
        cost = _priced(found.gpu, _num_gpus(values), length, terms, trained, params)
        priced.append((cost, terms, None))
    return _show(priced, explain=explain, as_json=as_json)


def _of_model(
    values: dict[str, Any], trained: int | None, hours: float | None, *, explain: bool, as_json: bool
) -> int:
    """The job's length from the model, on the GPUs named or on the cheapest that hold it."""
    from planner.job import jobs
    from tui.request_builder import build_one

    found, plan = jobs(build_one(values), num_tokens=trained, hours=hours)
    report_warnings(plan.warnings)
    if not found:
        report_warnings(["no GPU that was asked for holds this job (plan estimate shows why)"])
        return int(ExitCode.DOES_NOT_FIT)
    priced = []
    for job in found:
        terms = _terms(job.fit.gpu, values)
        size = plan.num_params_named if plan.requests[0].task == "train" else None
        cost = _priced(job.fit.gpu, job.fit.num_gpus, job.hours.expected, terms, job.num_tokens, size)
        priced.append((cost, terms, job))
    return _show(priced, explain=explain, as_json=as_json)


def _priced(
    gpu: Gpu, num_gpus: int, hours: float, terms: Terms, trained: int | None, params: int | None
) -> JobCost:
    return job_cost(
        gpu,
        catalog.offers_for(gpu.id),
        num_gpus=num_gpus,
        hours=hours,
        terms=terms,
        num_tokens=trained,
        num_params=params,
    )


def _show(priced: list[tuple[JobCost, Terms, Any]], *, explain: bool, as_json: bool) -> int:
    today = date.today()
    if as_json:
        import json

        click.echo(json.dumps([costs.as_json(cost, today, job) for cost, _, job in priced], indent=2))
        return int(ExitCode.OK)
    click.echo("\n\n".join(render(costs.listing(cost, terms, today, job)) for cost, terms, job in priced))
    used = costs.assumed(priced[0][1])
    if explain:
        click.echo("\n".join(costs.explained(priced[0][1])))
    elif used:
        click.echo(costs.summary(used))
    return int(ExitCode.OK)


def _num_gpus(values: dict[str, Any]) -> int:
    given: int | None = values.get("num_gpus")
    return 1 if given is None else given


def _hours(hours: float | None, trained: int | None, tokens_per_s: float | None) -> float:
    if tokens_per_s is not None and not 0 < tokens_per_s < float("inf"):
        raise RequestError("a speed is above zero", hint="--tokens-per-s 3000")
    if hours is not None:
        return hours
    if trained is None or tokens_per_s is None:
        raise RequestError("how long the job takes is missing", hint="--hours 24, or --model with --tokens 10M")
    return trained / tokens_per_s / SECONDS_PER_HOUR


def _managed_alone(params: int | None, trained: int | None, as_json: bool) -> int:
    if params is None or trained is None:
        raise RequestError("name a model, a GPU, or a size and its tokens", hint="--gpu h100 --hours 24")
    found = managed.quotes(params, trained)
    if not found:
        raise UnsupportedError("no managed price is known for this size", hint="name a GPU with --gpu")
    if as_json:
        import json

        click.echo(json.dumps([{"num_tokens": trained, "managed": costs.managed_json(found)}], indent=2))
    else:
        click.echo(render(costs.managed_listing(found)))
    return int(ExitCode.OK)


def _terms(gpu: Gpu, values: dict[str, Any]) -> Terms:
    def value(name: str, default: Decimal) -> Decimal:
        found: Decimal | None = values.get(name)
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
    gpu_usd = values.get("buy_usd")
    if gpu_usd is None and latest is not None:
        gpu_usd = ownership.middle_usd(latest)
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
    wish = HardwareWish(providers=values.get("provider") or (), regions=values.get("region") or ())
    return Terms(wish=wish, risk=risk, site=site, purchase=purchase)
