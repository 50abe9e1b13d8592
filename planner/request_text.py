"""A request as text: a file of its own, or one line of a file that runs it. Both are read back to equal values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from planner.checks import check_request
from planner.errors import RequestError
from planner.jsonable import jsonable
from planner.request import (
    AdapterSpec,
    EvaluationSpec,
    HardwareWish,
    Parallelism,
    PlanRequest,
    ServingWorkload,
    TrainingWorkload,
)

SCHEMA_VERSION = 1
MARK = "gpu-planner-request:"
JSON_KEY = "gpu_planner_request"
"""Where a JSON document of another program carries the request; ``MARK`` begins it in a comment."""
HINT = "plan --save-request FILE and plan export write files that hold one"
_INNER: dict[str, type] = {
    "adapter": AdapterSpec,
    "evaluation": EvaluationSpec,
    "parallelism": Parallelism,
    "hardware": HardwareWish,
}


def document(requests: Sequence[PlanRequest]) -> str:
    """A file of requests, every field in it: what a person edits."""
    rows = [row(request) for request in requests]
    return json.dumps({"schema_version": SCHEMA_VERSION, "requests": rows}, indent=2, ensure_ascii=False) + "\n"


def comment(request: PlanRequest) -> str:
    """The request as a line for formats in which ``#`` starts a comment."""
    return f"# {MARK} {json.dumps(row(request, brief=True), separators=(',', ':'))}"


def row(request: PlanRequest, *, brief: bool = False) -> dict[str, Any]:
    """The request as JSON values; ``brief`` leaves out the fields that hold their default."""
    return {"task": request.task, **jsonable(request, brief=brief)}


def parse(text: str, where: str) -> tuple[PlanRequest, ...]:
    """The requests ``text`` is or carries; raises RequestError naming ``where`` and the field that is wrong."""
    if not text.lstrip().startswith("{"):
        return (_request(_json(_marked(text), where), where),)
    content = _json(text, where)
    if JSON_KEY in content:
        return (_request(content[JSON_KEY], where),)
    rows = content.get("requests")
    if not isinstance(rows, list) or not rows:
        raise RequestError(f"{where} holds no request", hint=HINT)
    if content.get("schema_version") != SCHEMA_VERSION:
        raise RequestError(f"{where} is of another version: {content.get('schema_version')!r}", hint=HINT)
    return tuple(_request(item, f"{where}, request {number}") for number, item in enumerate(rows, 1))


def _marked(text: str) -> str:
    return next((line.split(MARK, 1)[1] for line in text.split("\n") if MARK in line), "")


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError(f"{where} holds no request", hint=HINT) from None


def _request(content: Any, where: str) -> PlanRequest:
    if not isinstance(content, dict) or content.get("task") not in ("train", "serve"):
        raise RequestError(f"{where}: task must be train or serve", hint=HINT)
    kind = TrainingWorkload if content["task"] == "train" else ServingWorkload
    known = {name: value for name, value in content.items() if name != "task"}
    _refuse_unknown(known, PlanRequest, where)
    _refuse_unknown(known.get("workload"), kind, where)
    workload = _validated(kind, known.get("workload"), where)
    request: PlanRequest = _validated(PlanRequest, known | {"workload": workload}, where)
    check_request(request)
    return request


def _refuse_unknown(content: Any, kind: type, where: str) -> None:
    """Every key must be a field, so that a misspelt one is not silently left out."""
    if not isinstance(content, Mapping):
        return
    names = {field.name for field in fields(kind)}
    for name, value in content.items():
        if name not in names:
            from difflib import get_close_matches

            near = get_close_matches(str(name), names, n=1)
            raise RequestError(
                f"{where}: there is no field {name!r}", hint=f"did you mean {near[0]}?" if near else HINT
            )
        if name in _INNER:
            _refuse_unknown(value, _INNER[name], where)


def _validated(kind: type, content: Any, where: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "workload"
        raise RequestError(f"{where}: {field}: {first['msg'].lower()}", hint=HINT) from None
