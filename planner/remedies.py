"""What to change where the hardware named does not hold the job, judged as the answer itself is."""

from __future__ import annotations

from dataclasses import replace

from hardware_db.gpu import Gpu
from planner import calibration_file
from planner.advice import Advice, advise
from planner.answer import estimator
from planner.changes import Workload
from planner.fit import Verdict
from planner.memory.estimate import Estimate
from planner.model.architecture import ModelArchitecture
from planner.plan import Plan, Remedy
from planner.quantity import Tier
from planner.request import Parallelism, PlanRequest


def with_remedies(plan: Plan, *, savings: bool = False) -> Plan:
    """The plan with advice on each fit that is tight or none; with ``savings`` on those that hold as well.

    Only for answers about one task, on hardware that is named.
    """
    model = plan.model
    if model is None:
        return plan
    found = []
    for fit in plan.fits:
        request = plan.request_of(fit)
        wanted = fit.estimate.tier is not Tier.RULE and (savings or fit.verdict is not Verdict.FITS)
        if wanted and request.hardware.gpus and plan.is_detailed(request):
            found.append(Remedy(fit=fit, advice=advise_on(request, model, fit.parallelism, fit.gpu)))
    return replace(plan, remedies=tuple(found))


def advise_on(request: PlanRequest, model: ModelArchitecture, spread: Parallelism, gpu: Gpu) -> Advice:
    """Advice for a request; its memory and that of every change is calibrated where the answer's is.

    Raises UnsupportedError where its memory is not modelled.
    """
    learnt = calibration_file.load() if request.calibrated else None

    def estimated(workload: Workload, changed: Parallelism) -> Estimate:
        return estimator(replace(request, workload=workload), model, learnt)(changed, gpu)

    return advise(model, request.workload, spread, gpu, estimated=estimated)
