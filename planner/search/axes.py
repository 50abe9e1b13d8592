"""What a search may vary: the alternatives of every choice, and the layouts a number of GPUs allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from math import gcd
from typing import Any

import numpy

from planner.checks import attention_heads
from planner.dtypes import weight_format
from planner.model.architecture import ModelArchitecture, MoeMlp
from planner.rental import GPUS_PER_MACHINE
from planner.request import Parallelism, ServingWorkload, TrainingWorkload
from planner.vocabulary import QUANTISED_METHODS

Workload = TrainingWorkload | ServingWorkload
_MICRO_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_DEGREES = ("dp_replicate", "dp_shard", "tp", "pp", "cp", "ep")
_LONG_SEQUENCE = 8192
"""From here on a sequence is worth cutting over GPUs (context parallelism)."""
DEFAULT_MAX_GPUS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Alternatives per choice; an empty tuple keeps what the request says."""

    methods: tuple[str, ...] = ()
    weight_dtypes: tuple[str, ...] = ()
    checkpointing: tuple[str, ...] | None = None
    """None: what the request's trainer offers."""
    optimizers: tuple[str, ...] = ("adamw", "adamw-fused", "adamw-8bit", "paged-adamw-8bit")
    attention: tuple[str, ...] = ("sdpa", "flash-attention-2")
    losses: tuple[str, ...] = ("standard", "fused")
    cpu_offload: tuple[str, ...] = ("none", "optimizer", "parameters")
    micro_batches: tuple[int, ...] = _MICRO_BATCHES
    kv_cache_dtypes: tuple[str, ...] = ()
    concurrencies: tuple[int, ...] = ()


def formats_of(method: str, requested: str) -> tuple[str, ...]:
    """Storage formats a method trains over: what was asked, or the two forms of NF4 for quantised adapters."""
    if method in QUANTISED_METHODS:
        asked = requested if weight_format(requested).is_quantised else "nf4-dq"
        return tuple(dict.fromkeys((asked, "nf4", "nf4-dq")))
    return (requested if weight_format(requested).full_fine_tuning else "bf16",)


def variants(workload: Workload, axes: Axes) -> Iterator[tuple[Workload, str]]:
    """Every combination of categorical choices: the workload, and where optimizer and parameters live."""
    if isinstance(workload, ServingWorkload):
        for dtype, cache in product(
            axes.weight_dtypes or (workload.weight_dtype,), axes.kv_cache_dtypes or (workload.kv_cache_dtype,)
        ):
            yield replace(workload, weight_dtype=dtype, kv_cache_dtype=cache), "none"
        return
    for method in axes.methods or (workload.method,):
        for dtype in axes.weight_dtypes or formats_of(method, workload.weight_dtype):
            choices = product(
                _checkpointing(workload, axes),
                axes.optimizers or (workload.optimizer,),
                axes.attention or (workload.attention,),
                axes.losses or (workload.loss,),
                axes.cpu_offload or ("none",),
            )
            for checkpointing, optimizer, attention, loss, offload in choices:
                yield (
                    replace(
                        workload, method=method, weight_dtype=dtype, gradient_checkpointing=checkpointing,
                        optimizer=optimizer, attention=attention, loss=loss,
                    ),
                    offload,
                )  # fmt: skip


def _checkpointing(workload: TrainingWorkload, axes: Axes) -> tuple[str, ...]:
    if axes.checkpointing is not None:
        return axes.checkpointing or (workload.gradient_checkpointing,)
    more = {
        "torchtitan": ("selective",),
        "megatron": ("selective",),
        "nemo": ("selective",),
        "unsloth": ("offload",),
    }
    offered = next((modes for name, modes in more.items() if workload.framework.startswith(name)), ())
    return ("none", "full", *offered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layouts:
    """Ways to use GPUs, as columns: one entry per layout, sorted by ``num_gpus``.

    Within one table a degree is 1 everywhere or above 1 everywhere, so that formulas may tell the cases apart.
    """

    num_gpus: Any
    batch_size: Any
    """Micro-batch in training, concurrent requests per replica in serving."""
    degrees: dict[str, Any]
    """Columns of ``Parallelism``; a column of ones is the number 1."""
    fixed: dict[str, Any]
    """Other fields of ``Parallelism``."""
    steps: dict[Any, Any] = field(default_factory=dict)
    """Times of this table already computed, by the choices they depend on."""

    def __len__(self) -> int:
        return len(self.num_gpus)

    def parallelism(self, cpu_offload: str) -> Parallelism:
        """All layouts as one vectorised value."""
        return Parallelism(**self.degrees, **self.fixed, cpu_offload=cpu_offload)

    def one(self, index: int, cpu_offload: str) -> Parallelism:
        """Layout number ``index``."""
        degrees: dict[str, Any] = {
            name: column if isinstance(column, int) else int(column[index])
            for name, column in self.degrees.items()
        }
        return Parallelism(**degrees, **self.fixed, cpu_offload=cpu_offload)


def counts(max_gpus: int, exactly: int | None) -> tuple[int, ...]:
    """Numbers of GPUs machines are built with, then whole machines of eight."""
    if exactly is not None:
        return (exactly,)
    machines = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
    several = tuple(GPUS_PER_MACHINE * number for number in machines)
    return tuple(count for count in (1, 2, 3, 4, 6, 8, *several) if count <= max_gpus)


def layouts(
    workload: Workload, architecture: ModelArchitecture, axes: Axes, num_gpus: tuple[int, ...]
) -> tuple[Layouts, ...]:
    """Tables of layouts for every count; which fields a table holds follows from what trainers support."""
    rows = [row for count in num_gpus for row in _decompositions(workload, architecture, count)]
    batches = axes.concurrencies or (
        (workload.concurrency,) if isinstance(workload, ServingWorkload) else axes.micro_batches
    )
    groups: dict[tuple[Any, ...], list[dict[str, int]]] = {}
    for row in rows:
        key = (*(row[name] > 1 for name in _DEGREES), row["zero_stage"])
        for batch in batches:
            shared = -(-batch // row["dp_replicate"]) if isinstance(workload, ServingWorkload) else batch
            groups.setdefault(key, []).append({**row, "batch_size": shared})
    return tuple(_table(group) for group in groups.values())


def _table(rows: list[dict[str, int]]) -> Layouts:
    rows = sorted(rows, key=lambda row: row["num_gpus"])
    degrees: dict[str, Any] = {}
    for name in _DEGREES:
        column = numpy.array([row[name] for row in rows], dtype=numpy.int64)
        degrees[name] = column if column[0] > 1 else 1
    return Layouts(
        num_gpus=numpy.array([row["num_gpus"] for row in rows], dtype=numpy.int64),
        batch_size=numpy.array([row["batch_size"] for row in rows], dtype=numpy.int64),
        degrees=degrees,
        fixed={"zero_stage": rows[0]["zero_stage"], "sequence_parallel": rows[0]["tp"] > 1},
    )


def offloads(table: Layouts, cpu_offload: str) -> bool:
    """Whether trainers can move states out of the GPU under these layouts.

    Parameters leave it under ZeRO-3 or FSDP alone, optimizer states under any sharding of them.
    """
    sharded = not isinstance(table.degrees["dp_shard"], int)
    if cpu_offload in ("parameters", "nvme"):
        return bool(sharded and table.fixed["zero_stage"] == 3)
    return sharded or cpu_offload == "none"


def _powers(limit: int) -> tuple[int, ...]:
    return tuple(2**power for power in range(limit.bit_length()) if 2**power <= limit)


def _decompositions(
    workload: Workload, architecture: ModelArchitecture, num_gpus: int
) -> Iterator[dict[str, int]]:
    common = gcd(*attention_heads(architecture)) or GPUS_PER_MACHINE
    training = isinstance(workload, TrainingWorkload)
    packed = isinstance(workload, TrainingWorkload) and weight_format(workload.weight_dtype).is_quantised
    whole_weights = not packed  # adapters over packed weights are trained data-parallel only
    tensor = (
        [t for t in _powers(GPUS_PER_MACHINE) if common % t == 0 and num_gpus % t == 0] if whole_weights else [1]
    )
    if not training and num_gpus <= GPUS_PER_MACHINE and common % num_gpus == 0 and num_gpus not in tensor:
        tensor.append(num_gpus)
    for tp in tensor:
        rest = num_gpus // tp
        stages = [p for p in _powers(min(rest, architecture.num_layers)) if rest % p == 0 and p <= 16]
        for pp in stages if whole_weights else [1]:
            ranks = rest // pp
            if not training:
                yield _row(num_gpus, tp=tp, pp=pp, dp_replicate=ranks)
                continue
            long = isinstance(workload, TrainingWorkload) and workload.seq_len >= _LONG_SEQUENCE
            for cp in [c for c in _powers(min(ranks, GPUS_PER_MACHINE)) if ranks % c == 0] if long else [1]:
                for row in _data_parallel(num_gpus, ranks // cp, tp=tp, pp=pp, cp=cp):
                    yield row
                    yield from _expert_parallel(row, architecture, whole_weights)


def _data_parallel(num_gpus: int, ranks: int, **degrees: int) -> Iterator[dict[str, int]]:
    """Replicas (DDP), full shards (FSDP, ZeRO-3), sharded optimizer states (ZeRO-2), shards within a machine."""
    if ranks == 1:
        yield _row(num_gpus, **degrees)
        return
    yield _row(num_gpus, dp_replicate=ranks, **degrees)
    yield _row(num_gpus, dp_shard=ranks, **degrees)
    yield _row(num_gpus, dp_shard=ranks, zero_stage=2, **degrees)
    if ranks > GPUS_PER_MACHINE and ranks % GPUS_PER_MACHINE == 0:
        yield _row(num_gpus, dp_shard=GPUS_PER_MACHINE, dp_replicate=ranks // GPUS_PER_MACHINE, **degrees)


def _expert_parallel(
    row: dict[str, int], architecture: ModelArchitecture, whole_weights: bool
) -> Iterator[dict[str, int]]:
    """The same ranks with the experts dealt out among those that hold or shard the model alike."""
    experts = gcd(*(group.mlp.num_experts for group in architecture.groups if isinstance(group.mlp, MoeMlp)))
    ranks = row["dp_shard"] if row["dp_shard"] > 1 else row["dp_replicate"]
    if whole_weights and experts and row["tp"] == 1:
        for degree in _powers(min(experts, ranks))[1:]:
            if experts % degree == 0 and ranks % degree == 0:
                yield row | {"ep": degree}


def _row(num_gpus: int, **degrees: int) -> dict[str, int]:
    return {"dp_replicate": 1, "dp_shard": 1, "tp": 1, "pp": 1, "cp": 1, "ep": 1, "zero_stage": 3} | degrees | {
        "num_gpus": num_gpus
    }  # fmt: skip
