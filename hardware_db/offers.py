"""Price files: how a row is read, where the user's own files lie, and which file wins."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

from hardware_db.errors import BrokenPriceFileError
from hardware_db.offer import Offer

COLUMNS = (
    "provider", "instance_type", "gpu_id", "num_gpus", "region", "usd_per_hour", "spot", "per_gpu",
    "as_of", "as_of_text", "source", "note", "quarantined",
)  # fmt: skip
REQUIRED = ("provider", "gpu_id", "num_gpus", "usd_per_hour")
"""Columns a price file cannot do without; the others may be absent."""


def live_path() -> Path:
    """Prices refreshed from the clouds; losing this file loses nothing but a download."""
    from platformdirs import user_cache_path

    return user_cache_path("gpu-planner") / "live_offers.csv"


def own_path() -> Path:
    """The user's contracts and owned machines."""
    from platformdirs import user_data_path

    return user_data_path("gpu-planner") / "own_offers.csv"


def _filled(value: str, column: str) -> str:
    if not value:
        raise ValueError(f"{column} is empty")
    return value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"num_gpus is {text!r}, expected a count of at least 1")
    return int(text)


def _switch(text: str, column: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"{column} is {text!r}, expected 0 or 1")
    return text == "1"


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"usd_per_hour is {text!r}, expected an amount") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"usd_per_hour is {text!r}, expected zero or more")
    return amount


@cache
def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise ValueError(f"as_of is {text!r}, expected YYYY-MM-DD") from None


def _offer(cells: list[str]) -> Offer:
    """One row of a price file, its cells in the order of ``COLUMNS``."""
    provider, instance_type, gpu_id, num_gpus, region, usd_per_hour, spot, per_gpu, *rest = cells
    as_of, as_of_text, source, note, quarantined = rest
    count = _count(num_gpus)
    quoted_per_gpu = _switch(per_gpu, "per_gpu")
    if quoted_per_gpu and count != 1:
        raise ValueError(f"num_gpus is {count} where per_gpu is 1, expected 1")
    return Offer(
        provider=_filled(provider, "provider"),
        instance_type=instance_type,
        gpu_id=_filled(gpu_id, "gpu_id"),
        num_gpus=count,
        region=region,
        usd_per_hour=_amount(usd_per_hour),
        spot=_switch(spot, "spot"),
        per_gpu=quoted_per_gpu,
        as_of=_day(as_of),
        as_of_text=as_of_text or as_of,
        source=_filled(source, "source"),
        note=note,
        quarantined=quarantined or None,
    )


def read(path: Path) -> tuple[Offer, ...]:
    """Every row of a price file; raises ``BrokenPriceFileError`` naming the first row that is wrong."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(_rows(csv.reader(file), path.name))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BrokenPriceFileError(f"{path.name}: {error}") from error


def _rows(rows: Any, name: str) -> Iterator[Offer]:
    titles = [title.strip() for title in next(rows, [])]
    missing = [column for column in REQUIRED if column not in titles]
    if missing:
        raise BrokenPriceFileError(f"{name}, line 1: column {missing[0]} is missing")
    absent = {"spot": "0", "per_gpu": "0", "source": name}
    order = [(titles.index(column) if column in titles else None, absent.get(column, "")) for column in COLUMNS]
    for cells in rows:
        if not cells:
            continue
        try:
            if len(cells) < len(titles):
                raise ValueError(f"{len(cells)} cells, expected {len(titles)}")
            yield _offer([default if index is None else cells[index].strip() for index, default in order])
        except ValueError as error:
            raise BrokenPriceFileError(f"{name}, line {rows.line_num}: {error}") from None


def text(found: Iterable[Offer]) -> str:
    """The content of a price file."""
    content = io.StringIO()
    rows = csv.writer(content, lineterminator="\n")
    rows.writerow(COLUMNS)
    for offer in found:
        rows.writerow((
            offer.provider, offer.instance_type, offer.gpu_id, offer.num_gpus, offer.region,
            f"{offer.usd_per_hour:f}", int(offer.spot), int(offer.per_gpu),
            offer.as_of or "", offer.as_of_text, offer.source, offer.note, offer.quarantined or "",
        ))  # fmt: skip
    return content.getvalue()


def write(path: Path, found: Iterable[Offer]) -> None:
    """Replace a price file in one step; a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            file.write(text(found))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def own() -> tuple[Offer, ...]:
    """The user's contracts and machines; raises ``BrokenPriceFileError``."""
    return read(own_path()) if own_path().exists() else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """Every offer that is known, and what is wrong with files that had to be left out."""

    offers: tuple[Offer, ...]
    problems: tuple[str, ...]


def merged(table: Path) -> PriceTable:
    """The dated table below, refreshed prices above it, own offers on top; a broken file of the user is left out.

    A provider that was refreshed is believed in full: its rows of the dated table stay visible but unused.
    """
    problems: list[str] = []
    live, mine = (_read_or_note(path, problems) for path in (live_path(), own_path()))
    refreshed = {offer.provider: offer.as_of_text for offer in live if offer.quarantined is None}
    dated = tuple(
        offer
        if offer.quarantined or offer.provider not in refreshed
        else replace(offer, quarantined=f"superseded by the refresh of {refreshed[offer.provider]}")
        for offer in read(table)
    )
    return PriceTable(offers=mine + live + dated, problems=tuple(problems))


def _read_or_note(path: Path, problems: list[str]) -> tuple[Offer, ...]:
    try:
        return read(path) if path.exists() else ()
    except BrokenPriceFileError as error:
        problems.append(f"{error}; this file is left out, all other prices stay in force")
        return ()
