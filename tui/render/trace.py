"""A traced run as text and as JSON."""

from __future__ import annotations

import json
from typing import Any

from hardware_db.gpu import Gpu
from planner.jsonable import jsonable
from planner.memory.estimate import Estimate
from planner.units import GIB, format_bytes, format_count, format_gib
from tui.render.columns import columns
from validate.trace.oracle import Verdict
from validate.trace.run import TraceResult

SHOWN_GROUPS = 15
_SMALL_BYTES = GIB // 10
SCHEMA_VERSION = 1


def text(result: TraceResult, estimates: tuple[Estimate, ...], gpu: Gpu | None) -> str:
    """Counters with their band, phases, and the largest groups live at the peak."""
    default, meta = result.default, result.log.meta
    versions = ", ".join(f"{name} {number}" for name, number in meta.get("versions", {}).items())
    lines = [f"{meta.get('title', meta.get('model', 'run'))}", f"  {versions}"]
    if "num_params" in meta:
        trained = format_count(int(meta["num_trainable"]))
        lines.append(f"  {trained} of {format_count(int(meta['num_params']))} parameters are trained")
    rows = [("per GPU", "low", "expected", "high")]
    for each in estimates:
        sizes = (each.low_bytes, each.expected_bytes, each.high_bytes)
        low, expected, high = (_size(size) for size in sizes)
        rows.append((str(each.quantity), low, expected, high))
    lines += ["", *columns(rows, right=(1, 2, 3)), ""]
    phases = [("phase", "step", "allocated", "reserved")]
    phases += [
        (peak.phase, str(peak.step), _size(peak.allocated_bytes), _size(peak.reserved_bytes))
        for peak in default.worst_phases()
    ]
    lines += [*columns(phases, right=(1, 2, 3)), ""]
    lines += _rank_lines(result)
    failure = default.out_of_memory
    if failure is not None:
        where = f" in {failure.module}" if failure.module else ""
        lines += [
            f"out of memory in {failure.phase} of step {failure.step}: {failure.op}{where} asks for "
            f"{format_bytes(failure.requested_bytes)} with {_size(failure.allocated_bytes)} allocated and "
            f"{_size(failure.reserved_bytes)} reserved",
            "",
        ]
    for index, history in enumerate(result.histories, start=1):
        failed = history.out_of_memory
        end = "runs through" if failed is None else f"fails at step ~{failed.step} ({failed.phase})"
        lines.append(
            f"history {index} of {len(result.histories)}: reserved {_size(history.peak_reserved_bytes)}, {end}"
        )
    lines += [""] if result.histories else []
    lines.append(f"live at the peak of {_size(default.peak_allocated_bytes)} "
                 f"({default.peak_phase}, step {default.peak_step})")  # fmt: skip
    groups = result.live_at_peak()
    table = [("size", "blocks", "category", "operator", "module")]
    table += [
        (format_bytes(group.size_bytes), str(group.count), group.category, group.op, group.module)
        for group in groups[:SHOWN_GROUPS]
    ]
    rest = groups[SHOWN_GROUPS:]
    if rest:
        size, count = sum(group.size_bytes for group in rest), sum(group.count for group in rest)
        table.append((format_bytes(size), str(count), "", f"{len(rest)} smaller groups", ""))
    lines += columns(table, right=(0, 1))
    if gpu is not None:
        device = estimates[-1]
        free = gpu.memory_bytes - device.expected_bytes
        lines += ["", f"{gpu.name}: {_size(gpu.memory_bytes)}, {_size(free)} left free"]
    return "\n".join(lines)


def _rank_lines(result: TraceResult) -> list[str]:
    """What the ranks of a run over several GPUs hold; the rest of the answer is about the first of them."""
    if not result.ranks:
        return []
    if len(result.ranks) == 1:
        return [f"all {len(result.ranks[0].ranks)} ranks hold the same", ""]
    rows = [("ranks", "allocated", "reserved")]
    rows += [
        (_spans(peaks.ranks), _size(peaks.allocated_bytes), _size(peaks.reserved_bytes)) for peaks in result.ranks
    ]
    return [*columns(rows, right=(1, 2)), ""]


def _spans(ranks: tuple[int, ...]) -> str:
    """(0, 1, 2, 5) -> 0-2, 5."""
    spans: list[list[int]] = []
    for rank in ranks:
        if spans and spans[-1][1] == rank - 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def verdict_text(verdict: Verdict) -> str:
    """One line: what the formulas say of allocated memory, and where they are off."""
    said = (
        f"formulas: {_size(verdict.analytic_bytes)} allocated "
        f"({_size(verdict.analytic_low_bytes)} to {_size(verdict.analytic_high_bytes)})"
    )
    if verdict.agrees:
        return f"{said}, the trace agrees"
    more = "more" if verdict.kind_difference_bytes > 0 else "less"
    return (
        f"{said}, the trace says {_size(verdict.traced_bytes)}; they differ most in {verdict.kind}: "
        f"{_size(abs(verdict.kind_difference_bytes))} {more} by formula"
    )


def document(result: TraceResult, estimates: tuple[Estimate, ...]) -> dict[str, Any]:
    """The answer as plain values, in bytes."""
    default = result.default
    return {
        "schema_version": SCHEMA_VERSION,
        "run": result.log.meta,
        "num_events": len(result.log.rows),
        "wall_s": round(result.wall_s, 3),
        "estimates": [
            {
                "quantity": each.quantity,
                "low_bytes": each.low_bytes,
                "expected_bytes": each.expected_bytes,
                "high_bytes": each.high_bytes,
            }
            for each in estimates
        ],
        "ranks": [jsonable(peaks) for peaks in result.ranks],
        "default": jsonable(default),
        "expandable": jsonable(result.expandable),
        "live_at_peak": [jsonable(group) for group in result.live_at_peak()],
    }


def json_text(result: TraceResult, estimates: tuple[Estimate, ...]) -> str:
    return json.dumps(document(result, estimates), indent=2, ensure_ascii=False)


def _size(size_bytes: int) -> str:
    return format_bytes(size_bytes) if 0 < abs(size_bytes) < _SMALL_BYTES else format_gib(size_bytes)
