"""Every GPU of the catalogue against one request: the smallest count that holds it, and why where none does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hardware_db import catalog
from hardware_db.gpu import Gpu
from planner import calibration, checks
from planner.answer import Answer
from planner.errors import RequestError
from planner.fit import Fit
from planner.model import registry
from planner.model.architecture import ModelArchitecture
from planner.request import PlanRequest
from planner.units import format_gib


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One kind of GPU. ``fit`` is None where it cannot be placed, and ``why_not`` says so in a line."""

    gpu: Gpu
    fit: Fit | None
    why_not: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The answer for every kind of GPU."""

    request: PlanRequest
    model: ModelArchitecture
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]


def board(request: PlanRequest, gpus: Sequence[Gpu] | None = None) -> Board:
    """``request`` on every kind of GPU, or on ``gpus``; raises PlannerError where no GPU can answer it.

    Agrees with ``planner.plan.plan_request`` asked for each GPU by name.
    """
    resolved = registry.resolve(request.model)
    if resolved.architecture is None:
        raise RequestError(
            f"{request.model} is a size alone: only the rules of thumb know it",
            hint="name a model, a directory with config.json, or a hub id",
        )
    doubts = checks.check_request(request, resolved.architecture)
    learnt = calibration.load() if request.calibrated else None
    answer = Answer(request=request, model=resolved.architecture, gpus=(), calibration=learnt, top=1)
    candidates = tuple(_candidate(answer, gpu) for gpu in (catalog.all_gpus() if gpus is None else gpus))
    return Board(
        request=request,
        model=resolved.architecture,
        candidates=candidates,
        notes=tuple(dict.fromkeys((*resolved.notes, *doubts))),
    )


def _candidate(answer: Answer, gpu: Gpu) -> Candidate:
    fits = answer.on(gpu)
    held = [fit for fit in fits if fit.headroom_bytes >= 0]
    if held:
        return Candidate(gpu=gpu, fit=held[0], why_not="")
    if not fits:
        return Candidate(gpu=gpu, fit=None, why_not="what every rank holds alike is already too much")
    nearest = max(fits, key=lambda fit: fit.headroom_bytes)
    short = format_gib(-nearest.headroom_bytes)
    return Candidate(gpu=gpu, fit=None, why_not=f"{short} short on each of {nearest.num_gpus}")
