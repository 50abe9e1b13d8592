"""What must hold for any budget and any offer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hardware_db import catalog, offers
from hardware_db.offer import Offer
from planner.request import HardwareWish, PlanRequest, TrainingWorkload
from planner.search import Axes, SearchResult, search

AXES = Axes(
    optimizers=("adamw-8bit",),
    losses=("fused",),
    attention=("sdpa",),
    cpu_offload=("none",),
    micro_batches=(1, 4, 16),
)
WISH = HardwareWish(gpus=("a100-sxm4-80gb", "h100-sxm5-80gb", "l40s", "rtx-4090"), max_gpus=16)
REQUEST = PlanRequest(
    model="meta-llama/Llama-3.1-8B",
    workload=TrainingWorkload(method="lora", seq_len=1024, num_tokens=50_000_000),
    hardware=WISH,
)
SLOW = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def own_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty home, so that the user's own prices are those of the test."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    catalog.forget_offers()
    yield
    catalog.forget_offers()


def found(**limits: object) -> SearchResult:
    return search(replace(REQUEST, hardware=replace(WISH, **limits)), axes=AXES)  # type: ignore[arg-type]


def own(offer: Offer) -> None:
    offers.write(offers.own_path(), [offer])
    catalog.forget_offers()


@SLOW
@given(factor=st.decimals(Decimal("0.05"), Decimal(1), places=2), gpu=st.sampled_from(WISH.gpus))
def test_a_cheaper_offer_never_raises_the_best_cost(factor: Decimal, gpu: str) -> None:
    offers.write(offers.own_path(), [])
    catalog.forget_offers()
    before = found()
    (cheapest, *_) = [candidate for candidate in before.candidates if candidate.gpu.id == gpu]
    assert cheapest.offer is not None
    assert before.best is not None
    cheaper = replace(
        cheapest.offer, provider="own", usd_per_hour=cheapest.offer.usd_per_hour * factor, as_of=date.today(),
        as_of_text="", quarantined=None,
    )  # fmt: skip
    own(cheaper)
    after = found()
    assert after.best is not None
    assert after.best.usd is not None
    assert before.best.usd is not None
    assert after.best.usd <= before.best.usd


@SLOW
@given(budgets=st.lists(st.decimals(Decimal(1), Decimal(400), places=1), min_size=2, max_size=4))
def test_more_budget_never_makes_the_answer_worse(budgets: list[Decimal]) -> None:
    fastest: list[float] = []
    feasible: list[int] = []
    for budget in sorted(budgets):
        result = search(replace(REQUEST, hardware=replace(WISH, max_usd=budget)), by="time", axes=AXES)
        best = result.best
        fastest.append(float("inf") if best is None or best.hours is None else best.hours)
        feasible.append(result.num_feasible)
        assert best is None or (best.usd is not None and best.usd <= budget)
    assert fastest == sorted(fastest, reverse=True)
    assert feasible == sorted(feasible)


@SLOW
@given(hours=st.lists(st.floats(0.1, 200), min_size=2, max_size=4))
def test_more_time_never_makes_the_answer_dearer(hours: list[float]) -> None:
    costs = []
    for limit in sorted(hours):
        best = found(max_hours=limit).best
        costs.append(float("inf") if best is None or best.usd is None else float(best.usd))
    assert costs == sorted(costs, reverse=True)


@SLOW
@given(most=st.lists(st.integers(1, 16), min_size=2, max_size=4))
def test_more_gpus_allowed_never_make_the_answer_dearer(most: list[int]) -> None:
    costs = [found(max_gpus=limit).best for limit in sorted(most)]
    money = [float("inf") if best is None or best.usd is None else float(best.usd) for best in costs]
    assert money == sorted(money, reverse=True)
