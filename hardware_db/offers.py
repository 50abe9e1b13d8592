"""Price files: how a row is read, where the user's own files lie, and which file wins."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

from hardware_db.errors import BrokenPriceFileError
from hardware_db.offer import Offer

COLUMNS = (
    "provider", "instance_type", "gpu_id", "num_gpus", "region", "usd_per_hour", "spot",
    "as_of", "as_of_text", "source", "note", "quarantined",
)  # fmt: skip


def live_path() -> Path:
    """Prices refreshed from the clouds; losing this file loses nothing but a download."""
    from platformdirs import user_cache_path

    return user_cache_path("gpu-planner") / "live_offers.csv"


def own_path() -> Path:
    """The user's contracts and owned machines."""
    from platformdirs import user_data_path

    return user_data_path("gpu-planner") / "own_offers.csv"


def _cell(row: dict[str, str], column: str, kind: str) -> str:
    value = row.get(column)
    if value is None:
        raise ValueError(f"{column} is missing")
    if kind and not value.strip():
        raise ValueError(f"{column} is empty, expected {kind}")
    return value.strip()


def _offer(row: dict[str, str]) -> Offer:
    num_gpus = _cell(row, "num_gpus", "a count")
    if not num_gpus.isdigit() or int(num_gpus) < 1:
        raise ValueError(f"num_gpus is {num_gpus!r}, expected a count of at least 1")
    try:
        usd_per_hour = Decimal(_cell(row, "usd_per_hour", "an amount"))
    except InvalidOperation:
        raise ValueError(f"usd_per_hour is {row['usd_per_hour']!r}, expected an amount") from None
    if not usd_per_hour.is_finite() or usd_per_hour < 0:
        raise ValueError(f"usd_per_hour is {row['usd_per_hour']!r}, expected zero or more")
    as_of = _cell(row, "as_of", "")
    try:
        day = date.fromisoformat(as_of) if as_of else None
    except ValueError:
        raise ValueError(f"as_of is {as_of!r}, expected YYYY-MM-DD") from None
    spot = _cell(row, "spot", "0 or 1")
    if spot not in ("0", "1"):
        raise ValueError(f"spot is {spot!r}, expected 0 or 1")
    return Offer(
        provider=_cell(row, "provider", "a name"),
        instance_type=_cell(row, "instance_type", ""),
        gpu_id=_cell(row, "gpu_id", "an id of the catalogue"),
        num_gpus=int(num_gpus),
        region=_cell(row, "region", ""),
        usd_per_hour=usd_per_hour,
        spot=spot == "1",
        as_of=day,
        as_of_text=_cell(row, "as_of_text", "") or as_of,
        source=_cell(row, "source", "where the price is from"),
        note=_cell(row, "note", ""),
        quarantined=_cell(row, "quarantined", "") or None,
    )


def read(path: Path) -> tuple[Offer, ...]:
    """Every row of a price file; raises ``BrokenPriceFileError`` naming the first row that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenPriceFileError(f"{path.name}: {error}") from error
    rows = csv.DictReader(text.splitlines())
    missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        raise BrokenPriceFileError(f"{path.name}, line 1: column {missing[0]} is missing")
    found = []
    for row in rows:
        try:
            found.append(_offer(row))
        except ValueError as error:
            raise BrokenPriceFileError(f"{path.name}, line {rows.line_num}: {error}") from None
    return tuple(found)


def write(path: Path, found: Iterable[Offer]) -> None:
    """Replace a price file in one step; a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(COLUMNS)
            for offer in found:
                rows.writerow((
                    offer.provider, offer.instance_type, offer.gpu_id, offer.num_gpus, offer.region,
                    offer.usd_per_hour, int(offer.spot), offer.as_of or "", offer.as_of_text, offer.source,
                    offer.note, offer.quarantined or "",
                ))  # fmt: skip
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def user_offers() -> tuple[tuple[Offer, ...], tuple[Offer, ...], tuple[str, ...]]:
    """Refreshed offers, own offers, and what is wrong with either file (a broken file counts as absent)."""
    found: list[tuple[Offer, ...]] = []
    problems = []
    for path in (live_path(), own_path()):
        try:
            found.append(read(path) if path.exists() else ())
        except BrokenPriceFileError as error:
            found.append(())
            problems.append(str(error))
    return found[0], found[1], tuple(problems)


def merged(table: Path) -> tuple[Offer, ...]:
    """The dated table below, refreshed prices above it, own offers on top.

    A provider that was refreshed is believed in full: its rows of the dated table stay visible but unused.
    """
    live, own, _ = user_offers()
    refreshed = {offer.provider: offer.as_of_text for offer in live if offer.quarantined is None}
    dated = tuple(
        offer
        if offer.quarantined or offer.provider not in refreshed
        else replace(offer, quarantined=f"superseded by the refresh of {refreshed[offer.provider]}")
        for offer in read(table)
    )
    return own + live + dated
