"""What one rank holds: how parameters, gradients, optimizer states and tokens are divided.

Names follow torchtitan. The worst rank is meant: remainders round up.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.citation import Citation
from planner.dtypes import ELEMENT_BYTES, WeightFormat
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int, ceil_div, maximum, minimum, where
from planner.model.architecture import ModelArchitecture
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
    ep: Int
    in_flight: Int
    """Micro-batches whose activations are alive on the first pipeline stage."""
    optimizer_on_gpu: bool
    parameters_on_gpu: bool
    replicates: Int
    """Copies of the model whose gradients are averaged."""


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
        ep=parallelism.ep,
        in_flight=minimum(deep, microbatches),
        optimizer_on_gpu=parallelism.cpu_offload == "none",
        parameters_on_gpu=parallelism.cpu_offload in ("none", "optimizer"),
        replicates=parallelism.dp_replicate,
    )


def experts_beyond(share: Shares, ways: Int) -> Int:
    """Further ways experts are cut where their other parameters are cut ``ways``.

    Expert-parallel ranks are data-parallel ones, and what FSDP or ZeRO shards goes to all of them once.
    """
    return maximum(1, share.ep // ways)


GATHERED = "gathered parameters"
FSDP = Citation(
    title="FSDP: one unit gathered, the next prefetched, the root kept from forward to backward",
    url="https://docs.pytorch.org/docs/stable/fsdp.html",
)
FSDP2 = Citation(
    title="FSDP2: gradients of a unit are copied to the reduce dtype before they are scattered",
    url="https://github.com/pytorch/pytorch/blob/v2.9.0/torch/distributed/fsdp/_fully_shard/_fsdp_collectives.py",
)
DDP = Citation(
    title="DistributedDataParallel: gradient buckets hold a copy of every gradient",
    url="https://docs.pytorch.org/docs/stable/notes/ddp.html",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """What FSDP gathers at once, in bytes per element type already applied."""

    root_bytes: Int
    """Embeddings, head and final norm."""
    tail_bytes: Int
    """What stays whole from forward to backward: the root, or head and final norm where the ends are units."""
    block_bytes: Int
    """The largest layer."""
    block_params: Int


def units(
    architecture: ModelArchitecture, fmt: WeightFormat, plain_dtype: str, tp: Int, ep: Int, *, wraps_ends: bool
) -> Units:
    """Units of a model whose layers are wrapped one by one, gathered in ``plain_dtype`` or as they are packed."""
    element = ELEMENT_BYTES[plain_dtype]
    root = architecture.embedding_params + architecture.lm_head_params + architecture.other_params
    tail = root - architecture.embedding_params if wraps_ends and architecture.lm_head_params else root
    largest = max(architecture.groups, key=lambda group: group.params_per_layer)
    packed: Int = largest.other_params * element
    experts = sum(linear.num_params for linear in largest.linears if linear.role == "expert")
    for linear in largest.linears:
        if fmt.is_quantised and fmt.quantises(
            linear.role, is_module=linear.is_packable, kept=linear.keeps_precision
        ):
            size = linear.count * fmt.matrix_bytes(linear.in_features, linear.out_features).packed_bytes
        else:
            size = linear.num_params * element
        packed = packed + (ceil_div(size, ep) if linear.role == "expert" else size)
    return Units(
        root_bytes=ceil_div(root * element, tp),
        tail_bytes=ceil_div(tail * element, tp),
        block_bytes=ceil_div(packed, tp),
        block_params=ceil_div(largest.params_per_layer - experts + ceil_div(experts, ep), tp),
    )


def gathered_term(unit: Units, share: Shares, *, blocks: Int, tails: Int = 1) -> MemoryTerm:
    """Whole parameters of the units in use: the tail, and ``blocks`` layers (the current and the prefetched)."""
    return MemoryTerm(
        kind="gathered",
        label=GATHERED,
        size_bytes=where(share.parameters > 1, tails * unit.tail_bytes + blocks * unit.block_bytes, 0),
        formula="tails × tail + blocks × layer",
        inputs={"tails": tails, "tail": unit.tail_bytes, "blocks": blocks, "layer": unit.block_bytes},
        source=FSDP,
    )


def reduction_term(unit: Units, share: Shares, gradient_element: int, reduce_dtype: str | None) -> MemoryTerm:
    """Buffer a layer's gradients are reduced from; with a wider reduce dtype, a copy in that dtype."""
    element = ELEMENT_BYTES[reduce_dtype] if reduce_dtype else gradient_element
    return MemoryTerm(
        kind="gathered",
        label="gradients of one unit before they are scattered",
        size_bytes=where(share.gradients > 1, unit.block_params * element, 0),
        formula="layer parameters × bytes",
        inputs={"layer parameters": unit.block_params, "bytes": element},
        source=FSDP2,
    )


def bucket_term(gradient_bytes: Int, share: Shares) -> MemoryTerm:
    """DDP keeps gradients a second time, in the buckets it reduces (``gradient_as_bucket_view=False``).

    Replicas of shards need none: what was scattered is reduced among them in place.
    """
    return MemoryTerm(
        kind="gradients",
        label="DDP gradient buckets",
        size_bytes=where((share.replicates > 1) & (share.optimizer == 1), gradient_bytes, 0),
        formula="gradients",
        inputs={},
        source=DDP,
    )
