"""Does a workload fit a GPU, with how much to spare, and what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from hardware_db.gpu import Gpu
from hardware_db.offer import Offer
from planner import spread
from planner.estimate import Estimate
from planner.model.architecture import ModelArchitecture
from planner.rental import cheapest_rental, is_wished
from planner.request import HardwareWish, Parallelism, ServingWorkload, TrainingWorkload

Estimator = Callable[[Parallelism, Gpu | None], Estimate]
"""Device memory of the worst rank under a spread, on a kind of GPU or on none in particular."""
OffersOf = Callable[[Gpu], Sequence[Offer]]


class Verdict(StrEnum):
    """FITS: even the high end fits. TIGHT: the expectation fits, the high end does not."""

    FITS = "FITS"
    TIGHT = "TIGHT"
    DOES_NOT_FIT = "DOES_NOT_FIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One workload on ``num_gpus`` GPUs of one kind."""

    task: str
    method: str
    gpu: Gpu
    num_gpus: int
    parallelism: Parallelism
    verdict: Verdict
    headroom_bytes: int
    """Memory of one GPU less the expected device peak of the worst rank; negative when it does not fit."""
    limiting_term: str
    """Label of the largest term at the peak."""
    estimate: Estimate
    offer: Offer | None
    """Cheapest usable offer that holds ``num_gpus`` GPUs; None when no price is known."""
    num_instances: int = 1
    """Instances of ``offer`` to rent."""

    @property
    def usd_per_hour(self) -> Decimal | None:
        """Price of the whole rental; None when no price is known."""
        return None if self.offer is None else self.offer.usd_per_hour * self.num_instances


def verdict(estimate: Estimate, gpu: Gpu) -> Verdict:
    """The interval of one rank against the memory the driver reports."""
    if estimate.high_bytes <= gpu.memory_bytes:
        return Verdict.FITS
    return Verdict.TIGHT if estimate.expected_bytes <= gpu.memory_bytes else Verdict.DOES_NOT_FIT


def fit_of(
    estimate: Estimate, gpu: Gpu, parallelism: Parallelism, *, offers: Sequence[Offer], wish: HardwareWish
) -> Fit:
    """The verdict of an estimate on one kind of GPU, priced by the cheapest of ``offers`` that meets ``wish``."""
    rental = cheapest_rental(offers, parallelism.num_gpus, wish)
    return Fit(
        task=estimate.task,
        method=estimate.method,
        gpu=gpu,
        num_gpus=parallelism.num_gpus,
        parallelism=parallelism,
        verdict=verdict(estimate, gpu),
        headroom_bytes=gpu.memory_bytes - estimate.expected_bytes,
        limiting_term=max(estimate.terms, key=lambda term: term.size_bytes).label if estimate.terms else "",
        estimate=estimate,
        offer=rental.offer if rental else None,
        num_instances=rental.num_instances if rental else 1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitter:
    """One workload of one model, ready to be tried on GPUs."""

    workload: TrainingWorkload | ServingWorkload
    model: ModelArchitecture
    estimator: Estimator
    offers_of: OffersOf
    wish: HardwareWish

    def on(self, gpu: Gpu, parallelism: Parallelism) -> Fit:
        estimate = self.estimator(parallelism, gpu)
        return fit_of(estimate, gpu, parallelism, offers=self.offers_of(gpu), wish=self.wish)

    def on_count(self, gpu: Gpu, num_gpus: int) -> Fit | None:
        """The plain spread over ``num_gpus``; None where the model cannot be cut so."""
        parallelism = spread.spread_over(num_gpus, self.workload, self.model)
        return None if parallelism is None else self.on(gpu, parallelism)

    def smallest(self, gpu: Gpu) -> tuple[Fit, ...]:
        """The smallest counts that hold the workload: the first TIGHT one, if any, and the first that FITS.

        Empty where no count helps: what every rank holds alike is already too much.
        """
        found: list[Fit] = []
        for level in (Verdict.TIGHT, Verdict.FITS):
            fit = self._first(gpu, level)
            if fit is not None and all(fit.num_gpus != other.num_gpus for other in found):
                found.append(fit)
        return tuple(found)

    def _first(self, gpu: Gpu, level: Verdict) -> Fit | None:
        accepted = (Verdict.FITS,) if level is Verdict.FITS else (Verdict.FITS, Verdict.TIGHT)
        num_gpus = self._fewest(lambda count: self._verdict_on(gpu, count) in accepted)
        return None if num_gpus is None else self.on_count(gpu, num_gpus)

    def _verdict_on(self, gpu: Gpu, num_gpus: int) -> Verdict | None:
        parallelism = spread.spread_over(num_gpus, self.workload, self.model)
        return None if parallelism is None else verdict(self.estimator(parallelism, gpu), gpu)

    def _fewest(self, holds: Callable[[int], bool]) -> int | None:
        """The smallest count that ``holds``: within one machine one by one, then by bisection over machines."""
        limit = self.wish.max_gpus

        def attempt(num_gpus: int) -> bool:
            return (limit is None or num_gpus <= limit) and holds(num_gpus)

        for num_gpus in spread.counts_in_one_machine(self.workload, self.model):
            if attempt(num_gpus):
                return num_gpus
        size = spread.machine_size(self.workload, self.model)
        most = spread.max_machines(self.workload, self.model)
        low, high = 1, 2  # in machines; low is known not to hold
        while not attempt(min(high, most) * size):
            if high >= most or (limit is not None and high * size > limit):
                return None
            low, high = high, high * 2
        high = min(high, most)
        while high - low > 1:
            middle = (low + high) // 2
            if attempt(middle * size):
                high = middle
            else:
                low = middle
        return high * size

    def cheapest(self, gpus: Sequence[Gpu], top: int) -> tuple[Fit, ...]:
        """The ``top`` kinds of GPU that hold the workload for the least money, by dollars per hour.

        Kinds whose weights alone already cost more than the best found are not tried: the ranks together hold at
        least the whole of the weights, and no rental costs less than its cheapest GPU times the number needed.
        """
        found: list[tuple[Decimal, tuple[Fit, ...]]] = []
        for bound, gpu in sorted(self._bounds(gpus), key=lambda pair: pair[0]):
            if len(found) >= top and bound >= found[top - 1][0]:
                break
            fits = [fit for fit in self.smallest(gpu) if is_affordable(fit, self.wish)]
            if fits and (price := fits[-1].usd_per_hour) is not None:
                saving = tuple(fit for fit in fits[:-1] if by_price(fit) < by_price(fits[-1]))
                found.append((price, (*saving, fits[-1])))
                found.sort(key=lambda pair: pair[0])
        return tuple(fit for _, fits in found[:top] for fit in fits)

    def _bounds(self, gpus: Sequence[Gpu]) -> list[tuple[Decimal, Gpu]]:
        """The least each kind of GPU can cost; kinds without an offer are left out."""
        bounds = []
        for gpu in gpus:
            offers = [offer for offer in self.offers_of(gpu) if is_wished(offer, self.wish)]
            if not offers:
                continue
            terms = self.estimator(Parallelism(), gpu).terms
            weights_bytes = sum(term.size_bytes for term in terms if term.kind == "weights")
            fewest = max(1, -(-weights_bytes // gpu.memory_bytes))
            bounds.append((fewest * min(offer.usd_per_gpu_hour for offer in offers), gpu))
        return bounds


def is_affordable(fit: Fit, wish: HardwareWish) -> bool:
    """Whether the rental meets ``max_usd_per_hour``; an unknown price never does."""
    limit = wish.max_usd_per_hour
    return limit is None or (fit.usd_per_hour is not None and fit.usd_per_hour <= limit)


def by_price(fit: Fit) -> tuple[bool, Decimal, int]:
    """Sort key: cheapest first, unpriced last, larger headroom before smaller."""
    price = fit.usd_per_hour
    return price is None, price or Decimal(0), -fit.headroom_bytes
