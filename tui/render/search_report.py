"""The report of a search: what was tried, the plans with their dated prices, cost against time, and the winner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from planner.plan import plan_requests
from planner.rental import age_days
from planner.request import TrainingWorkload
from planner.search import Candidate, SearchResult
from planner.speeds import with_speeds
from planner.units import MILLION, SECONDS_PER_HOUR, format_gib
from tui.command_line import command_text
from tui.render.report import Cell, Report, Section, Table, made_on, report
from tui.render.report_front import Front, FrontPoint
from tui.render.search import choices

COLUMNS = (
    "GPUs", "memory (high)", "of", "tokens/s", "time", "USD/h", "USD", "rented from", "price of", "source", "how",
)  # fmt: skip


def search_report(result: SearchResult, today: date, top: int) -> Report:
    """``top`` plans, the whole front, the nearest misses, and the best plan as an answer of its own."""
    request, best = result.request, result.best
    limits = [
        (name, str(value))
        for name, value in (
            ("budget in USD", request.hardware.max_usd),
            ("USD per hour at most", request.hardware.max_usd_per_hour),
            ("hours at most", request.hardware.max_hours),
        )
        if value is not None
    ]
    facts = [
        ("plans tried", f"{result.num_candidates:,}, of which {result.num_feasible:,} meet the wish"),
        ("ranked by", result.objective),
        *limits,
        *(
            (f"nearest miss by {miss.kind}", f"{_gpus(miss.candidate)}: {miss.reason}")
            for miss in result.near_misses
        ),
    ]
    section = Section(
        title=f"Search for {request.model}",
        command=command_text(request).replace("plan ", "plan search ", 1),
        facts=tuple(facts),
        fits=(),
        estimate=None,
        tables=(
            _table("Best plans", result.candidates[:top], result, today),
            _table("Nothing is both cheaper and faster", result.pareto, result, today),
        ),
        front=_front(result),
    )
    if best is None:
        return Report(title=section.title, made=made_on(today), sections=(section,), notes=result.notes)
    answer = report(with_speeds(plan_requests([best.request(request.model)])), today)
    winner = tuple(replace(part, title=f"The best plan: {part.title}") for part in answer.sections)
    notes = tuple(dict.fromkeys((*result.notes, *answer.notes)))
    return replace(answer, title=section.title, sections=(section, *winner), notes=notes)


def _units(result: SearchResult) -> tuple[str, str]:
    if not isinstance(result.request.workload, TrainingWorkload):
        return "s per token", "USD/h"
    if result.request.workload.trained_tokens is None:
        return "h per million tokens", "USD per million tokens"
    return "h", "USD"


def _coordinates(candidate: Candidate, result: SearchResult) -> tuple[float, float | None]:
    """Time and money in the units of ``_units``."""
    if not isinstance(result.request.workload, TrainingWorkload):
        usd = candidate.usd_per_hour
        return candidate.seconds_per_step, None if usd is None else float(usd)
    usd = candidate.usd if candidate.hours is not None else candidate.usd_per_million_tokens
    hours = candidate.hours
    if hours is None:
        hours = MILLION / candidate.tokens_per_s / SECONDS_PER_HOUR
    return hours, None if usd is None else float(usd)


def _front(result: SearchResult) -> Front | None:
    time_unit, usd_unit = _units(result)
    points = []
    for candidates, on_front in ((result.candidates, False), (result.pareto, True)):
        for candidate in candidates:
            time, usd = _coordinates(candidate, result)
            if usd:
                points.append(FrontPoint(name=_gpus(candidate), time=time, usd=usd, on_front=on_front))
    if len(points) < 2:
        return None
    return Front(points=tuple(points), time_unit=time_unit, usd_unit=usd_unit)


def _gpus(candidate: Candidate) -> str:
    return f"{candidate.num_gpus} x {candidate.gpu.name}"


def _table(title: str, candidates: Sequence[Candidate], result: SearchResult, today: date) -> Table:
    return Table(title=title, columns=COLUMNS, rows=tuple(_row(each, result, today) for each in candidates))


def _row(candidate: Candidate, result: SearchResult, today: date) -> tuple[Cell, ...]:
    offer = candidate.offer
    time_unit, usd_unit = _units(result)
    time, usd = _coordinates(candidate, result)
    dated = "" if offer is None else "undated" if offer.as_of is None else offer.as_of.isoformat()
    if offer is not None and offer.as_of is not None:
        dated += f" ({age_days(offer, today)} days)"
    return (
        _gpus(candidate),
        f"{format_gib(candidate.expected_bytes)} ({format_gib(candidate.high_bytes)})",
        format_gib(candidate.gpu.memory_bytes),
        f"{candidate.tokens_per_s:,.0f}",
        f"{time:,.3g} {time_unit}",
        "-" if candidate.usd_per_hour is None else f"{candidate.usd_per_hour:,.2f}",
        "-" if usd is None else f"{usd:,.2f} {usd_unit}",
        "no price known"
        if offer is None
        else f"{candidate.num_instances} x {offer.provider} {offer.instance_type}".strip(),
        dated,
        "" if offer is None else offer.source,
        choices(candidate),
    )
