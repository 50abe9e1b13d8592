"""The selected row in money: the job of ``plan cost`` on that GPU, and its lines in the cost panel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Protocol

from hardware_db.gpu import Gpu
from hardware_db.offer import Offer
from planner.cost import JobCost, Terms, job_cost
from planner.economics.rent import RentCost
from planner.errors import UnsupportedError
from planner.job import Job, job_at
from planner.model import registry
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism, PlanRequest, ServingWorkload, TrainingWorkload
from planner.throughput import Throughput
from planner.units import HOURS_PER_MONTH, MILLION, format_count
from tui.app.cells import hours_text, usd_text
from tui.app.rows import GpuRow
from tui.render import prices


class SpeedOf(Protocol):
    """``planner.speeds.speed_of``."""

    def __call__(
        self, architecture: ModelArchitecture, workload: TrainingWorkload | ServingWorkload,
        parallelism: Parallelism, gpu: Gpu, *, calibrated: bool,
    ) -> Throughput: ...  # fmt: skip


OffersOf = Callable[[str], tuple[Offer, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCost:
    """What one row costs. Without a ``job`` only an hour of it is priced, and ``why_no_job`` says why."""

    cost: JobCost
    job: Job | None
    why_no_job: str


def row_cost(
    row: GpuRow, request: PlanRequest, model: ModelArchitecture, *, offers_of: OffersOf, speed_of: SpeedOf
) -> RowCost | None:
    """Price ``request`` on ``row`` as ``plan cost`` does; None where it cannot be placed there."""
    fit = row.fit
    if fit is None:
        return None
    job, why_no_job = None, ""
    workload = request.workload
    tokens = workload.trained_tokens if isinstance(workload, TrainingWorkload) else None
    if isinstance(workload, TrainingWorkload) and tokens is None:
        why_no_job = "set tokens/epoch to price the whole job"
    else:
        try:
            speed = speed_of(model, workload, fit.parallelism, fit.gpu, calibrated=request.calibrated)
            job = job_at(speed, fit, model, num_tokens=tokens)
        except UnsupportedError as error:
            why_no_job = error.message
    trains = isinstance(workload, TrainingWorkload)
    cost = job_cost(
        fit.gpu,
        offers_of(row.gpu_id),
        num_gpus=fit.num_gpus,
        hours=job.hours.expected if job else 1.0,
        terms=Terms(wish=request.hardware),
        num_tokens=job.num_tokens if job else None,
        num_params=registry.resolve(request.model).num_params_named if trains else None,
    )
    return RowCost(cost=cost, job=job, why_no_job=why_no_job)


def cost_lines(priced: RowCost, today: date, width: int) -> list[str]:
    """The ways of paying as a small table, what the energy is, and when buying pays, cut to ``width``."""
    cost = priced.cost
    lines = [_length(priced)]
    lines.append(f"{'':9}{'$/h':>9}{'job':>9}{'$/M tok':>9}{'$/month':>9}  from")
    lines.append(_rented("rent", cost.on_demand, priced, today))
    lines.append(_rented("spot", cost.spot, priced, today))
    if cost.owned is not None:
        hourly = cost.owned.usd_per_hour
        job = hourly * Decimal(str(cost.hours)) if priced.job else None
        per_million = job * MILLION / cost.num_tokens if job is not None and cost.num_tokens else None
        life = f"bought at {usd_text(cost.owned.price_usd)}, {cost.owned.purchase.lifetime_years} years"
        lines.append(_line("own", hourly, job, per_million, hourly * HOURS_PER_MONTH, life))
    for quote in cost.managed:
        price = quote.price.usd_per_million_tokens
        lines.append(_line("managed", None, quote.usd, price, None, f"{quote.price.service}, {quote.price.model}"))
    lines += [*_energy(priced), *_buying(cost)]
    return [line[:width].rstrip() for line in lines]


def _length(priced: RowCost) -> str:
    job = priced.job
    if job is None:
        return f"an hour on it; {priced.why_no_job}"
    hours = hours_text(job.hours.expected)
    if job.hours.low == job.hours.high:
        return f"{hours} of serving, {format_count(job.num_tokens)} tokens out"
    within = f"{hours_text(job.hours.low)} to {hours_text(job.hours.high)}"
    return f"{format_count(job.num_tokens)} tokens in {hours} ({within})"


def _line(
    way: str, hourly: Decimal | None, job: Decimal | None, million: Decimal | None, month: Decimal | None, of: str
) -> str:
    return f"{way:<9}" + "".join(f"{usd_text(usd):>9}" for usd in (hourly, job, million, month)) + f"  {of}"


def _rented(way: str, rent: RentCost | None, priced: RowCost, today: date) -> str:
    if rent is None:
        return _line(way, None, None, None, None, "no price known")
    offer = rent.rental.offer
    of = f"{offer.provider}, {prices.age(offer, today)}"
    job = rent.usd if priced.job else None
    return _line(way, rent.usd_per_hour, job, rent.usd_per_million_tokens, rent.usd_per_month, of)


def _energy(priced: RowCost) -> list[str]:
    energy = priced.cost.energy
    if energy is None:
        return ["energy   not known: no TDP is published"]
    whose = "" if priced.job else " an hour"
    return [f"energy   {energy.kwh:,.1f} kWh{whose} · {usd_text(energy.usd)} · {energy.kg_co2e:,.1f} kg CO2e"]


def _buying(cost: JobCost) -> list[str]:
    owned = cost.owned
    if owned is None:
        return ["buying   no price to buy it is known"]
    if cost.on_demand is None:
        return []
    if owned.break_even_hours is None or owned.break_even_months is None:
        return ["buying   never pays: its power costs as much as the rent"]
    when = f"after {owned.break_even_months:,.0f} months of constant use"
    return [f"buying   pays {when}" if owned.pays else f"buying   does not pay in its life ({when})"]
