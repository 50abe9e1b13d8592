"""Replay of an event log through the allocator: every answer about a traced run is one of these."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from planner.quantity import Quantity
from validate.trace.allocator import AllocatorSettings, CachingAllocator, SimulatedOutOfMemoryError
from validate.trace.blocks import Block
from validate.trace.events import HOST, EventLog, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePeak:
    """Largest counters while one phase of one step ran, and what was allocated when it ended. Bytes."""

    phase: str
    step: int
    allocated_bytes: int
    reserved_bytes: int
    end_allocated_bytes: int
    peak_event: int
    """Row of the log at which ``allocated_bytes`` was reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveGroup:
    """Blocks of one category, module and operator that were live at the peak."""

    category: str
    module: str
    op: str
    size_bytes: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfMemory:
    """The first request the simulated device could not serve."""

    phase: str
    step: int
    op: str
    module: str
    requested_bytes: int
    allocated_bytes: int
    reserved_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A run on one device with one allocator setting. Peaks are of the whole run, in bytes."""

    settings: AllocatorSettings
    peak_requested_bytes: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    num_alloc_retries: int
    phases: tuple[PhasePeak, ...]
    """In order of execution; one per phase and step."""
    peak_event: int
    """Row of the log at which ``peak_allocated_bytes`` was reached."""
    peak_phase: str
    peak_step: int
    out_of_memory: OutOfMemory | None

    def peak_bytes(self, quantity: Quantity, measured_in: Callable[[str], bool] | None = None) -> int:
        """The peak of a counter over some phases or the whole run; active equals allocated on one stream.

        A run that ended before any of the phases began has 0.
        """
        phases = [each for each in self.phases if measured_in is None or measured_in(each.phase)]
        if quantity is Quantity.RESERVED:
            return max((each.reserved_bytes for each in phases), default=0)
        if quantity in (Quantity.ALLOCATED, Quantity.ACTIVE):
            return max((each.allocated_bytes for each in phases), default=0)
        raise ValueError(f"the allocator does not count {quantity}")

    def worst_phases(self) -> tuple[PhasePeak, ...]:
        """Of each phase the step with the largest allocation, in order of first execution."""
        worst: dict[str, PhasePeak] = {}
        for peak in self.phases:
            if peak.phase not in worst or peak.allocated_bytes > worst[peak.phase].allocated_bytes:
                worst[peak.phase] = peak
        return tuple(worst.values())


def replay(log: EventLog, settings: AllocatorSettings | None = None) -> Replay:
    """Play ``log`` on a fresh simulated device. Stops at the first request that cannot be served."""
    allocator = CachingAllocator(settings)
    live: dict[int, Block] = {}
    phases: list[PhasePeak] = []
    phase, step, number = "load", 0, 0
    peak_event, peak_phase, peak_step, peak = 0, phase, step, 0
    run_reserved = run_requested = 0
    phase_event = 0
    failure: OutOfMemory | None = None

    def close() -> None:
        nonlocal run_reserved, run_requested
        phases.append(
            PhasePeak(
                phase=phase, step=step, allocated_bytes=allocator.peak_allocated_bytes,
                reserved_bytes=allocator.peak_reserved_bytes, end_allocated_bytes=allocator.allocated_bytes,
                peak_event=phase_event,
            )
        )  # fmt: skip
        run_reserved = max(run_reserved, allocator.peak_reserved_bytes)
        run_requested = max(run_requested, allocator.peak_requested_bytes)
        allocator.reset_peaks()

    host = log.find(HOST)
    for event, (kind, first, second, third) in enumerate(log.rows):
        if kind is Kind.ALLOC:
            if first and log.categories[number] != host:
                try:
                    live[number] = allocator.malloc(first)
                except SimulatedOutOfMemoryError:
                    failure = OutOfMemory(
                        phase=phase, step=step, op=log.names[second], module=log.names[third],
                        requested_bytes=first, allocated_bytes=allocator.allocated_bytes,
                        reserved_bytes=allocator.reserved_bytes,
                    )  # fmt: skip
                    break
                if allocator.allocated_bytes == allocator.peak_allocated_bytes:
                    phase_event = event
                if allocator.allocated_bytes > peak:
                    peak, peak_event, peak_phase, peak_step = allocator.allocated_bytes, event, phase, step
            number += 1
        elif kind is Kind.FREE:
            block = live.pop(first, None)
            if block is not None:
                allocator.free(block)
        elif kind is Kind.PHASE:
            if event:
                close()
            phase, step, phase_event = log.names[first], second, event
        else:
            allocator.empty_cache()
    close()
    return Replay(
        settings=allocator.settings,
        peak_requested_bytes=run_requested,
        peak_allocated_bytes=peak,
        peak_reserved_bytes=run_reserved,
        num_alloc_retries=allocator.num_alloc_retries,
        phases=tuple(phases),
        peak_event=peak_event,
        peak_phase=peak_phase,
        peak_step=peak_step,
        out_of_memory=failure,
    )


def live_at(log: EventLog, event: int) -> tuple[LiveGroup, ...]:
    """What is live after row ``event``, largest group first; layer numbers in module names become ``*``."""
    live: dict[int, tuple[int, int, int]] = {}
    number = 0
    for kind, first, second, third in log.rows[: event + 1]:
        if kind is Kind.ALLOC:
            live[number] = (first, second, third)
            number += 1
        elif kind is Kind.FREE:
            live.pop(first, None)
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for allocation, (size_bytes, op, module) in live.items():
        category = log.category_of(allocation)
        if category != HOST:
            groups[category, collapse(log.names[module]), log.names[op]].append(size_bytes)
    return tuple(
        LiveGroup(category=category, module=module, op=op, size_bytes=sum(sizes), count=len(sizes))
        for (category, module, op), sizes in sorted(groups.items(), key=lambda item: (-sum(item[1]), item[0]))
    )


def collapse(module: str) -> str:
    """``model.layers.3.mlp`` -> ``model.layers.*.mlp``."""
    return ".".join("*" if part.isdigit() else part for part in module.split("."))
