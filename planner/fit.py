"""Does a workload fit a GPU, with how much to spare, and what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from hardware_db.gpu import Gpu
from hardware_db.offer import Offer
from planner.memory.estimate import Estimate
from planner.model.architecture import ModelArchitecture
from planner.rental import cheapest_rental
from planner.request import HardwareWish, Parallelism, ServingWorkload, TrainingWorkload
from planner.spread import counts_in_one_machine, machine_size, max_machines, spread_over

if TYPE_CHECKING:
    from planner.throughput import Range, Throughput

Estimator = Callable[[Parallelism, Gpu | None], Estimate]
"""Device memory of the worst rank under a spread, on a kind of GPU or on none in particular."""


class Size(NamedTuple):
    """Device memory of the worst rank, in bytes."""

    low_bytes: int
    expected_bytes: int
    high_bytes: int


SizeOf = Callable[[Gpu, int], Size | None]
"""Size over a number of GPUs of one kind in the plain spread; None where the model cannot be cut so."""
OffersOf = Callable[[Gpu], Sequence[Offer]]


class Verdict(StrEnum):
    """FITS: even the high end fits. TIGHT: the expectation fits, the high end does not."""

    FITS = "FITS"
    TIGHT = "TIGHT"
    DOES_NOT_FIT = "DOES_NOT_FIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLength:
    """A training job of ``num_tokens``, every epoch counted, on the GPUs of one fit."""

    num_tokens: int
    hours: Range
    usd: Range | None
    """Hours at the price of the whole rental; None where no price is known."""


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
    speed: Throughput | None = None
    """Told by ``planner.speeds``; None where nobody asked, it does not fit, or the GPU's rates are not known."""
    job: JobLength | None = None
    """None where the speed is, or where the job has no length."""

    @property
    def usd_per_hour(self) -> Decimal | None:
        """Price of the whole rental; None when no price is known."""
        return None if self.offer is None else self.offer.usd_per_hour * self.num_instances


def verdict(estimate: Estimate | Size, gpu: Gpu) -> Verdict:
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


ROOMIER_TIMES = 4
"""A count that leaves room is named after a TIGHT one up to so many times its GPUs; beyond that another kind of
GPU or another spread is the answer, not more of the same."""


@dataclass(frozen=True, kw_only=True)
class Fitter:
    """One workload of one model, ready to be tried on GPUs."""

    workload: TrainingWorkload | ServingWorkload
    model: ModelArchitecture
    estimator: Estimator
    offers_of: OffersOf
    wish: HardwareWish
    size_of: SizeOf | None = None
    """A quicker way to sizes than one estimate each; must agree with ``estimator``."""

    def on(self, gpu: Gpu, parallelism: Parallelism) -> Fit:
        estimate = self.estimator(parallelism, gpu)
        return fit_of(estimate, gpu, parallelism, offers=self.offers_of(gpu), wish=self.wish)

    def on_count(self, gpu: Gpu, num_gpus: int) -> Fit | None:
        """The plain spread over ``num_gpus``; None where the model cannot be cut so."""
        parallelism = spread_over(num_gpus, self.workload, self.model)
        return None if parallelism is None else self.on(gpu, parallelism)

    def smallest(self, gpu: Gpu) -> tuple[Fit, ...]:
        """The smallest counts that hold the workload: the first TIGHT one, if any, and the first that FITS.

        Empty where no count helps: what every rank holds alike is already too much. The TIGHT one alone where
        only ``ROOMIER_TIMES`` its GPUs would leave room.
        """
        return tuple(fit for count in self.smallest_counts(gpu) if (fit := self.on_count(gpu, count)))

    def smallest_counts(self, gpu: Gpu) -> tuple[int, ...]:
        """The counts of ``smallest``."""
        found: list[int] = []
        num_gpus = self._first_count(gpu)
        while num_gpus is not None:
            level = self._verdict(gpu, num_gpus)
            if level is Verdict.FITS or (level is Verdict.TIGHT and not found):
                found.append(num_gpus)
            if level is Verdict.FITS:
                break
            num_gpus = self._next_count(gpu, num_gpus, found[0] if found else None)
        return tuple(found)

    def size(self, gpu: Gpu, num_gpus: int) -> Size | None:
        """Size of the plain spread over ``num_gpus``; None where the model cannot be cut so."""
        if self.size_of is not None:
            return self.size_of(gpu, num_gpus)
        parallelism = spread_over(num_gpus, self.workload, self.model)
        if parallelism is None:
            return None
        estimate = self.estimator(parallelism, gpu)
        return Size(estimate.low_bytes, estimate.expected_bytes, estimate.high_bytes)

    def cheapest(self, gpus: Sequence[Gpu], top: int) -> tuple[Fit, ...]:
        """The ``top`` kinds of GPU that hold the workload for the least money, by dollars per hour.

        Counts are tried in order of price, so that no dearer one is estimated than is needed. Of each kind the
        count that FITS is given, after a TIGHT one that costs less; kinds only TIGHT fill up what is left.
        """
        tries: list[tuple[Decimal, int, int]] = []
        tight: dict[int, Fit] = {}
        found: list[Fit] = []
        roomless: list[Fit] = []
        kinds = 0

        def queue(index: int, num_gpus: int | None) -> bool:
            rental = num_gpus and cheapest_rental(self.offers_of(gpus[index]), num_gpus, self.wish)
            limit = self.wish.max_usd_per_hour
            if not num_gpus or not rental or (limit is not None and rental.usd_per_hour > limit):
                return False
            heappush(tries, (rental.usd_per_hour, index, num_gpus))
            return True

        for index, gpu in enumerate(gpus):
            if self.offers_of(gpu):
                queue(index, self._first_count(gpu))
        while tries and kinds < top:
            _, index, num_gpus = heappop(tries)
            fit = self.on_count(gpus[index], num_gpus)
            if fit is not None and fit.verdict is Verdict.TIGHT:
                tight.setdefault(index, fit)
            early = tight.get(index)
            if fit is not None and fit.verdict is Verdict.FITS:
                found += [early] if early and by_price(early) < by_price(fit) else []
                found.append(fit)
                kinds += 1
                continue
            before = early.parallelism.num_gpus if early else None
            if not queue(index, self._next_count(gpus[index], num_gpus, before)) and early:
                roomless.append(early)
        return (*found, *roomless[: top - kinds])

    def _verdict(self, gpu: Gpu, num_gpus: int) -> Verdict:
        size = self.size(gpu, num_gpus)
        return Verdict.DOES_NOT_FIT if size is None else verdict(size, gpu)

    @cached_property
    def _weights_bytes(self) -> int:
        """What the ranks hold together at least, however the work is spread."""
        terms = self.estimator(Parallelism(), None).terms
        return sum(term.size_bytes for term in terms if term.kind == "weights")

    def _first_count(self, gpu: Gpu) -> int | None:
        """The smallest count whose memory is not less than the weights alone."""
        return self._count_from(gpu, max(1, -(-self._weights_bytes // gpu.memory_bytes)))

    def _next_count(self, gpu: Gpu, num_gpus: int, tight: int | None) -> int | None:
        """The smallest larger count that may hold what ``num_gpus`` did not; ``tight`` is the TIGHT one before.

        More ranks never hold less together, so that counts with less memory in all are passed over.
        """
        least = num_gpus + 1
        size = self.size(gpu, num_gpus)
        if size is not None:
            each = size.high_bytes if tight else size.expected_bytes
            least = max(least, -(-each * num_gpus // gpu.memory_bytes))
        count = self._count_from(gpu, least)
        return None if count and tight and count > ROOMIER_TIMES * tight else count

    def _count_from(self, gpu: Gpu, least: int) -> int | None:
        """The smallest count worth asking for from ``least`` on; None where none is allowed or none can help."""
        limit = self.wish.max_gpus
        in_machine = [count for count in counts_in_one_machine(self.workload, self.model) if count >= least]
        if in_machine:
            return in_machine[0] if limit is None or in_machine[0] <= limit else None
        size = machine_size(self.workload, self.model)
        most = size * max_machines(self.workload, self.model)
        most = most if limit is None else min(most, limit - limit % size)
        count = -(-least // size) * size
        if count > most:
            return None
        return None if self._verdict(gpu, most) is Verdict.DOES_NOT_FIT else count


def is_affordable(fit: Fit, wish: HardwareWish) -> bool:
    """Whether the rental meets ``max_usd_per_hour``; an unknown price never does."""
    limit = wish.max_usd_per_hour
    return limit is None or (fit.usd_per_hour is not None and fit.usd_per_hour <= limit)


def by_price(fit: Fit) -> tuple[bool, Decimal, int]:
    """Sort key: cheapest first, unpriced last, larger headroom before smaller."""
    price = fit.usd_per_hour
    return price is None, price or Decimal(0), -fit.headroom_bytes
