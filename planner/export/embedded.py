"""The request inside an exported file, so that every file answers which plan it came from."""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, fields, is_dataclass
from decimal import Decimal
from typing import Any

from planner.errors import RequestError
from planner.request import (
    AdapterSpec,
    EvaluationSpec,
    HardwareWish,
    Parallelism,
    PlanRequest,
    ServingWorkload,
    TrainingWorkload,
)

MARK = "gpu-planner-request:"
JSON_KEY = "gpu_planner_request"
_NESTED: dict[str, type] = {
    "adapter": AdapterSpec,
    "evaluation": EvaluationSpec,
    "parallelism": Parallelism,
    "hardware": HardwareWish,
}
_MONEY = ("max_usd", "max_usd_per_hour")


def plain(value: Any) -> Any:
    """A request as JSON values; fields at their default are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        row = {
            field.name: plain(getattr(value, field.name))
            for field in fields(value)
            if _is_set(field, getattr(value, field.name))
        }
        return row | ({"task": value.task} if isinstance(value, PlanRequest) else {})
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Decimal) else value


def _is_set(field: Field[Any], value: Any) -> bool:
    if field.default is not MISSING:
        return bool(value != field.default)
    return field.default_factory is MISSING or bool(value != field.default_factory())


def encoded(request: PlanRequest) -> str:
    """One line of JSON."""
    return json.dumps(plain(request), ensure_ascii=False, separators=(",", ":"))


def comment(request: PlanRequest) -> str:
    """The line for formats in which ``#`` starts a comment."""
    return f"# {MARK} {encoded(request)}"


def read_request(text: str) -> PlanRequest:
    """The request an exported file carries; raises RequestError where there is none."""
    for line in text.splitlines():
        if MARK in line:
            return _decoded(line.split(MARK, 1)[1])
    if f'"{JSON_KEY}"' in text:
        try:
            return _request(json.loads(text)[JSON_KEY])
        except (ValueError, KeyError, TypeError) as error:
            raise _unreadable() from error
    raise RequestError("the file carries no plan", hint="plan export writes files that do")


def _decoded(text: str) -> PlanRequest:
    try:
        return _request(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable() from error


def _unreadable() -> RequestError:
    return RequestError("the plan inside the file is damaged", hint="export it again")


def _request(row: dict[str, Any]) -> PlanRequest:
    kind = TrainingWorkload if row.pop("task") == "train" else ServingWorkload
    return PlanRequest(**{**_fields(row), "workload": kind(**_fields(row["workload"]))})


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(name, value) for name, value in row.items()}


def _value(name: str, value: Any) -> Any:
    if name in _NESTED and value is not None:
        return _NESTED[name](**_fields(value))
    if isinstance(value, list):
        return tuple(value)
    return Decimal(value) if name in _MONEY and value is not None else value
