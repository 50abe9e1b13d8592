"""From request to plan: the one walk every front end takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hardware_db import catalog
from planner import calibration_file, checks, doubts, vocabulary
from planner.answer import REFERENCE_GPUS, Answer, fits_by_rule, named_gpu, rules
from planner.dtypes import weight_format
from planner.errors import RequestError, UnsupportedError
from planner.fit import Fit, Verdict
from planner.memory import rule
from planner.memory.estimate import Estimate
from planner.model import registry
from planner.model.architecture import ModelArchitecture
from planner.quantity import Tier
from planner.rental import check_wish
from planner.request import HardwareWish, PlanRequest, ServingWorkload, TrainingWorkload

if TYPE_CHECKING:
    from planner.advice import Advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """Advice about one fit of a plan."""

    fit: Fit
    advice: Advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole answer to one or more requests about one model."""

    requests: tuple[PlanRequest, ...]
    model: ModelArchitecture | None
    """None where only a parameter count is known."""
    num_params_named: int
    """Parameters as the model is named (70B -> 70e9): the P of the rule tier."""
    estimates: tuple[Estimate, ...]
    fits: tuple[Fit, ...]
    warnings: tuple[str, ...]
    remedies: tuple[Remedy, ...] = ()
    """Told by ``planner.remedies`` where hardware is named."""

    def estimates_of(self, request: PlanRequest) -> tuple[Estimate, ...]:
        """Estimates and rules about one of the requests."""
        return tuple(item for item in self.estimates if _is_about(request, item.task, item.method))

    def fits_of(self, request: PlanRequest) -> tuple[Fit, ...]:
        """Fits of one of the requests, those by rule among them."""
        return tuple(item for item in self.fits if _is_about(request, item.task, item.method))

    def request_of(self, fit: Fit) -> PlanRequest:
        """The request a fit answers."""
        return next(request for request in self.requests if _is_about(request, fit.task, fit.method))

    def is_detailed(self, request: PlanRequest) -> bool:
        """Whether speed is told: where one task is asked about, or the length of the job is named."""
        one_task = len({request.task for request in self.requests}) == 1
        return self.model is not None and (one_task or num_tokens(request) is not None)

    @property
    def meets_the_wish(self) -> bool:
        """False where hardware or a budget was named and nothing that was asked fits it."""
        wished = any(request.hardware != HardwareWish() for request in self.requests)
        rule_only = all(estimate.tier is Tier.RULE for estimate in self.estimates)
        fits = [fit for fit in self.fits if rule_only or fit.estimate.tier is not Tier.RULE]
        return not wished or any(fit.verdict is not Verdict.DOES_NOT_FIT for fit in fits)


def num_tokens(request: PlanRequest) -> int | None:
    """Tokens of the whole training job; None where its length is not named."""
    return request.workload.trained_tokens if isinstance(request.workload, TrainingWorkload) else None


def _is_about(request: PlanRequest, task: str, method: str) -> bool:
    if task != request.task:
        return False
    return not isinstance(request.workload, TrainingWorkload) or request.workload.method == method


def overview_requests(
    base: PlanRequest, serving: ServingWorkload, training: TrainingWorkload | None
) -> tuple[tuple[PlanRequest, ...], tuple[str, ...]]:
    """Serving, adapters and, where the weights take gradients, full fine-tuning; and why the rest is refused.

    ``training`` None: the weights are for inference only.
    """
    requests = [replace(base, workload=serving)]
    if training is None:
        return tuple(requests), (
            f"{serving.weight_dtype} weights are for inference: train at 16 bits, or QLoRA at 4",
        )
    stored = weight_format(training.weight_dtype)
    method = "qlora" if stored.is_quantised else "lora"
    requests.append(replace(base, workload=replace(training, method=method)))
    if stored.full_fine_tuning:
        requests.append(replace(base, workload=replace(training, method="full")))
        return tuple(requests), ()
    refusal = (
        f"full fine-tuning of {stored.name} weights is refused, quantised weights take no gradient:"
        " train adapters (QLoRA), or the whole model at --bits 16"
    )
    return tuple(requests), (refusal,)


def compute_dtype_of(weight_dtype: str) -> str:
    """What arithmetic runs in unless asked otherwise: plain weights in their own dtype, packed ones in bf16."""
    name = weight_format(weight_dtype).name
    return name if name in vocabulary.COMPUTE_DTYPES else "bf16"


def plan_request(request: PlanRequest, *, top: int = 5) -> Plan:
    """The answer to one request; raises PlannerError where it cannot be answered."""
    return plan_requests((request,), top=top)


def plan_requests(requests: Sequence[PlanRequest], *, rule_only: bool = False, top: int = 5) -> Plan:
    """The answers to requests about one model on one wish for hardware.

    Of several requests one that is not modelled becomes a warning; a single one raises UnsupportedError.
    """
    if not requests:
        raise RequestError("nothing is asked")
    for request in requests:
        checks.check_request(request)
    if requests[0].hardware.providers or requests[0].hardware.regions:
        check_wish(catalog.all_offers(), requests[0].hardware)
    gpus = tuple(named_gpu(name) for name in requests[0].hardware.gpus)
    resolved = registry.resolve(requests[0].model)
    model = resolved.architecture
    learnt = calibration_file.load() if requests[0].calibrated and model is not None and not rule_only else None
    warnings = [*resolved.notes, *doubts.of_names(requests[0].hardware.gpus)]
    estimates: list[Estimate] = []
    fits: list[Fit] = []
    for request in requests:
        of_rules = rules(request.workload, resolved.num_params_named)
        estimates += of_rules
        own: tuple[Fit, ...] = ()
        if model is not None and not rule_only:
            warnings += checks.check_request(request, model)
            answer = Answer(request=request, model=model, gpus=gpus, calibration=learnt, top=top)
            try:
                own = answer.fits
                estimates.append(answer.estimate())
            except UnsupportedError as error:
                if len(requests) == 1:
                    raise
                warnings.append(f"{error.message} ({error.hint})" if error.hint else error.message)
            else:
                warnings += answer.why_nothing_holds()
        fits += own
        kinds = gpus or (*dict.fromkeys(fit.gpu for fit in own), *(named_gpu(name) for name in REFERENCE_GPUS))
        fits += [
            fit for by_rule in of_rules[:1] for fit in fits_by_rule(by_rule, request, tuple(dict.fromkeys(kinds)))
        ]
    if len(requests) > 1:
        estimates += _closing_rules(resolved.num_params_named, estimates)
    return Plan(
        requests=tuple(requests),
        model=model,
        num_params_named=resolved.num_params_named,
        estimates=tuple(estimates),
        fits=tuple(fits),
        warnings=tuple(dict.fromkeys((*warnings, *doubts.of_fits(requests, fits), *catalog.price_problems()))),
    )


def _closing_rules(num_params: int, told: Sequence[Estimate]) -> list[Estimate]:
    """What the documents say at full precision beside the requests of an overview."""
    rules_at_32_bits = (
        rule.stored_weights(num_params),
        rule.training(num_params),
        rule.pessimistic_training(num_params),
    )
    return [estimate for estimate in rules_at_32_bits if estimate not in told]
