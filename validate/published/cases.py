"""The door of benchmark files: one published measurement per line, checked before anything is predicted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.errors import RequestError

MEMORY_QUANTITIES = (
    "allocated_peak",
    "active_peak",
    "reserved_peak",
    "device_used_peak",
    "weights",
    "kv_cache_bytes",
    "kv_cache_tokens",
    "activation_peak",
    "non_torch",
    "cuda_graphs",
)


class Measured(BaseModel):
    """What was measured: the quantity, its value, and how finely it was printed."""

    model_config = ConfigDict(extra="allow", frozen=True)

    quantity: str
    value: float = Field(gt=0)
    unit: str
    per_gpu: bool | None = None
    phase: str | None = None
    resolution: float = Field(default=0, ge=0)
    value_range: tuple[float, float] | None = None


class Case(BaseModel):
    """One published measurement with the request that produced it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    id: str = Field(min_length=1)
    source: str = ""
    grade: str = ""
    family: str
    core: bool = False
    request: dict[str, Any]
    measured: Measured
    weak: tuple[str, ...] = ()

    @property
    def is_memory(self) -> bool:
        return self.measured.quantity in MEMORY_QUANTITIES

    @property
    def group(self) -> str:
        """The row of the scoreboard the case counts in; memory families split off loading and engine pools."""
        if not self.is_memory:
            return self.family
        quantity = self.measured.quantity
        if self.family == "serve-engine":
            if quantity == "weights":
                return "serve-engine:weights"
            if quantity.startswith("kv_"):
                return "serve-engine:kv"
            return "serve-engine:small" if quantity in ("non_torch", "cuda_graphs") else "serve-engine:profile"
        return f"{self.family}:init" if self.measured.phase == "init" and self.family != "encoder" else self.family


def read_cases(path: Path) -> list[Case]:
    """The cases of a JSON-lines file; a broken line is refused with its number."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RequestError(
            f"cannot read {path}: {reason}", hint="give a file with one JSON case per line"
        ) from error
    cases: list[Case] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        case = _parse(path, number, line)
        if case.id in seen:
            raise RequestError(f"{path}, line {number}: {case.id!r} was on line {seen[case.id]} already")
        seen[case.id] = number
        cases.append(case)
    if not cases:
        raise RequestError(f"{path} holds no case", hint="one JSON object per line")
    return cases


def _parse(path: Path, number: int, line: str) -> Case:
    try:
        document = json.loads(line)
    except ValueError as error:
        raise RequestError(f"{path}, line {number}: not JSON ({error})") from error
    try:
        return Case.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        raise RequestError(f"{path}, line {number}: {where}: {first['msg']}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One answer in the case's own unit; ``predicted`` is None where it was refused, with the reason."""

    id: str
    predicted: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
