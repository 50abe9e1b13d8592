"""What must hold for any prices: cheaper never costs more, longer never costs less."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from hardware_db import catalog, live
from hardware_db.offer import Offer
from planner.cost import Terms, job_cost
from planner.economics import ownership
from planner.economics.energy import Site
from planner.economics.ownership import Purchase
from planner.economics.spot import SpotRisk, expected_run

GPU = catalog.find_gpu("H100 SXM5 80GB")
prices = st.decimals(Decimal("0.01"), Decimal(1000), places=4)
hours = st.floats(0.01, 10_000)


@st.composite
def offer_lists(draw: st.DrawFn) -> list[Offer]:
    return [
        Offer(
            provider=draw(st.sampled_from(["a", "b", "c"])), instance_type="", gpu_id=GPU.id,
            num_gpus=draw(st.sampled_from([1, 2, 4, 8])), region="", usd_per_hour=draw(prices),
            spot=draw(st.booleans()), as_of=date(2026, 11, 1), as_of_text="2026-11-01", source="a test", note="",
            quarantined=None,
        )
        for _ in range(draw(st.integers(1, 6)))
    ]  # fmt: skip


def best(offers: list[Offer], num_gpus: int, hours: float) -> Decimal | None:
    cost = job_cost(GPU, offers, num_gpus=num_gpus, hours=hours, terms=Terms())
    found = [each.usd for each in (cost.on_demand, cost.spot) if each is not None]
    return min(found, default=None)


@given(offers=offer_lists(), index=st.integers(0, 5), cheaper=st.decimals("0.01", "0.99", places=2), hours=hours)
def test_a_cheaper_offer_never_raises_the_best_cost(
    offers: list[Offer], index: int, cheaper: Decimal, hours: float
) -> None:
    before = best(offers, 1, hours)
    offers[index % len(offers)] = replace(
        offers[index % len(offers)], usd_per_hour=offers[index % len(offers)].usd_per_hour * cheaper
    )
    after = best(offers, 1, hours)
    assert before is not None
    assert after is not None
    assert after <= before


@given(offers=offer_lists(), more=offer_lists(), hours=hours)
def test_more_single_gpu_offers_never_raise_the_best_cost(
    offers: list[Offer], more: list[Offer], hours: float
) -> None:
    before, after = best(offers, 1, hours), best([*offers, *more], 1, hours)
    assert before is not None
    assert after is not None
    assert after <= before


@given(offers=offer_lists(), hours=hours, factor=st.floats(1, 100))
def test_a_longer_job_never_costs_less(offers: list[Offer], hours: float, factor: float) -> None:
    short, long = best(offers, 1, hours), best(offers, 1, hours * factor)
    assert short is not None
    assert long is not None
    assert long >= short * Decimal("0.999999")


@given(
    hours=hours,
    instances=st.integers(1, 64),
    chance=st.decimals(0, "0.9", places=3),
    worse=st.decimals("0.001", "0.09", places=3),
)
def test_interruptions_only_ever_stretch_a_job(
    hours: float, instances: int, chance: Decimal, worse: Decimal
) -> None:
    calm = expected_run(hours, instances, SpotRisk(interruptions_per_day=chance))
    rough = expected_run(hours, instances, SpotRisk(interruptions_per_day=chance + worse))
    assert calm.stretch >= 1
    assert rough.stretch >= calm.stretch * (1 - 1e-9)


@given(price=prices, rent=prices, dearer=st.decimals(1, 10, places=2))
def test_a_dearer_rent_brings_the_break_even_nearer(price: Decimal, rent: Decimal, dearer: Decimal) -> None:
    purchase = Purchase(gpu_usd=price * 100)
    near = ownership.owning(GPU, 1, purchase, Site(), rent * dearer).break_even_hours
    far = ownership.owning(GPU, 1, purchase, Site(), rent).break_even_hours
    assert far is None or (near is not None and near <= far)


@given(offers=offer_lists())
def test_judging_offers_changes_nothing_but_the_verdict(offers: list[Offer]) -> None:
    judged = live.judge(offers)
    assert [replace(offer, quarantined=None) for offer in judged] == offers
