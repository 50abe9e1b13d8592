"""The efficiency constants of the speed model, read from one generated file.

``data/efficiency.json`` is written by ``scripts/fit_efficiency.py`` from published speeds and carries, per
constant, its value, prior, unit, meaning and source, beside the evaluation of the fit with each source left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_PATH = Path(__file__).parent / "data" / "efficiency.json"
_overrides: dict[str, float] = {}


@cache
def document() -> Mapping[str, Any]:
    """The whole file: ``constants``, ``attainable``, ``spread`` and ``evaluation``."""
    loaded: Mapping[str, Any] = json.loads(_PATH.read_text(encoding="utf-8"))
    return loaded


@cache
def _values() -> dict[str, float]:
    return {name: entry["value"] for name, entry in document()["constants"].items()}


def constant(*names: str) -> float:
    """The first of ``names`` that is known; the last one is the general case and must be."""
    for name in names:
        if name in _overrides:
            return _overrides[name]
        if name in _values():
            return _values()[name]
    raise KeyError(names[-1])


def is_overridden() -> bool:
    """Whether the model is evaluated with other constants, so that nothing computed from them may be kept."""
    return bool(_overrides)


@contextmanager
def overridden(values: Mapping[str, float]) -> Iterator[None]:
    """Evaluate the model with other constants, for the fit and for sensitivity."""
    before = dict(_overrides)
    _overrides.update(values)
    try:
        yield
    finally:
        _overrides.clear()
        _overrides.update(before)
