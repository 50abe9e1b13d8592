"""From a request to the rows of the GPU table, with hours, money and this machine's own GPUs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

import planner.board
from hardware_db import catalog
from hardware_db.gpu import Gpu
from planner.board import Candidate
from planner.errors import PlannerError
from planner.model.architecture import ModelArchitecture
from planner.rental import age_days
from planner.request import Parallelism, PlanRequest, TrainingWorkload
from planner.throughput import TrainingThroughput
from planner.units import SECONDS_PER_HOUR, format_count
from tui.app.local_gpus import LocalGpu
from tui.app.rows import GpuRow
from tui.app.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What the main screen draws for one request."""

    request: PlanRequest
    model: ModelArchitecture
    model_line: str
    rows: tuple[GpuRow, ...]
    notes: tuple[str, ...]


def make_board(request: PlanRequest, *, owned: frozenset[str], local: tuple[LocalGpu, ...], world: World) -> Board:
    """Every GPU against ``request``; raises PlannerError where the request cannot be planned at all."""
    found = world.ask(request, None)
    rows = [_row(candidate, found, owned, world) for candidate in found.candidates]
    for gpu in local:
        here = world.ask(request, (gpu.as_catalogued(),))
        row = _row(here.candidates[0], here, frozenset({gpu.id}), world)
        rows.append(replace(row, name=gpu.name, here=True, free_bytes=gpu.free_bytes))
    model = found.model
    active = "" if model.params_active == model.params_total else f", {format_count(model.params_active)} active"
    return Board(
        request=request,
        model=model,
        model_line=f"{model.name}  {format_count(model.params_total)} parameters{active}",
        rows=tuple(rows),
        notes=found.notes,
    )


def make_row(
    request: PlanRequest, row: GpuRow, *, owned: frozenset[str], local: tuple[LocalGpu, ...], world: World
) -> GpuRow:
    """``request`` on the one GPU that ``row`` is about."""
    here = {gpu.id: gpu.as_catalogued() for gpu in local}
    gpu = here.get(row.gpu_id) or catalog.find_gpu(row.gpu_id)
    found = world.ask(request, (gpu,))
    mine = owned | set(here)
    return replace(
        _row(found.candidates[0], found, mine, world), name=row.name, here=row.here, free_bytes=row.free_bytes
    )


def _row(candidate: Candidate, found: planner.board.Board, owned: frozenset[str], world: World) -> GpuRow:
    gpu, placed = candidate.gpu, candidate.placement
    mine = gpu.id in owned
    row = GpuRow(
        gpu_id=gpu.id,
        name=gpu.name,
        vendor=gpu.vendor,
        memory_bytes=gpu.memory_bytes,
        release=gpu.release,
        owned=mine,
        candidate=candidate,
        work_out=found.fit,
    )
    if placed is None:
        return row
    hours = _hours(gpu, placed.parallelism, found, world)
    rental = None if mine else placed.rental
    price = Decimal(0) if mine else (rental.usd_per_hour if rental else None)
    return replace(
        row,
        hours=hours,
        usd_per_hour=price,
        usd_total=None if hours is None or price is None else price * Decimal(hours),
        price_age_days=age_days(rental.offer, world.today()) if rental else None,
        provider="your own" if mine else (rental.offer.provider if rental else ""),
    )


def _hours(gpu: Gpu, spread: Parallelism, found: planner.board.Board, world: World) -> float | None:
    """Hours of the whole training job; None where no job size is named or the GPU's rates are unknown."""
    workload = found.request.workload
    if not isinstance(workload, TrainingWorkload) or workload.trained_tokens is None:
        return None
    try:
        speed = world.speed_of(found.model, workload, spread, gpu, calibrated=found.request.calibrated)
    except PlannerError:
        return None
    assert isinstance(speed, TrainingThroughput)
    return workload.trained_tokens / speed.tokens_per_s.expected / SECONDS_PER_HOUR
