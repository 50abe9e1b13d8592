"""The event log survives its file, and every answer is a replay of it."""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path

import pytest

from planner.errors import EnvironmentProblemError, RequestError
from planner.quantity import Quantity
from planner.units import MIB
from validate.trace.allocator import AllocatorSettings
from validate.trace.events import EventLog, load
from validate.trace.replay import live_at, replay

packed = partial(gzip.compress, mtime=0)


@pytest.fixture
def log() -> EventLog:
    """Weights of 100 MiB, then per step an activation of 50 MiB and a temporary of 30 MiB in backward."""
    log = EventLog(meta={"model": "toy", "num_trainable": 7})
    log.phase("load", 0)
    log.alloc(100 * MIB, log.name("to"), log.name("model.layers.0.mlp"), log.name("weights"))
    for step in range(2):
        log.phase("forward", step)
        activation = log.alloc(50 * MIB, log.name("mm"), log.name("model.layers.1.mlp"), log.name(""))
        log.alloc(4, log.name("add"), log.name(""), log.name("host"))
        log.phase("backward", step)
        temporary = log.alloc(30 * MIB, log.name("mm"), log.name("model.layers.0.mlp"), log.name(""))
        log.free(temporary)
        log.free(activation)
    log.empty_cache()
    return log


def test_a_saved_log_is_the_same_log(log: EventLog, tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    log.save(path)
    again = load(path)
    assert (again.meta, again.names, again.rows, again.categories) == (
        log.meta,
        log.names,
        log.rows,
        log.categories,
    )
    again.save(tmp_path / "again.trace")
    assert (tmp_path / "again.trace").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        packed(b"hello"),
        packed(b'{"format": "other"}\n'),
        packed(b'{"format": "gpu-planner-trace", "version": 99, "meta": {}, "names": []}\n'),
        packed(b'{"format": "gpu-planner-trace", "version": 1, "meta": {}, "names": [""]}\na 1 0\n'),
        packed(b'{"format": "gpu-planner-trace", "version": 1, "meta": {}, "names": [""]}\na 1 0 0 4\n'),
        packed(b'{"format": "gpu-planner-trace", "version": 1, "meta": {}, "names": [""]}\nf 3\n'),
        packed(b'{"format": "gpu-planner-trace", "version": 1, "meta": {}, "names": [""]}\nx 3\n'),
        packed(b'{"format": "gpu-planner-trace", "version": 1}\n'),
        packed(b"\xff\xfe"),
        packed(b"[]\n" * 1000)[:-9],
    ],
)
def test_a_file_that_is_no_trace_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    path.write_bytes(content)
    with pytest.raises(RequestError) as refused:
        load(path)
    assert "run.trace" in refused.value.message


def test_a_missing_file_is_an_environment_problem(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError):
        load(tmp_path / "none.trace")
    with pytest.raises(EnvironmentProblemError):
        load(tmp_path)


def test_peaks_per_phase(log: EventLog) -> None:
    played = replay(log)
    assert played.peak_allocated_bytes == 180 * MIB == played.peak_bytes(Quantity.ACTIVE)
    assert played.peak_reserved_bytes == 180 * MIB
    assert (played.peak_phase, played.peak_step) == ("backward", 0)
    by_phase = {peak.phase: peak.allocated_bytes for peak in played.worst_phases()}
    assert by_phase == {"load": 100 * MIB, "forward": 150 * MIB, "backward": 180 * MIB}
    assert [peak.end_allocated_bytes for peak in played.phases] == [
        100 * MIB, 150 * MIB, 100 * MIB, 150 * MIB, 100 * MIB,
    ]  # fmt: skip


def test_host_memory_takes_no_device_memory(log: EventLog) -> None:
    assert all(group.category != "host" for group in live_at(log, len(log.rows) - 1))
    assert replay(log).peak_requested_bytes == 180 * MIB


def test_what_is_live_at_the_peak_adds_up_to_it(log: EventLog) -> None:
    played = replay(log)
    groups = live_at(log, played.peak_event)
    assert [(group.category, group.module, group.op, group.size_bytes) for group in groups] == [
        ("weights", "model.layers.*.mlp", "to", 100 * MIB),
        ("", "model.layers.*.mlp", "mm", 80 * MIB),
    ]
    assert sum(group.size_bytes for group in groups) == played.peak_requested_bytes


def test_a_small_device_fails_where_the_request_is_made(log: EventLog) -> None:
    failure = replay(log, AllocatorSettings(capacity_bytes=160 * MIB)).out_of_memory
    assert failure is not None
    assert (failure.phase, failure.step, failure.op, failure.requested_bytes) == ("backward", 0, "mm", 30 * MIB)
    assert replay(log, AllocatorSettings(capacity_bytes=180 * MIB)).out_of_memory is None
