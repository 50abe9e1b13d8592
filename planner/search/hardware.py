"""The GPUs and machines a search considers: attained rates by row, prices by row and count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy

from hardware_db import catalog
from hardware_db.gpu import Gpu
from hardware_db.offer import Offer
from planner import calibration_file
from planner.answer import named_gpu, pool
from planner.errors import RequestError, UnsupportedError
from planner.memory.breakdown import PhaseBreakdown
from planner.memory.runtime import context_terms, workspace_term
from planner.pace import BOUNDS, Bound, Kind, ratios, waits_for_host
from planner.quantity import Quantity
from planner.rental import GPUS_PER_MACHINE, Rental, cheapest_rental, is_wished
from planner.request import HardwareWish, PlanRequest
from planner.throughput.constants import constant
from planner.throughput.device import Device, device_of, stack
from planner.throughput.values import StepTime

_MARKETPLACES = ("vast", "runpod", "tensordock", "salad", "prime")
"""Single machines of many owners: https://docs.vast.ai/, https://docs.runpod.io/pods/overview."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of GPU in machines of one size; ``machine`` None: whatever rental joins the GPUs best."""

    gpu: Gpu
    machine: int | None
    device: Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Rows, their devices as columns, and what each count costs."""

    rows: tuple[Row, ...]
    device: Device
    """Fields of shape (rows, 1)."""
    memory_bytes: Any
    """Shape (rows, 1)."""
    own_bytes: Any
    """Shape (rows, 1): what libraries and the CUDA context of each kind take whatever runs."""
    own_high_bytes: Any
    """The same at its high end."""
    counts: tuple[int, ...]
    usd_per_hour: Any
    """Shape (rows, counts); infinite where nothing is offered."""
    without_rates: tuple[str, ...]
    """GPUs left out because their rates are unknown."""
    paces: dict[Bound, Any] | None
    """Measured over expected seconds by what binds a step, of shape (rows, 1); None: nothing was measured."""

    def paced(self, step: StepTime) -> Any:
        """Seconds of a step, corrected by what was measured."""
        if self.paces is None:
            return step.total_s
        return step.total_s * numpy.where(waits_for_host(step.parts), self.paces["host"], self.paces["gpu"])

    def rental(self, row: int, num_gpus: int, wish: HardwareWish) -> Rental | None:
        """The rental behind a price."""
        return rental_of(self.rows[row], num_gpus, wish)


def rental_of(row: Row, num_gpus: int, wish: HardwareWish) -> Rental | None:
    """Machines of the row's size, or the rule of ``planner.rental`` (one machine, or whole ones of eight)."""
    offers = catalog.offers_for(row.gpu.id)
    if row.machine is None:
        return cheapest_rental(offers, num_gpus, wish)
    if num_gpus <= row.machine or num_gpus % row.machine:
        return None
    sized = [
        offer for offer in offers if offer.num_gpus == row.machine and is_wished(offer, wish) and _joins(offer)
    ]
    best = min(sized, key=lambda offer: offer.usd_per_hour, default=None)
    return None if best is None else Rental(offer=best, num_instances=num_gpus // row.machine)


def _joins(offer: Offer) -> bool:
    """Whether several machines of this offer share a private network: dated offers of clouds, no marketplaces."""
    return offer.as_of is not None and not offer.per_gpu and not offer.provider.lower().startswith(_MARKETPLACES)


def hardware(request: PlanRequest, counts: tuple[int, ...]) -> Hardware:
    """Rows for a request: the GPUs named, or every CUDA GPU with an offer that meets the wish."""
    wish = request.hardware
    named = tuple(named_gpu(name) for name in wish.gpus)
    least = wish.min_memory_bytes or 0
    kinds = [gpu for gpu in (named or pool(request)) if gpu.memory_bytes >= least]
    rows: list[Row] = []
    without_rates: list[str] = []
    for gpu in kinds:
        offers = [offer for offer in catalog.offers_for(gpu.id) if is_wished(offer, wish)]
        if not offers and not named:
            continue
        try:
            rows += _rows_of(gpu, offers)
        except UnsupportedError:
            without_rates.append(gpu.name)
    if not rows:
        raise RequestError(
            "no GPU with known rates is offered within the limits",
            hint="drop --providers, --region or --min-memory, or name a GPU with --gpu",
        )
    return Hardware(
        rows=tuple(rows),
        device=stack([row.device for row in rows]),
        memory_bytes=numpy.array([row.gpu.memory_bytes for row in rows], dtype=numpy.int64)[:, None],
        own_bytes=numpy.array([_own_bytes(row.gpu)[0] for row in rows], dtype=numpy.int64)[:, None],
        own_high_bytes=numpy.array([_own_bytes(row.gpu)[1] for row in rows], dtype=numpy.int64)[:, None],
        counts=counts,
        usd_per_hour=_prices(rows, counts, wish),
        paces=_paces(request, rows),
        without_rates=tuple(without_rates),
    )


def _paces(request: PlanRequest, rows: Sequence[Row]) -> dict[Bound, Any] | None:
    paces = calibration_file.load().paces if request.calibrated else ()
    if not paces:
        return None
    kind: Kind = "step" if request.task == "train" else "token"
    known = [ratios(paces, kind, request.workload, row.gpu) for row in rows]
    return {bound: numpy.array([each[bound] for each in known])[:, None] for bound in BOUNDS}


def _own_bytes(gpu: Gpu) -> tuple[int, int]:
    own = PhaseBreakdown(phase="any", terms=(workspace_term(gpu), *context_terms(gpu, num_gpus=1)))
    return own.size_bytes(Quantity.DEVICE), own.high_bytes(Quantity.DEVICE)


def _rows_of(gpu: Gpu, offers: Sequence[Offer]) -> list[Row]:
    device = device_of(gpu)
    rows = [Row(gpu=gpu, machine=None, device=device)]
    slow = constant("network.other") * constant("network.fraction")
    for size in sorted(
        {offer.num_gpus for offer in offers if offer.num_gpus < GPUS_PER_MACHINE and _joins(offer)}
    ):
        small = replace(device, gpus_per_node=float(size), network_bytes_per_s=slow)
        rows.append(Row(gpu=gpu, machine=size, device=small))
    return rows


def _prices(rows: Sequence[Row], counts: tuple[int, ...], wish: HardwareWish) -> Any:
    table = numpy.full((len(rows), len(counts)), numpy.inf)
    for index, row in enumerate(rows):
        for column, count in enumerate(counts):
            rental = rental_of(row, count, wish)
            if rental is not None:
                table[index, column] = float(rental.usd_per_hour)
    return table
