"""What one rank holds: how parameters, gradients, optimizer states and tokens are divided.

Names follow torchtitan. The worst rank is meant: remainders round up.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.memory.ops import Int, ceil_div, minimum
from planner.request import Parallelism


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Divisors of one rank's holdings."""

    parameters: Int
    """Ways the parameters are split by ZeRO-3 / FSDP (tensor and pipeline splits come on top)."""
    gradients: Int
    optimizer: Int
    tp: Int
    pp: Int
    cp: Int
    in_flight: Int
    """Micro-batches whose activations are alive on the first pipeline stage."""
    optimizer_on_gpu: bool
    parameters_on_gpu: bool
    replicates: bool
    """Data-parallel ranks exist whose gradients are averaged."""


def shares(parallelism: Parallelism) -> Shares:
    """How ``parallelism`` divides one model among its ranks."""
    group = parallelism.dp_shard * parallelism.cp
    stage = parallelism.zero_stage
    one: Int = 1
    microbatches = parallelism.num_microbatches or parallelism.pp
    deep = parallelism.pp if parallelism.pp_schedule.lower() != "gpipe" else microbatches
    return Shares(
        parameters=group if stage >= 3 else one,
        gradients=group if stage >= 2 else one,
        optimizer=group if stage >= 1 else one,
        tp=parallelism.tp,
        pp=parallelism.pp,
        cp=parallelism.cp,
        in_flight=minimum(deep, microbatches),
        optimizer_on_gpu=parallelism.cpu_offload == "none",
        parameters_on_gpu=parallelism.cpu_offload in ("none", "optimizer"),
        replicates=bool(
            not isinstance(parallelism.dp_replicate, int)
            or parallelism.dp_replicate > 1
            or not isinstance(parallelism.dp_shard, int)
            or parallelism.dp_shard > 1
        ),
    )


def shard(size_bytes: Int, ways: Int) -> Int:
    """The largest of ``ways`` equal parts."""
    return ceil_div(size_bytes, ways)
