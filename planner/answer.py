"""One request about one model, answered: its rules of thumb, its estimate, and the GPUs that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hardware_db import catalog
from hardware_db.gpu import Gpu
from planner.bits import BITS
from planner.calibration import Calibration
from planner.dtypes import weight_format
from planner.errors import RequestError, UnknownNameError, UnsupportedError
from planner.fit import Estimator, Fit, Fitter, Verdict, by_price, fit_of, is_affordable
from planner.memory import engine, rule
from planner.memory.estimate import Estimate
from planner.memory.runtime import generation
from planner.model.architecture import ModelArchitecture
from planner.rental import cheapest_rental
from planner.request import HardwareWish, Parallelism, PlanRequest, ServingWorkload, TrainingWorkload
from planner.spread import spread_over
from planner.units import format_gib

REFERENCE_GPUS = ("a100-sxm4-80gb",)
"""Always answered for beside the cheapest: the card the founding documents reason with."""
MIN_COMPUTE_CAPABILITY = (7, 0)
"""Older cards are answered for only when named: current torch builds carry no kernels for them
(https://github.com/pytorch/pytorch/blob/main/RELEASE.md, CUDA support matrix)."""
MODELLED_VENDORS = ("NVIDIA", "AMD")
"""PyTorch's CUDA and ROCm builds share the caching allocator and the libraries' workspaces that are modelled."""
POOLING_ENGINES = ("vllm", "sglang")
"""Engines that claim a share of the whole card, so that its size decides what they use."""


def rules(workload: TrainingWorkload | ServingWorkload, num_params: int) -> tuple[Estimate, ...]:
    """What the founding documents say of this workload; empty where they are silent (adapters, odd widths)."""
    if isinstance(workload, ServingWorkload):
        bits = bits_of(workload.weight_dtype)
        return () if bits is None else (rule.serving(num_params, bits),)
    if workload.method != "full":
        return ()
    return rule.training(num_params), rule.pessimistic_training(num_params)


def bits_of(weight_dtype: str) -> str | None:
    """The ``--bits`` a storage format counts as in the rule of thumb; None where the documents name none."""
    found = weight_format(weight_dtype)
    bits = "1.58" if found.scheme == "bitnet" else str(found.bits)
    return bits if bits in BITS else None


def estimator(request: PlanRequest, model: ModelArchitecture, calibration: Calibration | None) -> Estimator:
    """Device memory of the worst rank, calibrated where allowed; kinds of GPU that count alike are asked once."""

    likenesses: dict[str | None, object] = {}

    def likeness(gpu: Gpu | None) -> object:
        name = gpu.id if gpu else None
        if name not in likenesses:
            learnt = calibration and calibration.likeness(calibration.target_of(request, gpu))
            likenesses[name] = _traits(request.workload, gpu), learnt
        return likenesses[name]

    known: dict[object, Estimate] = {}
    raw: dict[object, Estimate] = {}

    def estimate(parallelism: Parallelism, gpu: Gpu | None) -> Estimate:
        key = (parallelism, likeness(gpu))
        if key not in known:
            traits = (parallelism, _traits(request.workload, gpu))
            if traits not in raw:
                raw[traits] = engine.estimate(model, request.workload, parallelism, gpu)
            known[key] = raw[traits]
            if calibration is not None:
                known[key] = calibration.apply(raw[traits], replace(request, parallelism=parallelism), gpu)
        return known[key]

    return estimate


def _traits(workload: TrainingWorkload | ServingWorkload, gpu: Gpu | None) -> object:
    """GPUs of equal traits have equal breakdowns; engines that pool claim a share of the whole card."""
    pools = isinstance(workload, ServingWorkload) and workload.engine in POOLING_ENGINES
    return generation(gpu), gpu.memory_bytes if pools and gpu is not None else None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The walk of one request; ``gpus`` are the kinds named, none meaning any."""

    request: PlanRequest
    model: ModelArchitecture
    gpus: tuple[Gpu, ...]
    calibration: Calibration | None
    top: int

    @cached_property
    def _estimator(self) -> Estimator:
        return estimator(self.request, self.model, self.calibration)

    @cached_property
    def fitter(self) -> Fitter:
        """The request, ready to be tried on GPUs."""
        return Fitter(
            workload=self.request.workload,
            model=self.model,
            estimator=self._estimator,
            offers_of=lambda gpu: catalog.offers_for(gpu.id),
            wish=self.request.hardware,
        )

    @cached_property
    def fixed(self) -> Parallelism | None:
        """The spread where the request leaves no choice of it."""
        count = self.request.hardware.num_gpus
        if self.request.parallelism is not None or count is None:
            return self.request.parallelism
        spread = spread_over(count, self.request.workload, self.model)
        if spread is None:
            raise RequestError(
                f"{self.model.name} cannot be cut over {count} GPUs", hint="name fewer, or --tp and --pp"
            )
        return spread

    def estimate(self) -> Estimate:
        """The estimate to head the answer: on the GPU named, or on one rank of no particular GPU."""
        if self.gpus:
            held = [fit for fit in self.fits if fit.gpu == self.gpus[0]]
            if held:
                return held[-1].estimate
        return self._estimator(self.fixed or Parallelism(), self.gpus[0] if self.gpus else None)

    @cached_property
    def fits(self) -> tuple[Fit, ...]:
        """Of each named kind the smallest count that holds the request (or the verdict of the count asked for);
        with none named, the kinds that do it for the least money and the reference card. Within the budget."""
        return tuple(
            fit
            for fit in self._of_any_price
            if fit.verdict is Verdict.DOES_NOT_FIT or is_affordable(fit, self.request.hardware)
        )

    @cached_property
    def _of_any_price(self) -> tuple[Fit, ...]:
        if self.gpus:
            return tuple(fit for gpu in self.gpus for fit in self.on(gpu))
        if self.fixed is not None:
            return self._cheapest_of_fixed(pool(self.request))
        found = self.fitter.cheapest(pool(self.request), self.top)
        seen = {fit.gpu.id for fit in found}
        references = (named_gpu(name) for name in REFERENCE_GPUS)
        beside = (gpu for gpu in references if gpu.id not in seen and meets(gpu, self.request.hardware))
        return found + tuple(fit for gpu in beside for fit in self.on(gpu))

    def why_nothing_holds(self) -> tuple[str, ...]:
        """The nearest miss in one line, where nothing holds the request within the wish; else empty."""
        if any(fit.verdict is not Verdict.DOES_NOT_FIT for fit in self.fits):
            return ()
        wish = self.request.hardware
        what = " ".join(filter(None, (self.request.task, self.fits[0].method if self.fits else "")))
        if wish.max_usd_per_hour is not None:
            free = replace(self.request, hardware=replace(wish, max_usd_per_hour=None))
            dearer = [fit for fit in replace(self, request=free, top=1).fits if fit.usd_per_hour is not None]
            held = [fit for fit in dearer if fit.verdict is not Verdict.DOES_NOT_FIT]
            if held:
                best = min(held, key=by_price)
                return (
                    f"{best.task}: nothing holds it for {wish.max_usd_per_hour} USD/h; the cheapest that does is"
                    f" {best.num_gpus} x {best.gpu.name} at {best.usd_per_hour:.2f} USD/h",
                )
        if not self.fits:
            return (f"{what}: no priced GPU holds it within the limits",)
        nearest = max(self.fits, key=lambda fit: fit.headroom_bytes)
        return (
            f"{what} does not fit {nearest.num_gpus} x {nearest.gpu.name}:"
            f" {format_gib(-nearest.headroom_bytes)} short on each, most of it {nearest.limiting_term}",
        )

    def on(self, gpu: Gpu) -> tuple[Fit, ...]:
        """The smallest counts of one kind that hold the request, or the nearest miss; may be empty."""
        if gpu.vendor not in MODELLED_VENDORS:
            raise UnsupportedError(
                f"{gpu.name} runs none of the software that is modelled", hint="NVIDIA and AMD GPUs are"
            )
        if self.fixed is not None:
            return (self.fitter.on(gpu, self.fixed),)
        found = self.fitter.smallest(gpu)
        if found:
            return found
        most = self.request.hardware.max_gpus or 1
        attempt = self.fitter.on_count(gpu, most)
        return () if attempt is None else (attempt,)

    def _cheapest_of_fixed(self, gpus: Sequence[Gpu]) -> tuple[Fit, ...]:
        assert self.fixed is not None
        tried = [self.fitter.on(gpu, self.fixed) for gpu in gpus]
        held = [
            fit
            for fit in tried
            if fit.verdict is not Verdict.DOES_NOT_FIT and is_affordable(fit, self.request.hardware)
        ]
        if held:
            return tuple(sorted(held, key=by_price)[: self.top])
        return tuple(sorted(tried, key=lambda fit: -fit.headroom_bytes)[:1])


def meets(gpu: Gpu, wish: HardwareWish) -> bool:
    """Whether a kind of GPU is as large as wished, and offered where a provider or a region is named."""
    if gpu.memory_bytes < (wish.min_memory_bytes or 0):
        return False
    return not (wish.providers or wish.regions) or cheapest_rental(catalog.offers_for(gpu.id), 1, wish) is not None


def pool(request: PlanRequest) -> tuple[Gpu, ...]:
    """The kinds of GPU considered when none is named: CUDA cards that current software runs the workload on."""
    bf16 = request.workload.compute_dtype == "bf16"
    return tuple(
        gpu
        for gpu in catalog.all_gpus()
        if gpu.is_cuda
        and meets(gpu, request.hardware)
        and not (bf16 and gpu.supports_bf16 is False)
        and (gpu.compute_capability is None or gpu.compute_capability >= MIN_COMPUTE_CAPABILITY)
    )


def fits_by_rule(by_rule: Estimate, request: PlanRequest, gpus: Sequence[Gpu]) -> tuple[Fit, ...]:
    """How many of each kind hold the rule's bytes, as the documents count: total over memory, rounded up."""
    found = []
    for gpu in gpus:
        count = request.hardware.num_gpus or rule.gpus_needed(by_rule.expected_bytes, gpu.memory_bytes)
        share = -(-by_rule.expected_bytes // count)
        on_one = replace(by_rule, low_bytes=share, expected_bytes=share, high_bytes=share, num_gpus=count)
        offers = catalog.offers_for(gpu.id)
        found.append(fit_of(on_one, gpu, _plain_spread(request, count), offers=offers, wish=request.hardware))
    return tuple(found)


def _plain_spread(request: PlanRequest, num_gpus: int) -> Parallelism:
    training = isinstance(request.workload, TrainingWorkload)
    return Parallelism(dp_shard=num_gpus) if training else Parallelism(tp=num_gpus)


def named_gpu(name: str) -> Gpu:
    """The GPU of this name; raises UnknownNameError with near misses."""
    try:
        return catalog.find_gpu(name)
    except catalog.UnknownGpuError as error:
        near = " or ".join(error.suggestions[:3])
        raise UnknownNameError(
            f"there is no GPU {name[:60]!r}", hint=f"did you mean {near}?" if near else "plan gpus lists all"
        ) from error
