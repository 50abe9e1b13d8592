"""A plan ready to be handed over: a request with its GPUs and spread settled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hardware_db.gpu import Gpu
from planner import checks
from planner.answer import named_gpu
from planner.errors import RequestError, UnsupportedError
from planner.fit import Verdict, by_price
from planner.model import registry
from planner.plan import plan_request
from planner.quantity import Tier
from planner.rental import GPUS_PER_MACHINE
from planner.request import Parallelism, PlanRequest, ServingWorkload, TrainingWorkload
from planner.spread import spread_over


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What an exporter writes down."""

    request: PlanRequest
    parallelism: Parallelism
    gpu: Gpu
    model_id: str
    """Hub id or directory to load."""

    @property
    def num_gpus(self) -> int:
        return self.parallelism.num_gpus

    @property
    def num_machines(self) -> int:
        return -(-self.num_gpus // GPUS_PER_MACHINE)

    @property
    def gpus_per_machine(self) -> int:
        return min(self.num_gpus, GPUS_PER_MACHINE)

    @property
    def training(self) -> TrainingWorkload:
        """The training workload; raises UnsupportedError for a serving plan."""
        if not isinstance(self.request.workload, TrainingWorkload):
            raise UnsupportedError("this trainer cannot run a serving plan", hint="export to vllm or sglang")
        return self.request.workload

    @property
    def serving(self) -> ServingWorkload:
        """The serving workload; raises UnsupportedError for a training plan."""
        if not isinstance(self.request.workload, ServingWorkload):
            raise UnsupportedError("this engine cannot run a training plan", hint="export to trl or axolotl")
        return self.request.workload


def _cheapest(request: PlanRequest) -> PlanRequest:
    fits = [
        fit
        for fit in plan_request(request, top=1).fits
        if fit.verdict is Verdict.FITS and fit.estimate.tier is not Tier.RULE and fit.usd_per_hour is not None
    ]
    if not fits:
        raise RequestError("no priced GPU holds this plan", hint="name one with --gpu h100 --num-gpus 8")
    best = min(fits, key=by_price)
    wish = replace(request.hardware, gpus=(best.gpu.id,), num_gpus=best.num_gpus)
    return replace(request, parallelism=best.parallelism, hardware=wish)


def loaded_as(name: str, shape_of: str) -> str:
    """The hub id or directory with the weights of ``name``; ``shape_of`` names the model that lends its shape.

    Tuned models share the registry's entry of their base model and are still other weights.
    """
    asked = name.strip()
    entry = registry.find(asked)
    if entry is not None:
        ids = (entry.id, *(alias for alias in entry.aliases if "/" in alias))
        spelled = (found for found in ids if asked.lower() in (found.lower(), found.rpartition("/")[2].lower()))
        return next(spelled, entry.id)
    path = Path(asked).expanduser()
    if path.exists():
        return str(path if path.is_dir() else path.parent)
    return asked if "/" in asked else shape_of


def choose(request: PlanRequest) -> Chosen:
    """Settle GPU and spread of a request; the settled request is what files carry.

    Where no GPU is named, the cheapest that holds the plan is taken.
    """
    checks.check_request(request)
    wish = request.hardware
    resolved = registry.resolve(request.model)
    if resolved.architecture is None:
        raise UnsupportedError(
            "only the size of the model is known, and its shapes decide", hint="name a model with --model"
        )
    if not wish.gpus:
        request = _cheapest(request)
        wish = request.hardware
    if len(wish.gpus) != 1:
        raise RequestError("one kind of GPU is needed", hint="add --gpu h100 --num-gpus 8")
    gpu = named_gpu(wish.gpus[0])
    parallelism = request.parallelism
    if parallelism is None:
        parallelism = spread_over(wish.num_gpus or 1, request.workload, resolved.architecture)
        if parallelism is None:
            raise RequestError(f"{request.model} cannot be cut over {wish.num_gpus} GPUs", hint="name fewer GPUs")
    settled = replace(
        request,
        parallelism=parallelism,
        hardware=replace(wish, gpus=(gpu.id,), num_gpus=parallelism.num_gpus),
    )
    return Chosen(
        request=settled,
        parallelism=parallelism,
        gpu=gpu,
        model_id=loaded_as(request.model, resolved.architecture.name),
    )
