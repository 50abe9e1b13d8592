"""How fast the GPUs of a plan work, and what that makes of a job of known length."""

from __future__ import annotations

from dataclasses import replace

from hardware_db.gpu import Gpu
from planner import calibration_file
from planner.errors import UnsupportedError
from planner.fit import Fit, JobLength, Verdict
from planner.model.architecture import ModelArchitecture
from planner.pace import paced
from planner.plan import Plan, num_tokens
from planner.quantity import Tier
from planner.request import Parallelism, ServingWorkload, TrainingWorkload
from planner.throughput import Throughput, TrainingThroughput, throughput


def with_speeds(plan: Plan) -> Plan:
    """The plan with the speed of each fit it is told for; where it is not known a warning says why."""
    warnings = list(plan.warnings)
    fits = []
    for fit in plan.fits:
        try:
            speed = _speed(plan, fit)
        except UnsupportedError as error:
            warnings.append(error.message)
            speed = None
        fits.append(replace(fit, speed=speed, job=_job(plan, fit, speed)))
    return replace(plan, fits=tuple(fits), warnings=tuple(dict.fromkeys(warnings)))


def speed_of(
    architecture: ModelArchitecture, workload: TrainingWorkload | ServingWorkload, parallelism: Parallelism,
    gpu: Gpu, *, calibrated: bool = True,
) -> Throughput:  # fmt: skip
    """As ``throughput``, corrected by what was measured; raises as it does."""
    speed = throughput(architecture, workload, parallelism, gpu)
    return paced(speed, workload, gpu, calibration_file.load().paces) if calibrated else speed


def _speed(plan: Plan, fit: Fit) -> Throughput | None:
    request = plan.request_of(fit)
    runs = fit.estimate.tier is not Tier.RULE and fit.verdict is not Verdict.DOES_NOT_FIT
    if plan.model is None or not runs or not plan.is_detailed(request):
        return None
    return speed_of(plan.model, request.workload, fit.parallelism, fit.gpu, calibrated=request.calibrated)


def _job(plan: Plan, fit: Fit, speed: Throughput | None) -> JobLength | None:
    tokens = num_tokens(plan.request_of(fit))
    if tokens is None or not isinstance(speed, TrainingThroughput):
        return None
    hours, price = speed.hours(tokens), fit.usd_per_hour
    return JobLength(num_tokens=tokens, hours=hours, usd=None if price is None else hours.scaled(float(price)))
