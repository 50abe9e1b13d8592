"""What a command says beside its answer, and files it writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from planner.errors import RequestError


def save(path: Path, text: str) -> None:
    """Writes a file the user named; a path that cannot be written is bad usage."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror}", hint="name another file") from None


def report_warnings(warnings: Iterable[str]) -> None:
    """Notes go to stderr, one line each."""
    for warning in warnings:
        click.echo(f"note: {' '.join(warning.split())}", err=True)
