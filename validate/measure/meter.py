"""Reads memory while a run goes on: the CUDA allocator's counters and NVML, or live storages on a CPU."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Protocol

import torch

from validate.measure.spec import PhaseReading
from validate.trace.allocator import CachingAllocator
from validate.trace.blocks import Block
from validate.trace.events import Kind
from validate.trace.tracer import Tracer

Report = Callable[[PhaseReading], None]


class Meter(Protocol):
    """Measures named phases, each handed to ``report`` as soon as it ends so that a crash loses at most one."""

    def phase(self, name: str, step: int = 0) -> AbstractContextManager[None]: ...

    def watching(self) -> AbstractContextManager[Any]:
        """Must be open while the run allocates."""
        ...

    def settle(self) -> None:
        """Collect garbage and empty caches between unrelated parts of a run."""
        ...


class CpuMeter:
    """Live tensors as the CUDA allocator would hold them, and resident host memory.

    Every storage that passes through an operator is recorded by the tracer and placed by the simulated caching
    allocator: the sizes are those of real tensors, the 512-byte blocks are CUDA's.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._tracer = Tracer()
        self._allocator = CachingAllocator()
        self._live: dict[int, Block] = {}
        self._rows_read = 0
        self._num_allocations = 0

    def watching(self) -> AbstractContextManager[Any]:
        return self._tracer

    def settle(self) -> None:
        gc.collect()

    @contextmanager
    def phase(self, name: str, step: int = 0) -> Iterator[None]:
        self._catch_up()
        self._allocator.reset_peaks()
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            self._catch_up()
            self._report(
                PhaseReading(
                    phase=name, step=step, allocated_bytes=self._allocator.peak_allocated_bytes,
                    allocated_end_bytes=self._allocator.allocated_bytes, process_bytes=_resident_bytes(),
                    seconds=seconds,
                )
            )  # fmt: skip

    def _catch_up(self) -> None:
        rows = self._tracer.log.rows
        for kind, first, _, _ in rows[self._rows_read :]:
            if kind is Kind.ALLOC:
                if first:
                    self._live[self._num_allocations] = self._allocator.malloc(first)
                self._num_allocations += 1
            elif kind is Kind.FREE and first in self._live:
                self._allocator.free(self._live.pop(first))
        self._rows_read = len(rows)


class CudaMeter:
    """PyTorch's own counters, and NVML's for the process and the device."""

    def __init__(self, report: Report, device_bytes_before: int) -> None:
        self._report = report
        self._before_bytes = device_bytes_before

    def watching(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def settle(self) -> None:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    @contextmanager
    def phase(self, name: str, step: int = 0) -> Iterator[None]:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        try:
            yield
        finally:
            with suppress(RuntimeError):  # after an error of the device the counters still tell what was reached
                torch.cuda.synchronize()
            self._read(name, step, time.perf_counter() - began)

    def _read(self, name: str, step: int, seconds: float) -> None:
        counters = torch.cuda.memory_stats()
        process, device = _nvml_bytes()
        self._report(
            PhaseReading(
                phase=name, step=step,
                allocated_bytes=counters["allocated_bytes.all.peak"],
                allocated_end_bytes=counters["allocated_bytes.all.current"],
                active_bytes=counters["active_bytes.all.peak"],
                reserved_bytes=counters["reserved_bytes.all.peak"],
                process_bytes=process,
                device_bytes=None if device is None else max(0, device - self._before_bytes),
                seconds=seconds,
            )
        )  # fmt: skip


def make_meter(device: str, report: Report, device_bytes_before: int) -> Meter:
    """The meter of a device."""
    return CudaMeter(report, device_bytes_before) if device == "cuda" else CpuMeter(report)


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _nvml_bytes() -> tuple[int | None, int | None]:
    """Bytes of this process and of the whole device; the first is None in containers that hide process ids."""
    from planner.errors import EnvironmentProblemError
    from validate.measure.environment import device_use

    try:
        use = device_use(torch.cuda.current_device())
    except EnvironmentProblemError:
        return None, None
    own = dict(use.processes).get(os.getpid()) or None
    if own is None and len(use.processes) == 1:
        own = use.processes[0][1] or None
    return own, use.used_bytes


class EnergyMeter:
    """Joules and mean watts of a CUDA device over a stretch of time; nothing where the card does not count."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._joules: float | None = None
        self._began = 0.0

    def start(self) -> None:
        self._joules, self._began = self._read(), time.perf_counter()

    def stop(self) -> tuple[float | None, float | None]:
        """(joules, watts) since ``start``."""
        now = self._read()
        if now is None or self._joules is None:
            return None, None
        joules = now - self._joules
        return joules, joules / max(time.perf_counter() - self._began, 1e-9)

    def _read(self) -> float | None:
        if not self._cuda:
            return None
        from validate.measure.environment import device_handle, nvml

        torch.cuda.synchronize()
        with nvml() as library:
            try:
                handle = device_handle(library, torch.cuda.current_device())
                return float(library.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
            except library.NVMLError:
                return None
