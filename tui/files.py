"""Files that the user names: read and written, or refused in one line."""

from __future__ import annotations

from pathlib import Path

from planner.errors import RequestError
from planner.request import PlanRequest

MAX_REQUEST_BYTES = 1_000_000


def save(path: Path, text: str) -> None:
    """Writes a file the user named; a path that cannot be written is bad usage."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror}", hint="name another file") from None


def read(path: Path, what: str, hint: str, max_bytes: int) -> str:
    """The text of a file the user named as ``what``; one that cannot be read is bad usage."""
    try:
        if path.stat().st_size > max_bytes:
            raise RequestError(f"{path} is too large for {what}", hint=hint)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise RequestError(f"{path} cannot be read: {reason}", hint=hint) from None


def read_requests(path: Path) -> tuple[PlanRequest, ...]:
    """The requests that a saved or exported file holds; raises RequestError naming the field that is wrong."""
    from planner.request_text import HINT, parse

    return parse(read(path, "a request file", HINT, MAX_REQUEST_BYTES), str(path))
