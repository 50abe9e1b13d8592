"""Histories of batch lengths: traced steps in other orders, to see how far reserved memory drifts.

A steady training step frees what it allocates, except what the loop keeps (optimizer states once, outputs until
the next step). So one traced step per length is enough to play any order of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.errors import UnsupportedError
from validate.trace.events import EventLog, Kind, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTemplate:
    """One steady step. Frees name its allocations (>= 0) or, as ``-1 - n``, the n-th the step before kept."""

    rows: tuple[Row, ...]
    categories: tuple[int, ...]
    kept: tuple[int, ...]
    """Allocations of the step that are live when it ends; the next step frees them."""


def compose(
    log: EventLog, lengths: Sequence[int], order: Sequence[int], *, empty_cache_steps: int | None = None
) -> EventLog:
    """A run that takes the steps of ``log`` in the ``order`` of their lengths.

    ``lengths`` are those of the traced steps; the first is the warm-up that makes the optimizer's states and stays
    first. Raises UnsupportedError where steps are not steady or a length was not traced.
    """
    starts = _starts(log)
    if len(starts) != len(lengths) - 1:
        raise UnsupportedError("the log does not hold one step per length", hint=None)
    first_kept = kept = _kept_by_warm_up(log, starts)
    templates: dict[int, StepTemplate] = {}
    for length, first, last in zip(lengths[1:], starts, [*starts[1:], len(log.rows)], strict=True):
        templates[length], kept = _template(log, first, last, kept)
    if any(len(template.kept) != len(first_kept) for template in templates.values()):
        raise UnsupportedError("the traced steps keep different numbers of tensors", hint=None)
    return _play(log, starts[0], templates, order, first_kept, empty_cache_steps)


def nearest_lengths(wanted: Sequence[int], count: int) -> Mapping[int, int]:
    """Each wanted length rounded up to one of at most ``count`` lengths, the longest among them."""
    distinct = sorted(set(wanted))
    if len(distinct) <= count:
        return {length: length for length in distinct}
    bounds = sorted({distinct[-(-(index + 1) * len(distinct) // count) - 1] for index in range(count)})
    return {length: next(bound for bound in bounds if bound >= length) for length in distinct}


def _starts(log: EventLog) -> list[int]:
    """The first row of every step after the warm-up."""
    starts: list[int] = []
    seen = 0
    for row, (kind, first, second, _) in enumerate(log.rows):
        if kind is Kind.PHASE and log.names[first] != "load" and second > seen:
            seen = second
            starts.append(row)
    if not starts:
        raise UnsupportedError("the log holds a single step", hint="trace more steps")
    return starts


def _num_allocations(log: EventLog, row: int) -> int:
    return sum(kind is Kind.ALLOC for kind, *_ in log.rows[:row])


def _kept_by_warm_up(log: EventLog, starts: Sequence[int]) -> list[int]:
    """What the warm-up leaves to be freed by the step after it."""
    last = starts[1] if len(starts) > 1 else len(log.rows)
    born = _num_allocations(log, starts[0])
    return sorted(value for kind, value, *_ in log.rows[starts[0] : last] if kind is Kind.FREE and value < born)


def _template(log: EventLog, first: int, last: int, kept: Sequence[int]) -> tuple[StepTemplate, list[int]]:
    start = number = _num_allocations(log, first)
    position = {allocation: index for index, allocation in enumerate(kept)}
    own: dict[int, None] = {}
    rows: list[Row] = []
    for kind, value, second, third in log.rows[first:last]:
        if kind is Kind.FREE and value >= start:
            del own[value]
            rows.append((kind, value - start, 0, 0))
        elif kind is Kind.FREE:
            if value not in position:
                raise UnsupportedError("a traced step frees what an earlier one kept", hint=None)
            rows.append((kind, -1 - position.pop(value), 0, 0))
        elif kind is not Kind.EMPTY_CACHE:
            rows.append((kind, value, second, third))
            if kind is Kind.ALLOC:
                own[number] = None
                number += 1
    if position:
        raise UnsupportedError("a traced step keeps what should have been freed", hint=None)
    categories = tuple(log.categories[start:number])
    kept_now = tuple(allocation - start for allocation in own)
    return StepTemplate(rows=tuple(rows), categories=categories, kept=kept_now), list(own)


def _play(
    log: EventLog,
    prefix: int,
    templates: Mapping[int, StepTemplate],
    order: Sequence[int],
    kept: Sequence[int],
    empty_cache_steps: int | None,
) -> EventLog:
    run = EventLog(meta=dict(log.meta), names=list(log.names))
    run.rows = list(log.rows[:prefix])
    run.categories = list(log.categories[: _num_allocations(log, prefix)])
    for step, length in enumerate(order, start=1):
        template = templates.get(length)
        if template is None:
            raise UnsupportedError(f"no step of {length} tokens was traced", hint=None)
        start = len(run.categories)
        for kind, value, second, third in template.rows:
            if kind is Kind.FREE:
                run.rows.append((kind, value + start if value >= 0 else kept[-1 - value], 0, 0))
            elif kind is Kind.PHASE:
                run.rows.append((kind, value, step, third))
            else:
                run.rows.append((kind, value, second, third))
        run.categories += template.categories
        kept = [start + own for own in template.kept]
        if empty_cache_steps and (step + 1) % empty_cache_steps == 0:
            run.empty_cache()
    return run
