"""Where calibrations are kept, and how they are read.

There are two files: the default shipped with the product (computed from published and own measurements by
``scripts/calibrate_defaults.py``) and the user's own, written by ``plan validate``. A file holds ratios, counts
and names only, no constant of one case.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from planner.calibration import Calibration, Correction, Interval
from planner.errors import PlannerError
from planner.pace import Pace
from planner.quantity import Quantity, Tier

FORMAT_VERSION = 1
DEFAULT_FILE = Path(__file__).parent / "data" / "default_calibration.json"
USER_FILE_VARIABLE = "GPU_PLANNER_CALIBRATION"


def user_file() -> Path:
    """The user's own calibration file, which need not exist."""
    named = os.environ.get(USER_FILE_VARIABLE)
    if named:
        return Path(named)
    return _own_folder(os.environ.get("HOME"), os.environ.get("XDG_DATA_HOME")) / "calibration.json"


@lru_cache(maxsize=1)
def _own_folder(_home: str | None, _data_home: str | None) -> Path:
    """Looked for once per environment: the app asks for every row of its table at every key."""
    from platformdirs import user_data_path

    return user_data_path("gpu-planner")


def load(*files: Path) -> Calibration:
    """The calibration of ``files``; by default the user's own and the shipped one. Absent files are skipped."""
    paths = [path for path in (files or (user_file(), DEFAULT_FILE)) if path.is_file()]
    return _joined(tuple((path, path.stat().st_mtime_ns) for path in paths))


@lru_cache(maxsize=8)
def _joined(written: tuple[tuple[Path, int], ...]) -> Calibration:
    loaded = [_read(path, written_at) for path, written_at in written]
    return Calibration(
        corrections=tuple(entry for calibration in loaded for entry in calibration.corrections),
        intervals=tuple(entry for calibration in loaded for entry in calibration.intervals),
        paces=tuple(entry for calibration in loaded for entry in calibration.paces),
        made=loaded[-1].made if loaded else {},
    )


@lru_cache(maxsize=8)
def _read(path: Path, _written_at: int) -> Calibration:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] != FORMAT_VERSION:
            raise ValueError(f"format version {document['version']}")
        return Calibration(
            corrections=tuple(_entries(Correction, document["corrections"])),
            intervals=tuple(_entries(Interval, document["intervals"])),
            paces=tuple(Pace(**row) for row in document.get("paces", ())),
            made=document.get("made", {}),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlannerError(
            f"the calibration file {path} cannot be read: {error}",
            hint="delete it or run plan validate calibrate to write it anew; --no-calibration goes without",
        ) from error


def _entries(kind: type[Any], rows: Iterable[Mapping[str, Any]]) -> Iterable[Any]:
    for row in rows:
        quantity = row.get("quantity")
        values = dict(row) | {"tier": Tier(row["tier"])}
        if quantity is not None:
            values["quantity"] = Quantity(quantity)
        yield kind(**values)
