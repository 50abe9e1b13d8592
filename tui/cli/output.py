"""What a command says beside its answer: notes and warnings go to stderr, one line each."""

from __future__ import annotations

from collections.abc import Iterable

import click


def report_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.echo(f"note: {' '.join(warning.split())}", err=True)
