"""How much longer a job runs on instances that may be taken away."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from planner.citation import Citation
from planner.economics import assumptions
from planner.errors import RequestError

SOURCE = Citation(
    title="Daly (2006), complete model of restart dumps, with the interval of Young (1974)",
    url="https://doi.org/10.1016/j.future.2004.11.016",
)
_HOURS_PER_DAY = 24
_MINUTES_PER_HOUR = 60
HOPELESS_FACTOR = 10
"""A job stretched more than this is not worth starting on spot instances; it is reported as infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotRisk:
    """What interrupts a job and what an interruption costs it."""

    interruptions_per_day: Decimal = assumptions.INTERRUPTIONS_PER_DAY.value
    """Chance that one instance is taken away within a day; the job stops when any of its instances goes."""
    restart_minutes: Decimal = assumptions.RESTART_MINUTES.value
    checkpoint_minutes: Decimal = assumptions.CHECKPOINT_MINUTES.value

    def __post_init__(self) -> None:
        if not 0 <= self.interruptions_per_day < 1:
            raise RequestError("interruptions per day is a chance from 0 to below 1", hint="0.15 is 15% a day")
        if self.restart_minutes < 0 or self.checkpoint_minutes < 0:
            raise RequestError("restart and checkpoint times cannot be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotRun:
    """Expected course of a job on spot instances."""

    stretch: float
    """Expected wall time over the time of an undisturbed run without checkpoints; infinite where it never ends."""
    interruptions: float
    checkpoint_interval_hours: float | None
    """Interval that loses least; None where nothing interrupts."""


def expected_run(hours: float, num_instances: int, risk: SpotRisk) -> SpotRun:
    """Expected stretch of ``hours`` of work on ``num_instances`` instances that stop together.

    With M the mean time between interruptions, δ the checkpoint and R the restart time: checkpoints every
    τ = √(2δM) − δ, and T_wall = M e^(R/M) (e^((τ+δ)/M) − 1) T/τ.
    """
    if risk.interruptions_per_day == 0 or hours <= 0:
        return SpotRun(stretch=1.0, interruptions=0.0, checkpoint_interval_hours=None)
    rate = -math.log1p(-float(risk.interruptions_per_day)) / _HOURS_PER_DAY * num_instances
    between = 1 / rate
    checkpoint = float(risk.checkpoint_minutes) / _MINUTES_PER_HOUR
    restart = float(risk.restart_minutes) / _MINUTES_PER_HOUR
    interval = _best_interval(between, checkpoint, hours)
    exponent = restart / between + (interval + checkpoint) / between
    if exponent > math.log(HOPELESS_FACTOR):
        return SpotRun(stretch=math.inf, interruptions=math.inf, checkpoint_interval_hours=interval)
    stretch = between * math.exp(restart / between) * math.expm1((interval + checkpoint) / between) / interval
    return SpotRun(
        stretch=stretch if stretch <= HOPELESS_FACTOR else math.inf,
        interruptions=stretch * hours / between,
        checkpoint_interval_hours=interval,
    )


def _best_interval(between: float, checkpoint: float, hours: float) -> float:
    """Young's interval, at least as long as a checkpoint takes and no longer than the job."""
    young = math.sqrt(2 * checkpoint * between) - checkpoint
    return min(max(young, checkpoint, 1e-3), hours)
