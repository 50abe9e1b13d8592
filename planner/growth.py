"""How far the job of an answer could grow on the hardware that was named for it."""

from __future__ import annotations

from dataclasses import dataclass

from planner.fit import Fit, Verdict
from planner.memory.capacity import Capacity, capacities
from planner.plan import Plan
from planner.quantity import Tier
from planner.request import PlanRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The most sequences at once, and the longest one, by expected memory; each with the other as asked."""

    fit: Fit
    width: Capacity
    length: Capacity


def growth(plan: Plan, request: PlanRequest) -> Growth | None:
    """None where several kinds of GPU were named or none, or where the one named does not hold the job."""
    held = [
        fit
        for fit in plan.fits_of(request)
        if fit.estimate.tier is not Tier.RULE and fit.verdict is not Verdict.DOES_NOT_FIT
    ]
    if plan.model is None or len(request.hardware.gpus) != 1 or not held:
        return None
    fit = held[-1]
    width, length = capacities(plan.model, request.workload, fit.parallelism, fit.gpu)
    return Growth(fit=fit, width=width, length=length)
