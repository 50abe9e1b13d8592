"""Exhaustive search: every GPU, count, machine, spread and choice of a job, ranked by money, time or headroom.

Choices that are words (method, checkpointing, optimizer…) are walked one combination at a time; numbers
(layouts, micro-batches) and hardware are arrays, so that memory and speed come from the formulas of a single plan.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from planner import checks
from planner.errors import RequestError, UnsupportedError
from planner.fit import Verdict
from planner.model import registry
from planner.request import PlanRequest, ServingWorkload, TrainingWorkload
from planner.search.axes import (
    DEFAULT_MAX_GPUS,
    Axes,
    Layouts,
    Workload,
    counts,
    layouts,
    offloads,
    variants,
)
from planner.search.evaluate import evaluate, micro_batches
from planner.search.hardware import Hardware, hardware
from planner.search.rank import OBJECTIVES, Limits, Objective, Pick, Ranking
from planner.search.result import Candidate, NearMiss, SearchResult
from planner.throughput import check_timed
from planner.units import MILLION, format_gib

__all__ = ["OBJECTIVES", "Axes", "Candidate", "NearMiss", "Objective", "SearchResult", "search"]


def search(request: PlanRequest, *, by: Objective = "cost", axes: Axes | None = None) -> SearchResult:
    """Every plan for a request within its wish, best first.

    With ``num_tokens`` in a training workload money and hours are of the whole job, else of a million tokens;
    serving is ranked by rent per hour and by time per token, its requests shared by the replicas. A plan
    counts as feasible where even the high end of its memory fits. Raises RequestError for a request that cannot be
    meant and UnsupportedError where nothing of it is modelled.
    """
    checks.check_request(request)
    check_timed(request.workload)
    resolved = registry.resolve(request.model)
    if resolved.architecture is None:
        raise UnsupportedError(
            f"only the size of {request.model} is known, and a search needs its shapes",
            hint="name a model, or give a directory with its config.json",
        )
    architecture = resolved.architecture
    axes = axes or Axes()
    wish = request.hardware
    num_gpus = counts(wish.max_gpus or DEFAULT_MAX_GPUS, wish.num_gpus)
    machines = hardware(request, num_gpus)
    num_tokens = request.workload.trained_tokens if isinstance(request.workload, TrainingWorkload) else None
    limits = Limits.of(wish, num_tokens, needs_price=not wish.gpus)
    ranking = Ranking(objective=by, limits=limits, memory_bytes=machines.memory_bytes)
    refused: dict[str, None] = {}
    known_layouts: dict[object, tuple[Layouts, ...]] = {}
    for workload, offload in variants(request.workload, axes):
        key = (getattr(workload, "method", None), workload.weight_dtype)
        tables = known_layouts.get(key)
        if tables is None:
            tables = known_layouts[key] = layouts(workload, architecture, axes, num_gpus)
        for table in tables:
            if not offloads(table, offload):
                continue
            try:
                ranking.add(evaluate(architecture, workload, offload, table, machines))
            except (UnsupportedError, RequestError) as error:
                refused[error.message] = None
    if not ranking.num_candidates:
        reasons = "; ".join(list(refused)[:2])
        raise UnsupportedError(f"no plan can be computed: {reasons or 'no layout divides the model'}")
    notes = [*resolved.notes, *(f"not considered: {reason}" for reason in refused)]
    if machines.without_rates:
        notes.append(f"not considered, rates unknown: {', '.join(machines.without_rates[:5])}")
    return SearchResult(
        request=request,
        objective=by,
        candidates=tuple(_candidate(pick, machines, request) for pick in ranking.ordered()),
        pareto=tuple(_candidate(pick, machines, request) for pick in ranking.front),
        near_misses=tuple(
            _near_miss(kind, pick, machines, request, limits) for kind, pick in ranking.misses.items()
        )
        if not ranking.best
        else (),
        num_candidates=ranking.num_candidates,
        num_feasible=ranking.num_feasible,
        notes=tuple(notes),
    )


def _workload(pick: Pick) -> Workload:
    block = pick.block
    batch = int(block.layouts.batch_size[pick.layout])
    if isinstance(block.workload, ServingWorkload):
        return replace(block.workload, concurrency=batch)
    pp = block.layouts.one(pick.layout, block.cpu_offload).pp
    return replace(
        block.workload, batch_size=batch, gradient_accumulation_steps=int(micro_batches(block.workload, pp))
    )


def _candidate(pick: Pick, machines: Hardware, request: PlanRequest) -> Candidate:
    block = pick.block
    gpu = machines.rows[pick.row].gpu
    num_gpus = int(block.layouts.num_gpus[pick.layout])
    rental = machines.rental(pick.row, num_gpus, request.hardware)
    expected = int(block.expected_bytes[pick.row, pick.layout])
    high = int(block.high_bytes[pick.row, pick.layout])
    verdict = Verdict.FITS if high <= gpu.memory_bytes else Verdict.TIGHT
    if expected > gpu.memory_bytes:
        verdict = Verdict.DOES_NOT_FIT
    rate = float(block.tokens_per_s[pick.row, pick.layout])
    whole_job = isinstance(request.workload, TrainingWorkload) and request.workload.num_tokens is not None
    per_hour = rental.usd_per_hour if rental else None
    return Candidate(
        gpu=gpu,
        num_gpus=num_gpus,
        small_machines=machines.rows[pick.row].machine is not None,
        offer=rental.offer if rental else None,
        num_instances=rental.num_instances if rental else 1,
        workload=_workload(pick),
        parallelism=block.layouts.one(pick.layout, block.cpu_offload),
        verdict=verdict,
        expected_bytes=expected,
        high_bytes=high,
        seconds_per_step=float(block.seconds[pick.row, pick.layout]),
        tokens_per_s=rate,
        hours=pick.hours if whole_job else None,
        usd=per_hour * Decimal(str(pick.hours)) if per_hour is not None and whole_job else None,
        usd_per_hour=per_hour,
        usd_per_million_tokens=per_hour * Decimal(str(MILLION / rate / 3600)) if per_hour is not None else None,
    )


def _near_miss(kind: str, pick: Pick, machines: Hardware, request: PlanRequest, limits: Limits) -> NearMiss:
    candidate = _candidate(pick, machines, request)
    missing = candidate.high_bytes - candidate.gpu.memory_bytes
    reasons = []
    if kind == "memory":
        reasons.append(f"{format_gib(missing)} short on each {candidate.gpu.name}")
    over_budget = limits.max_usd is not None and pick.usd > limits.max_usd
    if over_budget and limits.max_usd is not None:
        reasons.append(f"costs {pick.usd:,.2f} USD, {pick.usd - limits.max_usd:,.2f} over the budget")
    rate = float(candidate.usd_per_hour or 0)
    if limits.max_usd_per_hour is not None and rate > limits.max_usd_per_hour:
        reasons.append(f"costs {rate:,.2f} USD/h, {rate - limits.max_usd_per_hour:,.2f} over the limit")
    if limits.max_hours is not None and pick.hours > limits.max_hours:
        over_h = pick.hours - limits.max_hours
        reasons.append(f"takes {_figures(pick.hours)} h, {_figures(over_h)} too long")
    return NearMiss(kind=kind, candidate=candidate, reason="; ".join(reasons))


def _figures(value: float) -> str:
    """Three digits of a small number, all of a large one."""
    return f"{value:,.1f}" if value >= 100 else f"{value:.3g}"
