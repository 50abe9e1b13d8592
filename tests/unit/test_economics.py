"""Money and energy against figures that others published, and the arithmetic behind them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from hardware_db import catalog
from hardware_db.offer import Offer
from planner.cost import Terms, job_cost
from planner.economics import energy, managed, ownership, pretraining, rent
from planner.economics.energy import Site
from planner.economics.ownership import Purchase
from planner.economics.spot import SpotRisk, expected_run
from planner.errors import RequestError, UnsupportedError
from planner.request import HardwareWish
from planner.units import BILLION, MILLION

A100 = catalog.find_gpu("A100 SXM4 80GB")
V100 = catalog.find_gpu("V100")
GPT3_PARAMS = 174_600_000_000
GPT3_TOKENS = 300 * BILLION


def offer(usd_per_hour: str, num_gpus: int = 8, spot: bool = False) -> Offer:
    return Offer(
        provider="cloud", instance_type="x", gpu_id=A100.id, num_gpus=num_gpus, region="here",
        usd_per_hour=Decimal(usd_per_hour), spot=spot, as_of=date(2026, 11, 9), as_of_text="2026-11-09",
        source="a test", note="", quarantined=None,
    )  # fmt: skip


def test_gpt3_took_314_zettaflop() -> None:
    assert pretraining.training_flops(GPT3_PARAMS, GPT3_TOKENS) == pytest.approx(3.14e23, rel=0.002)


def test_gpt3_on_one_v100_at_28_tflops_takes_355_years_and_4_6_million_usd() -> None:
    hours = pretraining.gpu_hours(int(3.14e23), V100, mfu=Decimal(28) / Decimal(125)).expected
    assert hours / 8760 == pytest.approx(355, rel=0.01)
    assert hours * 1.5 == pytest.approx(4.6e6, rel=0.02)


def test_gpt3_on_1024_a100_takes_34_days_at_megatrons_speed() -> None:
    """Narayanan et al. 2021: 140 TFLOP/s per GPU including recomputation, of which 6/8 are model FLOP/s."""
    mfu = Decimal(140) * 6 / 8 / 312
    hours = pretraining.gpu_hours(pretraining.training_flops(175 * BILLION, GPT3_TOKENS), A100, mfu).expected
    assert hours / 1024 / 24 == pytest.approx(34, abs=0.5)


def test_llama_2_70b_lies_within_the_range_for_its_published_hours() -> None:
    flops = pretraining.training_flops(68_976_648_192, 2000 * BILLION)
    hours = pretraining.gpu_hours(flops, A100)
    assert hours.low < 1_720_320 < hours.high
    assert hours.expected == pytest.approx(1_720_320, rel=0.1)


def test_chinchilla_itself() -> None:
    assert pretraining.compute_optimal_tokens(70 * BILLION) == 1_400 * BILLION


def test_llama_2_70b_emitted_what_its_card_says() -> None:
    """1,720,320 GPU-hours at 400 W are 291.42 t CO2e in print: TDP alone, a U.S. grid and Meta's PUE."""
    site = Site(pue=Decimal("1.1"), host_power=Decimal(1), grid_g_per_kwh=Decimal(385))
    found = energy.energy(A100, 1, 1_720_320, site)
    assert found is not None
    assert float(found.kg_co2e) / 1000 == pytest.approx(291.42, rel=0.01)


def test_a_gpu_without_a_16_bit_rate_is_refused() -> None:
    with pytest.raises(UnsupportedError):
        pretraining.gpu_hours(10**21, catalog.find_gpu("GTX 1080"))


def test_the_lectures_managed_price_is_reproduced_to_the_cent() -> None:
    found = managed.quotes(8 * BILLION, 2_400_000 * 3)
    (lecture,) = [quote for quote in found if "lecture" in quote.price.service]
    assert lecture.usd == Decimal("5.00")
    assert float(lecture.price.usd_per_million_tokens) == pytest.approx(0.694, abs=0.001)
    assert len(found) > 1, "beside other services"


def test_rent_per_hour_month_job_and_million_tokens() -> None:
    cost = rent.on_demand([offer("16")], 8, 10, HardwareWish(), num_tokens=80 * MILLION)
    assert cost is not None
    assert cost.usd == 160
    assert cost.usd_per_month == 16 * 730
    assert cost.usd_per_million_tokens == 2


def test_spot_pays_for_the_hours_that_interruptions_cost() -> None:
    offers = [offer("16"), offer("8", spot=True)]
    calm = rent.on_spot(offers, 8, 100, HardwareWish(), SpotRisk(interruptions_per_day=Decimal(0)))
    rough = rent.on_spot(offers, 8, 100, HardwareWish(), SpotRisk())
    assert calm is not None
    assert rough is not None
    assert (calm.usd, calm.hours) == (800, 100)
    assert 800 < rough.usd < 1000
    assert rough.spot_run is not None
    assert rough.spot_run.interruptions > 0


def test_dalys_model_against_its_first_order_limit() -> None:
    """Rare interruptions: the loss is δ/τ + τ/2M, with τ = √(2δM), plus R/M."""
    risk = SpotRisk(
        interruptions_per_day=Decimal("0.01"), restart_minutes=Decimal(6), checkpoint_minutes=Decimal("0.6")
    )
    run = expected_run(10_000, 1, risk)
    between = 24 / 0.01005
    interval = (2 * 0.01 * between) ** 0.5
    assert run.stretch - 1 == pytest.approx(0.01 / interval + interval / 2 / between + 0.1 / between, rel=0.05)


def test_a_short_job_starts_over_rather_than_saving() -> None:
    run = expected_run(0.02, 1, SpotRisk())
    assert run.checkpoint_interval_hours is None
    assert run.stretch < 1.01


def test_a_job_that_never_ends_on_spot_has_no_price() -> None:
    risk = SpotRisk(interruptions_per_day=Decimal("0.99"), restart_minutes=Decimal(600))
    assert rent.on_spot([offer("8", spot=True)], 8 * 64, 100, HardwareWish(), risk) is None


def test_buying_breaks_even_where_the_rent_saved_has_paid_the_price() -> None:
    site = Site(pue=Decimal(1), host_power=Decimal(1), usd_per_kwh=Decimal("0.25"))
    purchase = Purchase(gpu_usd=Decimal(10_000), resale_share=Decimal("0.1"), utilisation=Decimal("0.5"))
    owned = ownership.owning(A100, 8, purchase, site, rent_usd_per_hour=Decimal("8.8"))
    assert owned.power_usd_per_hour == Decimal("0.8")
    assert owned.break_even_hours == 9_000
    assert owned.break_even_months == Decimal(9_000) * 2 / 730
    assert owned.usd_per_hour == Decimal(72_000) / (5 * 8760 // 2) + Decimal("0.8")
    assert owned.pays


def test_buying_never_pays_against_a_rent_below_the_power() -> None:
    owned = ownership.owning(A100, 1, Purchase(gpu_usd=Decimal(1)), Site(), rent_usd_per_hour=Decimal("0.01"))
    assert owned.break_even_hours is None
    assert not owned.pays


def test_the_lectures_unclear_prices_never_enter_a_calculation() -> None:
    for name in ("H100 SXM5 80GB", "A100 SXM4 80GB"):
        price = ownership.latest_buy_price(catalog.find_gpu(name))
        assert price is not None
        assert price.unit == "card"
        assert price.high_usd < 40_000


def test_a_job_with_every_way_of_paying() -> None:
    cost = job_cost(
        A100, catalog.offers_for(A100.id), num_gpus=8, hours=24, terms=Terms(),
        num_tokens=100 * MILLION, num_params=8 * BILLION,
    )  # fmt: skip
    assert cost.on_demand is not None
    assert cost.spot is not None
    assert cost.owned is not None
    assert cost.energy is not None
    assert cost.managed
    assert cost.energy.kwh == pytest.approx(Decimal("0.4") * 8 * 24 * Decimal("1.34") * Decimal("1.56"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Site(pue=Decimal("0.9")),
        lambda: Site(usd_per_kwh=Decimal(-1)),
        lambda: Purchase(gpu_usd=Decimal(-1)),
        lambda: Purchase(gpu_usd=Decimal(1), lifetime_years=Decimal(0)),
        lambda: Purchase(gpu_usd=Decimal(1), utilisation=Decimal(0)),
        lambda: Purchase(gpu_usd=Decimal(1), resale_share=Decimal(2)),
        lambda: SpotRisk(interruptions_per_day=Decimal(1)),
        lambda: SpotRisk(restart_minutes=Decimal(-1)),
        lambda: pretraining.gpu_hours(1, A100, mfu=Decimal(2)),
        lambda: job_cost(A100, [], num_gpus=1, hours=float("nan"), terms=Terms()),
        lambda: job_cost(A100, [], num_gpus=0, hours=1, terms=Terms()),
    ],
)
def test_impossible_terms_are_refused(make: object) -> None:
    with pytest.raises(RequestError):
        make()  # type: ignore[operator]
