"""A pretraining answer as a listing and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hardware_db.gpu import Gpu
from planner.economics import assumptions, pretraining
from planner.economics.energy import Energy
from planner.economics.pretraining import GpuHours
from planner.units import HOURS_PER_DAY, format_count
from tui.render.costs import usd
from tui.render.listing import Column, Listing

_UNKNOWN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The whole run on one kind of GPU."""

    gpu: Gpu
    num_gpus: int
    gpu_hours: GpuHours
    usd_per_gpu_hour: Decimal | None
    num_offers: int
    """On-demand offers whose median is the price; 0 where the user gave one or none is known."""
    energy: Energy | None

    @property
    def days(self) -> float:
        return self.gpu_hours.expected / self.num_gpus / HOURS_PER_DAY

    def usd(self, gpu_hours: float) -> Decimal | None:
        return None if self.usd_per_gpu_hour is None else self.usd_per_gpu_hour * Decimal(str(gpu_hours))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    num_params: int
    num_tokens: int
    tokens_given: bool
    flops: int
    runs: tuple[Run, ...]


def listing(answer: Answer) -> Listing:
    columns = (
        Column(title="GPU"),
        Column(title="GPU-hours", right=True),
        Column(title="low-high", right=True, optional=True),
        Column(title="days", right=True),
        Column(title="USD/GPU-h", right=True),
        Column(title="USD", right=True),
        Column(title="MWh", right=True, optional=True),
        Column(title="t CO2e", right=True, optional=True),
        Column(title="price", optional=True),
    )
    rows = tuple(_row(run) for run in answer.runs)
    per_param = answer.num_tokens / answer.num_params
    tokens = "as asked" if answer.tokens_given else f"compute-optimal, {pretraining.CHINCHILLA.url}"
    title = (
        f"{format_count(answer.num_params)} parameters, {format_count(answer.num_tokens)} tokens "
        f"({per_param:.1f} per parameter, {tokens}), {answer.flops:.3g} FLOP = 6 N D"
    )
    notes = (
        f"days are on {answer.runs[0].num_gpus} GPUs; prices are list prices of machines, clusters are negotiated",
        f"compute: {pretraining.COMPUTE.title} {pretraining.COMPUTE.url}",
        f"low and high: {assumptions.MFU_RANGE_SOURCE.title} {assumptions.MFU_RANGE_SOURCE.url}",
    )
    return Listing(title=title, columns=columns, rows=rows, notes=notes)


def _row(run: Run) -> tuple[str, ...]:
    hours = run.gpu_hours
    return (
        run.gpu.name,
        f"{hours.expected:,.0f}",
        f"{hours.low:,.0f}-{hours.high:,.0f}",
        f"{run.days:,.1f}",
        usd(run.usd_per_gpu_hour),
        usd(run.usd(hours.expected)),
        f"{run.energy.kwh / 1000:,.1f}" if run.energy else _UNKNOWN,
        f"{run.energy.kg_co2e / 1000:,.1f}" if run.energy else _UNKNOWN,
        f"median of {run.num_offers} offers" if run.num_offers else _UNKNOWN,
    )


def as_json(answer: Answer) -> dict[str, Any]:
    """For ``plan pretrain --json``; FLOP and tokens are integers."""
    return {
        "num_params": answer.num_params,
        "num_tokens": answer.num_tokens,
        "flops": answer.flops,
        "runs": [
            {
                "gpu": run.gpu.id,
                "num_gpus": run.num_gpus,
                "gpu_hours_low": run.gpu_hours.low,
                "gpu_hours": run.gpu_hours.expected,
                "gpu_hours_high": run.gpu_hours.high,
                "days": run.days,
                "usd_per_gpu_hour": None if run.usd_per_gpu_hour is None else float(run.usd_per_gpu_hour),
                "usd": None if run.usd_per_gpu_hour is None else float(run.usd(run.gpu_hours.expected) or 0),
                "kwh": float(run.energy.kwh) if run.energy else None,
                "kg_co2e": float(run.energy.kg_co2e) if run.energy else None,
                "num_offers": run.num_offers,
            }
            for run in answer.runs
        ],
    }
