"""What a job costs, as a listing with its assumptions and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

from planner.cost import JobCost, Terms
from planner.economics import assumptions, energy, spot
from planner.economics.assumptions import Assumption
from planner.economics.managed import ManagedQuote
from planner.economics.ownership import Ownership
from planner.economics.rent import RentCost
from planner.job import Job
from planner.throughput import Range
from planner.units import MILLION, format_count
from tui.render import prices
from tui.render.listing import Column, Listing

_UNKNOWN = "-"
_COLUMNS = (
    Column(title="way"),
    Column(title="USD", right=True),
    Column(title="hours", right=True),
    Column(title="USD/h", right=True),
    Column(title="USD/month", right=True, optional=True),
    Column(title="USD/M tokens", right=True, optional=True),
    Column(title="from"),
)


def usd(amount: Decimal | None) -> str:
    """Two decimals, three below one USD."""
    if amount is None:
        return _UNKNOWN
    return f"{amount:,.2f}" if amount == 0 or amount >= 1 else f"{amount:.3f}"


def listing(cost: JobCost, terms: Terms, today: date, job: Job | None = None) -> Listing:
    """One line per way of paying; ``job`` says how the hours were found."""
    rows = [_rent("rent on demand", cost.on_demand, today), _rent("rent spot", cost.spot, today)]
    if cost.owned:
        rows.append(_owned(cost.owned, cost))
    rows += managed_rows(cost.managed)
    notes = [*_speed_notes(job), *_energy_notes(cost, terms), *_spot_notes(cost), *_owning_notes(cost)]
    title = f"{cost.num_gpus}x {cost.gpu.name}, {cost.hours:,.2f} hours of work"
    return Listing(title=title, columns=_COLUMNS, rows=tuple(rows), notes=tuple(notes))


def managed_listing(quotes: tuple[ManagedQuote, ...]) -> Listing:
    """Managed services alone, where no GPU is named."""
    return Listing(columns=_COLUMNS, rows=tuple(managed_rows(quotes)))


def managed_rows(quotes: tuple[ManagedQuote, ...]) -> list[tuple[str, ...]]:
    return [
        (
            "managed service",
            usd(quote.usd),
            _UNKNOWN,
            _UNKNOWN,
            _UNKNOWN,
            usd(quote.price.usd_per_million_tokens),
            f"{quote.price.service}, {quote.price.model}, {quote.price.as_of}",
        )
        for quote in quotes
    ]


def _rent(way: str, cost: RentCost | None, today: date) -> tuple[str, ...]:
    if cost is None:
        return (way, *(_UNKNOWN,) * 5, "no price known, or interrupted too often to finish")
    offer = cost.rental.offer
    machines = f"{cost.rental.num_instances} x {offer.num_gpus} GPUs"
    return (
        way,
        usd(cost.usd),
        f"{cost.hours:,.2f}",
        usd(cost.usd_per_hour),
        usd(cost.usd_per_month),
        usd(cost.usd_per_million_tokens),
        f"{offer.provider}, {machines}, {prices.when(offer)} ({prices.age(offer, today)})",
    )


def _owned(owned: Ownership, cost: JobCost) -> tuple[str, ...]:
    spent = owned.usd_per_hour * Decimal(str(cost.hours))
    per_million = spent * MILLION / cost.num_tokens if cost.num_tokens else None
    return (
        "own",
        usd(spent),
        f"{cost.hours:,.2f}",
        usd(owned.usd_per_hour),
        _UNKNOWN,
        usd(per_million),
        f"bought for {usd(owned.price_usd)} USD, {owned.purchase.lifetime_years} years, "
        f"{owned.purchase.utilisation:.0%} in use",
    )


def _speed_notes(job: Job | None) -> Iterable[str]:
    if job is None:
        return
    rate, hours = job.tokens_per_s, job.hours
    yield (
        f"speed: {rate.expected:,.0f} tokens/s ({rate.low:,.0f} to {rate.high:,.0f}) in all, "
        f"{format_count(job.num_tokens)} tokens take {hours.low:,.2f} to {hours.high:,.2f} hours"
    )


def _energy_notes(cost: JobCost, terms: Terms) -> Iterable[str]:
    if cost.energy is None:
        yield f"energy: the TDP of {cost.gpu.name} is not known"
        return
    yield (
        f"energy: {cost.energy.kwh:,.1f} kWh ({cost.gpu.tdp_w} W x {terms.site.host_power} host x "
        f"{terms.site.pue} PUE), {usd(cost.energy.usd)} USD, {cost.energy.kg_co2e:,.1f} kg CO2e"
    )


def _spot_notes(cost: JobCost) -> Iterable[str]:
    run = cost.spot.spot_run if cost.spot else None
    if run is None or run.interruptions == 0:
        return
    interval = run.checkpoint_interval_hours
    saving = f"a checkpoint every {interval * 60:.0f} minutes" if interval else "started over when interrupted"
    yield f"spot: {run.interruptions:.2g} interruptions expected, {run.stretch - 1:.1%} longer, {saving}"


def _owning_notes(cost: JobCost) -> Iterable[str]:
    owned = cost.owned
    if owned is None:
        yield f"own: no price to buy {cost.gpu.name} is known (--buy-usd)"
    elif owned.break_even_hours is None:
        yield "own: renting stays cheaper, the power alone costs as much as the rent"
    else:
        verdict = "within its life" if owned.pays else "after its life: renting is cheaper"
        yield (
            f"own: buying breaks even after {owned.break_even_hours:,.0f} hours of use "
            f"({owned.break_even_months:,.1f} months), {verdict}"
        )
    if owned is not None and owned.purchase.host_usd == 0:
        yield "own: the machine around the GPUs is not in the price (--host-usd)"


def assumed(terms: Terms) -> tuple[Assumption, ...]:
    """The defaults in force."""
    site, risk = terms.site, terms.risk
    used = (
        (assumptions.HOST_POWER, site.host_power),
        (assumptions.PUE, site.pue),
        (assumptions.USD_PER_KWH, site.usd_per_kwh),
        (assumptions.GRID_G_PER_KWH, site.grid_g_per_kwh),
        (assumptions.INTERRUPTIONS_PER_DAY, risk.interruptions_per_day),
        (assumptions.RESTART_MINUTES, risk.restart_minutes),
        (assumptions.CHECKPOINT_MINUTES, risk.checkpoint_minutes),
    )
    return tuple(assumption for assumption, value in used if value == assumption.value)


def explained(terms: Terms) -> tuple[str, ...]:
    """Every assumption and formula with its source."""
    formulas = ((spot.FORMULA, spot.SOURCE), (energy.FORMULA, energy.SOURCE))
    return (
        *(described(assumption) for assumption in assumed(terms)),
        *(f"formula: {formula}, {source.title} {source.url}" for formula, source in formulas),
    )


def summary(used: tuple[Assumption, ...]) -> str:
    """The defaults in force in one line."""
    return "assumed: " + ", ".join(f"{each.name} {each.value}" for each in used) + " (--explain for sources)"


def described(assumption: Assumption) -> str:
    """One assumption in one line."""
    when = f" ({assumption.as_of})" if assumption.as_of else ""
    where = f" {assumption.source.url}" if assumption.source.url else ""
    return (
        f"assumed: {assumption.name} {assumption.value} {assumption.unit}{when}, "
        f"{assumption.source.title}{where}; {assumption.doubt}"
    )


def _range(values: Range) -> dict[str, float]:
    return {"low": values.low, "expected": values.expected, "high": values.high}


def as_json(cost: JobCost, today: date, job: Job | None = None) -> dict[str, Any]:
    """A job for ``plan cost --json``; money as numbers in USD."""
    return {
        "gpu": cost.gpu.id,
        "num_gpus": cost.num_gpus,
        "model": job.model.name if job else None,
        "tokens_per_s": _range(job.tokens_per_s) if job else None,
        "hours": cost.hours,
        "hours_range": _range(job.hours) if job else None,
        "num_tokens": cost.num_tokens,
        "on_demand": _rent_json(cost.on_demand, today),
        "spot": _rent_json(cost.spot, today),
        "own": _own_json(cost.owned, cost.hours),
        "energy": {
            "kwh": float(cost.energy.kwh),
            "usd": float(cost.energy.usd),
            "kg_co2e": float(cost.energy.kg_co2e),
        }
        if cost.energy
        else None,
        "managed": managed_json(cost.managed),
    }


def managed_json(quotes: tuple[ManagedQuote, ...]) -> list[dict[str, Any]]:
    return [
        {
            "service": quote.price.service,
            "model": quote.price.model,
            "usd": float(quote.usd),
            "usd_per_million_tokens": float(quote.price.usd_per_million_tokens),
            "as_of": quote.price.as_of,
            "source": quote.price.source.title,
            "note": quote.price.note,
        }
        for quote in quotes
    ]


def _rent_json(cost: RentCost | None, today: date) -> dict[str, Any] | None:
    if cost is None:
        return None
    run = cost.spot_run
    return {
        "usd": float(cost.usd),
        "hours": cost.hours,
        "usd_per_hour": float(cost.usd_per_hour),
        "usd_per_month": float(cost.usd_per_month),
        "usd_per_million_tokens": _number(cost.usd_per_million_tokens),
        "num_instances": cost.rental.num_instances,
        "offer": prices.as_json(cost.rental.offer, today),
        "expected_interruptions": run.interruptions if run and math.isfinite(run.interruptions) else None,
        "checkpoint_interval_hours": run.checkpoint_interval_hours if run else None,
    }


def _own_json(owned: Ownership | None, hours: float) -> dict[str, Any] | None:
    if owned is None:
        return None
    return {
        "usd": float(owned.usd_per_hour * Decimal(str(hours))),
        "usd_per_hour": float(owned.usd_per_hour),
        "price_usd": float(owned.price_usd),
        "capital_usd_per_hour": float(owned.capital_usd_per_hour),
        "power_usd_per_hour": _number(owned.power_usd_per_hour),
        "break_even_hours": _number(owned.break_even_hours),
        "break_even_months": _number(owned.break_even_months),
        "pays_within_lifetime": owned.pays,
        "lifetime_years": float(owned.purchase.lifetime_years),
        "utilisation": float(owned.purchase.utilisation),
        "resale_share": float(owned.purchase.resale_share),
    }


def _number(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)
