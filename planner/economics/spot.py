"""How much longer a job runs on instances that may be taken away."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from planner.citation import Citation
from planner.economics import assumptions
from planner.errors import RequestError
from planner.units import HOURS_PER_DAY

SOURCE = Citation(
    title="Daly (2006), complete model of restart dumps, with the interval of Young (1974)",
    url="https://doi.org/10.1016/j.future.2004.11.016",
)
FORMULA = "T' = M e^(R/M) (e^((τ+δ)/M) − 1) T/τ with τ = √(2δM) − δ"
_MINUTES_PER_HOUR = 60
_SHORTEST_INTERVAL_HOURS = 0.001
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
    """Interval that loses least; None where starting over is cheaper than saving, or nothing interrupts."""


def expected_run(hours: float, num_instances: int, risk: SpotRisk) -> SpotRun:
    """Expected stretch of ``hours`` of work on ``num_instances`` instances that stop together.

    M is the mean time between interruptions, δ the checkpoint and R the restart time. A long job saves every
    τ = √(2δM) − δ: T' = M e^(R/M) (e^((τ+δ)/M) − 1) T/τ. A short one starts over: T' = M e^(R/M) (e^(T/M) − 1).
    """
    if risk.interruptions_per_day == 0 or hours <= 0:
        return SpotRun(stretch=1.0, interruptions=0.0, checkpoint_interval_hours=None)
    rate = -math.log1p(-float(risk.interruptions_per_day)) / HOURS_PER_DAY * num_instances
    between = 1 / rate
    checkpoint = float(risk.checkpoint_minutes) / _MINUTES_PER_HOUR
    restart = float(risk.restart_minutes) / _MINUTES_PER_HOUR
    interval = max(math.sqrt(2 * checkpoint * between) - checkpoint, checkpoint, _SHORTEST_INTERVAL_HOURS)
    saving = _stretch(interval + checkpoint, interval, between, restart)
    starting_over = _stretch(hours, hours, between, restart)
    stretch = min(saving, starting_over)
    return SpotRun(
        stretch=stretch if stretch <= HOPELESS_FACTOR else math.inf,
        interruptions=stretch * hours / between,
        checkpoint_interval_hours=interval if saving < starting_over else None,
    )


def _stretch(exposed: float, gained: float, between: float, restart: float) -> float:
    """Expected hours per hour gained, when ``exposed`` hours must pass undisturbed to gain ``gained`` of them."""
    if (exposed + restart) / between > math.log(HOPELESS_FACTOR) * 2:
        return math.inf
    return between * math.exp(restart / between) * math.expm1(exposed / between) / gained
