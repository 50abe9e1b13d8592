"""How long a job takes on GPUs that hold it: from a request to hours."""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import RequestError, UnsupportedError
from planner.fit import Fit, Verdict
from planner.model.architecture import ModelArchitecture
from planner.plan import Plan, plan_requests
from planner.quantity import Tier
from planner.request import PlanRequest
from planner.speeds import speed_of
from planner.throughput import Range, ServingThroughput, Throughput
from planner.units import HOURS_PER_MONTH, SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request on one fit, with its length; tokens count every epoch, and are output tokens when serving."""

    fit: Fit
    model: ModelArchitecture
    tokens_per_s: Range
    """Of the whole job."""
    num_tokens: int
    hours: Range


def jobs(
    request: PlanRequest, *, num_tokens: int | None = None, hours: float | None = None
) -> tuple[tuple[Job, ...], Plan]:
    """The request on each kind of GPU that holds it, the plan's order kept, and the plan itself.

    Without GPUs in the wish the plan's best fit is taken. Training takes ``num_tokens`` or ``hours``; serving runs
    for a month unless told otherwise.
    """
    plan = plan_requests((request,))
    if plan.model is None:
        raise UnsupportedError(
            "the speed of a model known by its size alone is not modelled", hint="name a --model"
        )
    holding = [
        fit for fit in plan.fits if fit.estimate.tier is not Tier.RULE and fit.verdict is not Verdict.DOES_NOT_FIT
    ]
    chosen = holding if request.hardware.gpus else holding[:1]
    return tuple(_job(fit, plan.model, request, num_tokens, hours) for fit in chosen), plan


def _job(
    fit: Fit, model: ModelArchitecture, request: PlanRequest, num_tokens: int | None, hours: float | None
) -> Job:
    speed = speed_of(model, request.workload, fit.parallelism, fit.gpu, calibrated=request.calibrated)
    return job_at(speed, fit, model, num_tokens=num_tokens, hours=hours)


def job_at(
    speed: Throughput, fit: Fit, model: ModelArchitecture, *, num_tokens: int | None, hours: float | None = None
) -> Job:
    """A job that runs at ``speed``: ``num_tokens`` of it, or ``hours``; serving without either a month."""
    if isinstance(speed, ServingThroughput):
        rate = speed.output_tokens_per_s
        hours = hours if hours is not None or num_tokens is not None else HOURS_PER_MONTH
    else:
        rate = speed.tokens_per_s
    if num_tokens is not None:
        length = rate.over(num_tokens / SECONDS_PER_HOUR)
        return Job(fit=fit, model=model, tokens_per_s=rate, num_tokens=num_tokens, hours=length)
    if hours is None:
        raise RequestError("how much is trained is missing", hint="--tokens 2.4M --epochs 3, or --hours 10")
    if not 0 < hours < float("inf"):
        raise RequestError("a job takes more than zero hours", hint="--hours 2.5")
    tokens = max(1, round(rate.expected * hours * SECONDS_PER_HOUR))
    return Job(
        fit=fit,
        model=model,
        tokens_per_s=rate,
        num_tokens=tokens,
        hours=Range(low=hours, expected=hours, high=hours),
    )
