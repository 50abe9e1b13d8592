"""What a command says beside its answer."""

from __future__ import annotations

from collections.abc import Iterable

import click


def report_warnings(warnings: Iterable[str]) -> None:
    """Notes go to stderr, one line each."""
    for warning in warnings:
        click.echo(f"note: {' '.join(warning.split())}", err=True)
