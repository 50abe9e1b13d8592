"""What a report holds, for people who were not at the terminal: answer, assumptions, sources and dated prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from importlib.metadata import PackageNotFoundError, version

from planner.citation import Citation
from planner.fit import Fit
from planner.jsonable import jsonable
from planner.memory.estimate import Estimate
from planner.plan import Plan
from planner.quantity import Tier
from planner.request import PlanRequest
from planner.units import format_bytes, format_gb, format_gib
from tui.command_line import command_text
from tui.render import sheet, speed
from tui.render.report_front import Front

SIZE_COLUMNS = ("GPUs", "verdict", "each needs (low to high)", "of", "free")
RENTAL_COLUMNS = ("USD/h", "rented from", "price of", "source")
TERM_COLUMNS = ("term", "size", "formula", "values", "source")
Cell = str | Citation


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One question: its answer in words, its tables, and what the charts draw."""

    title: str
    command: str
    facts: tuple[tuple[str, str], ...]
    fits: tuple[Fit, ...]
    estimate: Estimate | None
    tables: tuple[Table, ...]
    front: Front | None = None
    """Plans of a search by cost and time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    title: str
    made: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...]


def report(plan: Plan, today: date) -> Report:
    """The report of a plan, made on ``today``."""
    made = made_on(today)
    blocks = sheet.blocks(plan)
    sections = tuple(
        _section(plan, request, block.facts) for request, block in zip(plan.requests, blocks, strict=False)
    )
    return Report(title=sheet.title(plan), made=made, sections=sections, notes=plan.warnings)


def made_on(today: date) -> str:
    """When and with what a report was made."""
    return f"Made on {today.isoformat()} with gpu-planner {_version()}. Memory is per GPU unless it says in all."


def _version() -> str:
    try:
        return version("gpu-planner")
    except PackageNotFoundError:
        return "(not installed)"


def _section(plan: Plan, request: PlanRequest, facts: tuple[tuple[str, str], ...]) -> Section:
    estimates = plan.estimates_of(request)
    own = tuple(fit for fit in plan.fits_of(request) if fit.estimate.tier is not Tier.RULE)
    terms = tuple(_terms(estimate) for estimate in estimates)
    return Section(
        title=sheet.describe(request),
        command=command_text(request),
        facts=facts,
        fits=own,
        estimate=next((estimate for estimate in estimates if estimate.tier is not Tier.RULE), None),
        tables=(_fits(own), *terms, _assumptions(request)),
    )


def _fits(fits: Sequence[Fit]) -> Table:
    columns = (*SIZE_COLUMNS, *speed.columns(fits), *RENTAL_COLUMNS)
    rows = tuple(_fit_row(fit, speed.cells(fit, fits)) for fit in fits)
    return Table(title="GPUs that hold it", columns=columns, rows=rows)


def _fit_row(fit: Fit, speeds: tuple[str, ...]) -> tuple[Cell, ...]:
    estimate, offer, price = fit.estimate, fit.offer, fit.usd_per_hour
    interval = f"({format_gib(estimate.low_bytes)} to {format_gib(estimate.high_bytes)})"
    return (
        f"{fit.num_gpus} x {fit.gpu.name}",
        fit.verdict.replace("_", " "),
        f"{format_gib(estimate.expected_bytes)} {interval}",
        format_gib(fit.gpu.memory_bytes),
        format_gib(fit.headroom_bytes),
        *speeds,
        "-" if price is None else f"{price:,.2f}",
        "no price known"
        if offer is None
        else f"{fit.num_instances} x {offer.provider} {offer.instance_type}".strip(),
        sheet.price_date(fit),
        "" if offer is None else offer.source,
    )


def _terms(estimate: Estimate) -> Table:
    by_rule = estimate.tier is Tier.RULE
    show = format_gb if by_rule else format_bytes
    rows: list[tuple[Cell, ...]] = [
        (term.label, show(term.size_bytes), term.formula, sheet.inputs_text(term.inputs), term.source)
        for term in estimate.terms
        if term.size_bytes
    ]
    rows.append(("peak", show(estimate.expected_bytes), "sum", "", ""))
    where = "in all, by rule of thumb" if by_rule else f"live at the peak, in {estimate.phase}"
    label = f" ({estimate.label})" if estimate.label else ""
    return Table(title=f"Memory {where}{label}", columns=TERM_COLUMNS, rows=tuple(rows))


def _assumptions(request: PlanRequest) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for holder in (request.workload, request.parallelism, request.hardware):
        if holder is not None:
            rows += [(item.name, _value(getattr(holder, item.name))) for item in fields(holder)]
    return Table(title="Assumptions", columns=("field", "value"), rows=tuple(rows))


def _value(value: object) -> str:
    shown = jsonable(value)
    if isinstance(shown, dict):
        return ", ".join(f"{name} {item}" for name, item in shown.items() if item is not None)
    if isinstance(shown, list):
        return ", ".join(str(item) for item in shown) or "any"
    return "not set" if shown is None else str(shown)
