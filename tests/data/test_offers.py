"""The dated price table: complete, sane, and its unusable rows named."""

from __future__ import annotations

from statistics import median

import pytest

from hardware_db import catalog, offers

TABLE = offers.read(catalog.DATA / "offers.csv")
USABLE = [offer for offer in TABLE if offer.quarantined is None]


def test_at_least_250_dated_offers() -> None:
    assert len([offer for offer in TABLE if offer.as_of is not None]) >= 250
    assert len(USABLE) >= 200
    assert all(offer.as_of_text for offer in TABLE)


def test_every_offer_names_a_known_gpu_and_a_source() -> None:
    ids = {gpu.id for gpu in catalog.all_gpus()}
    assert {offer.gpu_id for offer in TABLE} <= ids
    assert all(offer.source for offer in TABLE)


def test_no_usable_price_is_zero_or_far_from_its_peers() -> None:
    for gpu_id in {offer.gpu_id for offer in USABLE}:
        prices = [offer.usd_per_gpu_hour for offer in USABLE if offer.gpu_id == gpu_id]
        assert min(prices) > 0
        if len(prices) >= 3:
            assert max(prices) < 8 * median(prices)
            assert min(prices) > median(prices) / 8


def test_no_usable_spot_price_is_above_the_same_instances_on_demand_price() -> None:
    on_demand = {(o.provider, o.instance_type, o.gpu_id, o.num_gpus): o.usd_per_hour for o in USABLE if not o.spot}
    for offer in USABLE:
        listed = on_demand.get((offer.provider, offer.instance_type, offer.gpu_id, offer.num_gpus))
        if offer.spot and listed is not None:
            assert offer.usd_per_hour <= listed


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("gcp", "below the spot"),
        ("gcp", "host machine"),
        ("nebius", "stale"),
        ("mithril", "auction"),
        ("aws", "quarter"),
    ],
)
def test_rows_that_must_not_be_used_stay_visible_with_their_reason(provider: str, words: str) -> None:
    assert [o for o in TABLE if o.provider == provider and o.quarantined and words in o.quarantined]


def test_offers_of_a_gpu_are_usable_and_cheapest_first() -> None:
    found = catalog.offers_for("h100-sxm5-80gb")
    assert found
    assert all(offer.quarantined is None for offer in found)
    prices = [offer.usd_per_gpu_hour for offer in found]
    assert prices == sorted(prices)
    assert catalog.offers_for("no-such-gpu") == ()


def test_a_google_offer_includes_its_host_machine() -> None:
    whole = [
        o for o in catalog.offers_for("h100-sxm5-80gb") if o.provider == "gcp" and not o.spot and o.num_gpus == 1
    ]
    assert {round(float(offer.usd_per_hour), 3) for offer in whole} == {10.979}
