"""How a number of GPUs is used when the user does not say: the plain choice of each field of work.

Serving cuts matrices over the GPUs of one machine (tensor parallel, which must divide the attention heads) and
puts further machines behind one another (pipeline). Training shards states over all GPUs (ZeRO-3, FSDP).
"""

from __future__ import annotations

from math import gcd

from planner.checks import attention_heads
from planner.model.architecture import ModelArchitecture
from planner.rental import GPUS_PER_MACHINE
from planner.request import Parallelism, ServingWorkload, TrainingWorkload

MAX_MACHINES = 512


def tensor_degrees(model: ModelArchitecture) -> tuple[int, ...]:
    """Tensor-parallel degrees within one machine that divide every number of attention heads."""
    common = gcd(*attention_heads(model)) or GPUS_PER_MACHINE
    return tuple(degree for degree in range(1, GPUS_PER_MACHINE + 1) if common % degree == 0)


def spread_over(
    num_gpus: int, workload: TrainingWorkload | ServingWorkload, model: ModelArchitecture
) -> Parallelism | None:
    """The plain spread over ``num_gpus``; None where the model cannot be cut so."""
    if isinstance(workload, TrainingWorkload):
        return Parallelism(dp_shard=num_gpus)
    tp = max(degree for degree in tensor_degrees(model) if num_gpus % degree == 0)
    pp = num_gpus // tp
    return Parallelism(tp=tp, pp=pp) if pp <= model.num_layers else None


def counts_in_one_machine(
    workload: TrainingWorkload | ServingWorkload, model: ModelArchitecture
) -> tuple[int, ...]:
    """GPU counts worth asking for within one machine, ascending."""
    if isinstance(workload, TrainingWorkload):
        return tuple(range(1, GPUS_PER_MACHINE + 1))
    return tensor_degrees(model)


def machine_size(workload: TrainingWorkload | ServingWorkload, model: ModelArchitecture) -> int:
    """GPUs used of each machine once one machine is not enough."""
    return counts_in_one_machine(workload, model)[-1]


def max_machines(workload: TrainingWorkload | ServingWorkload, model: ModelArchitecture) -> int:
    """Beyond this no further machine helps: a pipeline has no more stages than layers."""
    return MAX_MACHINES if isinstance(workload, TrainingWorkload) else min(MAX_MACHINES, model.num_layers)
