"""Progress on stderr, only where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

Say = Callable[[str], None]


def status(what: str) -> AbstractContextManager[Any]:
    """A line that says what takes its time."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(what)


@contextmanager
def phases(num_phases: int | None = None) -> Iterator[Say]:
    """A bar over the phases of one run."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<26}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=num_phases)
        yield lambda text: bar.update(task, description=text, advance=", step " in text)


@contextmanager
def cases(total: int) -> Iterator[tuple[Say, Callable[[], None]]]:
    """A bar over ``total`` cases: say what goes on, and that a case is done."""
    if not sys.stderr.isatty():
        yield lambda text: None, lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda text: bar.update(task, description=text), lambda: bar.advance(task)
