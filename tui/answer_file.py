"""An answer that was kept in a file, or that a request file asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from planner.errors import RequestError
from planner.plan import plan_requests
from planner.request_text import parse
from tui.comparison import Answer
from tui.files import read
from tui.render.json import SCHEMA_VERSION, document

_HINT = "compare answers of plan --json, or files of plan --save-request"
MAX_FILE_BYTES = 50_000_000


def load(path: Path) -> Answer:
    """An answer of ``plan --json``, or the answer to a request file, which is worked out now."""
    text = read(path, "an answer", _HINT, MAX_FILE_BYTES)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError(f"{path} is not JSON", hint=_HINT) from None
    if isinstance(content, dict) and "requests" in content:
        content = document(plan_requests(parse(text, str(path))))
    return _answer(content, path)


def _answer(content: Any, path: Path) -> Answer:
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise RequestError(f"{path} is no answer of version {SCHEMA_VERSION}", hint=_HINT)
    model = content.get("model")
    named = {
        "name": path.name,
        "model": (model.get("name") or "known by size") if isinstance(model, dict) else None,
        "estimates": content.get("estimates"),
        "fits": content.get("fits"),
    }
    try:
        return TypeAdapter(Answer).validate_python(named)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{path}: {field}: {first['msg'].lower()}", hint=_HINT) from None
