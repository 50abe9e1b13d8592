"""Price files: read, written in one step, merged, judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from hardware_db import live, offers
from hardware_db.errors import BrokenPriceFileError
from hardware_db.offer import Offer

OFFER = Offer(
    provider="aws",
    instance_type="p5.48xlarge",
    gpu_id="h100-sxm5-80gb",
    num_gpus=8,
    region="us-east-1",
    usd_per_hour=Decimal("55.04"),
    spot=False,
    as_of=date(2026, 11, 9),
    as_of_text="2026-11-09",
    source="a test",
    note='said "hello", twice',
    quarantined=None,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = (OFFER, replace(OFFER, as_of=None, as_of_text="undated", quarantined="a doubt", spot=True))
    offers.write(tmp_path / "new" / "offers.csv", found)
    assert offers.read(tmp_path / "new" / "offers.csv") == found
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["offers.csv"]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("num_gpus", "0", "num_gpus is '0'"),
        ("num_gpus", "eight", "num_gpus is 'eight'"),
        ("usd_per_hour", "-1", "zero or more"),
        ("usd_per_hour", "NaN", "zero or more"),
        ("usd_per_hour", "cheap", "expected an amount"),
        ("as_of", "yesterday", "YYYY-MM-DD"),
        ("spot", "maybe", "0 or 1"),
        ("per_gpu", "yes", "0 or 1"),
        ("provider", "", "provider is empty"),
    ],
)
def test_a_wrong_cell_is_named_with_its_line(tmp_path: Path, column: str, value: str, words: str) -> None:
    path = tmp_path / "prices.csv"
    offers.write(path, [OFFER, OFFER])
    lines = path.read_text().splitlines()
    cells = dict(
        zip(
            offers.COLUMNS, ["aws", "x", "l4", "1", "r", "1", "0", "0", "2026-11-09", "", "s", "", ""], strict=True
        )
    )
    path.write_text("\n".join([*lines, ",".join((cells | {column: value}).values())]) + "\n")
    with pytest.raises(BrokenPriceFileError, match="line 4") as caught:
        offers.read(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"provider,price\n", b"\xff\xfe\x00", b"provider\n\x00"])
def test_a_file_that_is_no_price_table_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(content)
    with pytest.raises(BrokenPriceFileError, match=r"prices\.csv"):
        offers.read(path)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    offers.write(path, [OFFER])

    def failing() -> Iterator[Offer]:
        yield OFFER
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        offers.write(path, failing())
    assert offers.read(path) == (OFFER,)
    assert [left.name for left in tmp_path.iterdir()] == ["prices.csv"]


def test_a_zero_price_is_put_aside() -> None:
    (judged,) = live.judge([replace(OFFER, usd_per_hour=Decimal(0))])
    assert judged.quarantined == "no price"


def test_spot_above_on_demand_puts_both_aside_and_no_other() -> None:
    pair = [OFFER, replace(OFFER, spot=True, usd_per_hour=Decimal(60))]
    sound = [replace(offer, region="eu", usd_per_hour=Decimal(40 - 10 * offer.spot)) for offer in pair]
    judged = live.judge([*pair, *sound])
    assert [bool(offer.quarantined) for offer in judged] == [True, True, False, False]


@pytest.mark.parametrize(("usd_per_hour", "kept"), [("55", True), ("500", False), ("2", False), ("12", True)])
def test_eightfold_outliers_against_the_median_are_put_aside(usd_per_hour: str, kept: bool) -> None:
    (judged,) = live.judge([replace(OFFER, usd_per_hour=Decimal(usd_per_hour))])
    assert (judged.quarantined is None) == kept
    assert kept or "median" in (judged.quarantined or "")
