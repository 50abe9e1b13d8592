"""Memory over a traced run, as the pictures show it: what is live of each category at evenly spaced moments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from validate.trace.allocator import AllocatorSettings, CachingAllocator, SimulatedOutOfMemoryError
from validate.trace.blocks import Block
from validate.trace.events import HOST, EventLog, Kind

CATEGORIES = (
    "weights", "buffers", "adapter", "optimizer", "buckets", "gradients", "gathered", "reduction", "input",
    "activations", "temporaries", "workspace",
)  # fmt: skip
"""From what stays to what comes and goes; pictures stack them in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The fullest moment of one slice of the run. Bytes."""

    phase: str
    step: int
    allocated_bytes: int
    reserved_bytes: int
    by_category: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A run in ``len(moments)`` slices of equally many events."""

    moments: tuple[Moment, ...]

    @property
    def peak_reserved_bytes(self) -> int:
        return max((moment.reserved_bytes for moment in self.moments), default=0)

    def spans(self) -> tuple[tuple[str, int, int, int], ...]:
        """Phases as (name, step, first slice, slice after the last)."""
        spans: list[tuple[str, int, int, int]] = []
        for index, moment in enumerate(self.moments):
            if spans and spans[-1][:2] == (moment.phase, moment.step):
                spans[-1] = (*spans[-1][:3], index + 1)
            else:
                spans.append((moment.phase, moment.step, index, index + 1))
        return tuple(spans)


def timeline(log: EventLog, settings: AllocatorSettings | None = None, *, num_slices: int = 240) -> Timeline:
    """Replay ``log`` and keep the fullest moment of each slice; ends where the device is full."""
    allocator = CachingAllocator(settings)
    live: dict[int, Block] = {}
    held: dict[str, int] = defaultdict(int)
    moments: list[Moment] = []
    best: Moment | None = None
    phase, step, number = "load", 0, 0
    host = log.find(HOST)
    per_slice = max(1, len(log.rows) // num_slices)
    for event, (kind, first, second, _) in enumerate(log.rows):
        if kind is Kind.ALLOC:
            if first and log.categories[number] != host:
                try:
                    block = live[number] = allocator.malloc(first)
                except SimulatedOutOfMemoryError:
                    break
                held[log.category_of(number)] += block.size_bytes
            number += 1
        elif kind is Kind.FREE and first in live:
            block = live.pop(first)
            held[log.category_of(first)] -= block.size_bytes
            allocator.free(block)
        elif kind is Kind.PHASE:
            if best is not None:
                moments.append(best)
                best = None
            phase, step = log.names[first], second
        elif kind is Kind.EMPTY_CACHE:
            allocator.empty_cache()
        if best is None or allocator.allocated_bytes > best.allocated_bytes:
            best = Moment(
                phase=phase, step=step, allocated_bytes=allocator.allocated_bytes,
                reserved_bytes=allocator.reserved_bytes,
                by_category={name: size for name, size in held.items() if size},
            )  # fmt: skip
        if event % per_slice == per_slice - 1:
            moments.append(best)
            best = None
    if best is not None:
        moments.append(best)
    return Timeline(moments=tuple(moments))


def name_unlabelled(log: EventLog) -> None:
    """Name what no one labelled: activations outlive the forward pass of their birth, the rest is temporary."""
    unlabelled = log.find("")
    temporaries, activations = log.name("temporaries"), log.name("activations")
    born: dict[int, int] = {}
    forward: set[int] = set()
    phase_index, number = 0, 0
    for kind, first, _, _ in log.rows:
        if kind is Kind.ALLOC:
            if log.categories[number] == unlabelled:
                born[number] = phase_index
                log.categories[number] = activations if phase_index in forward else temporaries
            number += 1
        elif kind is Kind.FREE:
            if born.get(first) == phase_index:
                log.categories[first] = temporaries
        elif kind is Kind.PHASE:
            phase_index += 1
            if log.names[first] == "forward":
                forward.add(phase_index)
