"""Files that the user names."""

from __future__ import annotations

from pathlib import Path

from planner.errors import RequestError


def save(path: Path, text: str) -> None:
    """Writes a file the user named; a path that cannot be written is bad usage."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror}", hint="name another file") from None
