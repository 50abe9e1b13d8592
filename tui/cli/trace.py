"""``plan trace``: run the real training step on fake tensors and replay PyTorch's allocator."""

from __future__ import annotations

from pathlib import Path

import click

from planner.errors import ExitCode, RequestError
from planner.request import AdapterSpec, PlanRequest, TrainingWorkload
from planner.units import format_gib, parse_bytes


@click.command()
@click.option("--model", help="Registry name, hub id, or directory with config.json.")
@click.option("--method", default="lora", show_default=True)
@click.option("--batch-size", type=int, default=1, show_default=True)
@click.option("--seq-len", type=int, default=2048, show_default=True)
@click.option("--rank", type=int, default=16, show_default=True)
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Keep the event log in this file.")
@click.option("--replay", "replayed", type=click.Path(dir_okay=False, path_type=Path), help="Replay a saved log.")
@click.option("--capacity", help="Memory of the simulated device, for example 24GiB.")
def command(
    model: str | None,
    method: str,
    batch_size: int,
    seq_len: int,
    rank: int,
    save: Path | None,
    replayed: Path | None,
    capacity: str | None,
) -> int:
    """Trace a training step without a GPU: peaks per phase, and what was live at the peak."""
    from validate.trace import trace
    from validate.trace.events import load
    from validate.trace.run import result_of

    capacity_bytes = parse_bytes(capacity) if capacity else None
    if replayed is not None:
        log = load(replayed)
    elif model is not None:
        workload = TrainingWorkload(
            method=method, batch_size=batch_size, seq_len=seq_len, adapter=AdapterSpec(rank=rank)
        )
        log = trace(PlanRequest(model=model, workload=workload)).log
    else:
        raise RequestError("nothing to trace", hint="give --model, or --replay run.trace")
    if save is not None:
        log.save(save)
    result = result_of(log, capacity_bytes=capacity_bytes)
    for peak in result.default.worst_phases():
        click.echo(
            f"{peak.phase:<12} allocated {format_gib(peak.allocated_bytes):>12}  "
            f"reserved {format_gib(peak.reserved_bytes):>12}"
        )
    for group in result.live_at_peak()[:15]:
        click.echo(f"{format_gib(group.size_bytes):>12}  {group.category or '-':<12} {group.module} {group.op}")
    return int(ExitCode.DOES_NOT_FIT if result.default.out_of_memory else ExitCode.OK)
