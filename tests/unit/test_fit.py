"""Smallest counts, verdicts and the cheapest kinds, on arithmetic small enough to follow by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from hardware_db import catalog
from hardware_db.gpu import Gpu
from hardware_db.offer import Offer
from planner.citation import Citation
from planner.fit import Fitter, Verdict, by_price, fit_of
from planner.memory.breakdown import MemoryTerm
from planner.memory.estimate import Estimate
from planner.model import registry
from planner.quantity import Quantity, Tier
from planner.rental import age_days, cheapest_rental, is_stale
from planner.request import HardwareWish, Parallelism, ServingWorkload, TrainingWorkload
from planner.units import GIB

A100 = catalog.find_gpu("A100 SXM4 80GB")
T4 = catalog.find_gpu("Tesla T4")
LLAMA = registry.resolve("llama-70b").architecture
assert LLAMA is not None
ANY = HardwareWish()


def estimate(size_bytes: int, *, high: float = 1.0, num_gpus: int = 1) -> Estimate:
    term = MemoryTerm(
        kind="weights", label="weights", size_bytes=size_bytes, formula="W", source=Citation(title="t")
    )
    return Estimate(
        task="serve", method="transformers", tier=Tier.ANALYTIC, quantity=Quantity.DEVICE, low_bytes=size_bytes,
        expected_bytes=size_bytes, high_bytes=round(size_bytes * high), num_gpus=num_gpus, phase="decode",
        terms=(term,),
    )  # fmt: skip


def offer(gpu_id: str, num_gpus: int, usd: str, provider: str = "cloud", **changes: object) -> Offer:
    plain = Offer(
        provider=provider, instance_type="x", gpu_id=gpu_id, num_gpus=num_gpus, region="us",
        usd_per_hour=Decimal(usd), spot=False, as_of=date(2026, 11, 9), as_of_text="2026-11-09", source="s",
        note="", quarantined=None,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def fitter(total_bytes: int, offers: dict[str, list[Offer]] | None = None, **wish: object) -> Fitter:
    """A workload whose bytes divide evenly over every GPU."""

    def share(parallelism: Parallelism, gpu: Gpu | None) -> Estimate:
        return estimate(-(-total_bytes // parallelism.num_gpus), high=1.1, num_gpus=parallelism.num_gpus)

    assert LLAMA is not None
    return Fitter(
        workload=ServingWorkload(), model=LLAMA, estimator=share,
        offers_of=lambda gpu: (offers or {}).get(gpu.id, []), wish=HardwareWish(**wish),  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("share", "high", "expected"),
    [(0.9, 1.0, Verdict.FITS), (0.95, 1.1, Verdict.TIGHT), (1.01, 1.0, Verdict.DOES_NOT_FIT)],
)
def test_the_verdict_holds_the_interval_against_driver_bytes(share: float, high: float, expected: Verdict) -> None:
    size = round(A100.memory_bytes * share)
    fit = fit_of(estimate(size, high=high), A100, Parallelism(), offers=(), wish=ANY)
    assert fit.verdict is expected
    assert fit.headroom_bytes == A100.memory_bytes - size
    assert fit.limiting_term == "weights"
    assert fit.usd_per_hour is None


def test_the_smallest_count_divides_the_attention_heads() -> None:
    assert LLAMA is not None
    counts = [fit.num_gpus for fit in fitter(3 * A100.memory_bytes - GIB).smallest(A100)]
    assert counts == [4]
    training = replace(fitter(3 * A100.memory_bytes - GIB), workload=TrainingWorkload())
    assert [fit.num_gpus for fit in training.smallest(A100)] == [3, 4]
    assert [fit.verdict for fit in training.smallest(A100)] == [Verdict.TIGHT, Verdict.FITS]


def test_beyond_one_machine_whole_machines_are_counted() -> None:
    total = 100 * A100.memory_bytes
    (tight, fits) = fitter(total).smallest(A100)
    assert (tight.num_gpus, fits.num_gpus) == (104, 112)
    assert (fits.parallelism.tp, fits.parallelism.pp) == (8, 14)


@pytest.mark.parametrize(("high", "counts"), [(1.2, [4, 8]), (1.4, [4])])
def test_room_that_takes_many_times_the_gpus_is_not_named(high: float, counts: list[int]) -> None:
    """Every rank holds 0.7 of a GPU alike, the ranks share another: at 1.4 times that, room begins at 70 GPUs."""
    alike, shared = 7 * A100.memory_bytes // 10, A100.memory_bytes

    def share(parallelism: Parallelism, gpu: Gpu | None) -> Estimate:
        return estimate(alike + shared // parallelism.num_gpus, high=high, num_gpus=parallelism.num_gpus)

    stubborn = replace(fitter(GIB), workload=TrainingWorkload(), estimator=share)
    assert [fit.num_gpus for fit in stubborn.smallest(A100)] == counts


def test_no_count_helps_where_layers_run_out_or_the_limit_is_reached() -> None:
    assert fitter(10**6 * A100.memory_bytes).smallest(A100) == ()
    assert fitter(3 * A100.memory_bytes, max_gpus=2).smallest(A100) == ()


def test_the_cheapest_kind_wins_and_one_without_an_offer_is_left_out() -> None:
    offers = {
        A100.id: [offer(A100.id, 1, "2.00"), offer(A100.id, 8, "14.00")],
        T4.id: [offer(T4.id, 1, "0.20", per_gpu=True)],
    }
    found = fitter(62 * GIB, offers).cheapest((A100, T4, catalog.find_gpu("H100")), top=2)
    assert [(fit.gpu.id, fit.num_gpus, fit.usd_per_hour) for fit in found] == [
        (T4.id, 8, Decimal("1.60")),
        (A100.id, 1, Decimal("2.00")),
    ]
    assert sorted(found, key=by_price) == list(found)


def test_pruning_never_changes_the_best() -> None:
    gpus = [gpu for gpu in catalog.all_gpus() if gpu.is_cuda]
    real = {gpu.id: list(catalog.offers_for(gpu.id)) for gpu in gpus}
    for total in (10 * GIB, 45 * GIB, 150 * GIB, 900 * GIB):
        one = fitter(total, real)
        everything = [fit for gpu in gpus for fit in one.smallest(gpu)[-1:] if fit.usd_per_hour is not None]
        prices = sorted(fit.usd_per_hour or Decimal(0) for fit in everything)[:3]
        found = [fit.usd_per_hour for fit in one.cheapest(gpus, 3) if fit.verdict is Verdict.FITS]
        assert found == prices


def test_a_budget_leaves_out_what_costs_more() -> None:
    offers = {A100.id: [offer(A100.id, 1, "2.00")], T4.id: [offer(T4.id, 1, "0.20", per_gpu=True)]}
    found = fitter(62 * GIB, offers, max_usd_per_hour=Decimal("1.70")).cheapest((A100, T4), top=5)
    assert [fit.gpu.id for fit in found] == [T4.id]


def rent(offers: list[Offer], num_gpus: int) -> tuple[int, int, Decimal] | None:
    """Instances, GPUs of each and dollars per hour of the cheapest rental."""
    rental = cheapest_rental(offers, num_gpus, ANY)
    return rental and (rental.num_instances, rental.offer.num_gpus, rental.usd_per_hour)


def test_a_rental_takes_machines_that_hold_all_gpus() -> None:
    offers = [offer("g", 1, "1.00"), offer("g", 2, "2.50"), offer("g", 8, "8.00")]
    assert rent(offers, 1) == (1, 1, Decimal("1.00"))
    assert rent(offers, 2) == (1, 2, Decimal("2.50"))
    assert rent(offers, 3) == (1, 8, Decimal("8.00"))
    assert rent(offers, 16) == (2, 8, Decimal("16.00"))
    assert rent(offers[:2], 3) is None


def test_a_list_price_per_gpu_is_rented_so_many_times_within_one_machine() -> None:
    offers = [offer("g", 1, "1.00", per_gpu=True)]
    assert rent(offers, 4) == (4, 1, Decimal("4.00"))
    assert rent(offers, 16) is None


def test_a_dated_price_goes_before_an_undated_one() -> None:
    undated = offer("g", 1, "0.50", as_of=None)
    assert rent([undated, offer("g", 1, "1.00")], 1) == (1, 1, Decimal("1.00"))
    assert rent([undated], 1) == (1, 1, Decimal("0.50"))


@pytest.mark.parametrize(
    ("changes", "wish"),
    [
        ({"quarantined": "spot above on-demand"}, ANY),
        ({"spot": True}, ANY),
        ({}, HardwareWish(providers=("other",))),
        ({}, HardwareWish(regions=("eu",))),
    ],
)
def test_offers_against_the_wish_are_not_used(changes: dict[str, object], wish: HardwareWish) -> None:
    assert cheapest_rental([offer("g", 1, "1.00", **changes)], 1, wish) is None


def test_an_undated_or_old_price_is_stale() -> None:
    today = date(2026, 11, 20)
    assert age_days(offer("g", 1, "1"), today) == 11
    assert not is_stale(offer("g", 1, "1"), today)
    assert is_stale(offer("g", 1, "1", as_of=date(2026, 1, 1)), today)
    assert is_stale(offer("g", 1, "1", as_of=None), today)
