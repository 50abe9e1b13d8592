"""Requests kept in a JSON file, to be asked again, shared or reopened in the app."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from planner.checks import check_request
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
from tui.values import plain

SCHEMA_VERSION = 1
MAX_FILE_BYTES = 1_000_000
_HINT = "plan … --save-request FILE writes one"
_INNER: dict[str, type] = {
    "adapter": AdapterSpec,
    "evaluation": EvaluationSpec,
    "parallelism": Parallelism,
    "hardware": HardwareWish,
}


def dump(requests: Sequence[PlanRequest]) -> str:
    """The requests as a JSON document that ``load`` reads back to equal values."""
    rows = [{"task": request.task, **plain(request)} for request in requests]
    return json.dumps({"schema_version": SCHEMA_VERSION, "requests": rows}, indent=2) + "\n"


def load(path: Path) -> tuple[PlanRequest, ...]:
    """The requests of a file; raises RequestError naming the field that is wrong."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RequestError(f"{path} is too large for a request file", hint=_HINT)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise RequestError(f"{path} cannot be read: {reason}", hint=_HINT) from None
    return parse(text, str(path))


def parse(text: str, where: str = "request file") -> tuple[PlanRequest, ...]:
    """As ``load``, of text that is already read."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError(f"{where} is not JSON", hint=_HINT) from None
    rows = document.get("requests") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not rows:
        raise RequestError(f"{where} holds no requests", hint=_HINT)
    if document.get("schema_version") != SCHEMA_VERSION:
        raise RequestError(f"{where} is of another version: {document.get('schema_version')!r}", hint=_HINT)
    return tuple(_request(row, f"{where}, request {number}") for number, row in enumerate(rows, 1))


def _request(row: Any, where: str) -> PlanRequest:
    if not isinstance(row, dict) or row.get("task") not in ("train", "serve"):
        raise RequestError(f"{where}: task must be train or serve", hint=_HINT)
    kind = TrainingWorkload if row["task"] == "train" else ServingWorkload
    known = {name: value for name, value in row.items() if name != "task"}
    _refuse_unknown(known, PlanRequest, where)
    _refuse_unknown(known.get("workload"), kind, where)
    workload = _validated(kind, known.get("workload"), where)
    request: PlanRequest = _validated(PlanRequest, known | {"workload": workload}, where)
    check_request(request)
    return request


def _refuse_unknown(row: Any, kind: type, where: str) -> None:
    """Every key must be a field, so that a misspelt one is not silently left out."""
    if not isinstance(row, Mapping):
        return
    names = {field.name for field in fields(kind)} if is_dataclass(kind) else set()
    for name, value in row.items():
        if name not in names:
            from difflib import get_close_matches

            near = get_close_matches(str(name), names, n=1)
            raise RequestError(
                f"{where}: there is no field {name!r}", hint=f"did you mean {near[0]}?" if near else _HINT
            )
        if name in _INNER:
            _refuse_unknown(value, _INNER[name], where)


def _validated(kind: type, row: Any, where: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(row)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "workload"
        raise RequestError(f"{where}: {field}: {first['msg'].lower()}", hint=_HINT) from None
