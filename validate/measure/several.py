"""A step on several ranks: torch's FSDP2 and DDP, or DeepSpeed's ZeRO through accelerate."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch.distributed as dist
from torch import nn

from planner.export.deepspeed import configuration
from planner.request import TrainingWorkload
from validate.measure.spec import RunSpec
from validate.trace.parallel import mesh_of, spread, synchronised


def starts_on_host(spec: RunSpec) -> bool:
    """FSDP2 takes its shards of a model in host memory, so that no device ever holds the whole."""
    return spec.runner == "accelerate" and spec.parallelism.dp_shard > 1 and not spec.uses_deepspeed


def placed(spec: RunSpec, model: nn.Module) -> nn.Module:
    """``model`` as this rank holds it; DeepSpeed takes it together with its optimizer, later."""
    if spec.runner != "accelerate" or spec.uses_deepspeed or spec.parallelism.num_gpus == 1:
        return model
    assert isinstance(spec.workload, TrainingWorkload)
    if not dist.is_initialized():
        dist.init_process_group("nccl")
    mesh = mesh_of(spec.parallelism, spec.device)
    return spread(model, spec.workload, spec.parallelism, mesh)  # type: ignore[no-any-return]


def with_deepspeed(spec: RunSpec, model: nn.Module, optimizer: Any) -> tuple[Any, Any, Any]:
    """Accelerator, engine and optimizer of a ZeRO run. Its optimizer steps inside ``accelerator.backward``."""
    from accelerate import Accelerator
    from accelerate.utils import DeepSpeedPlugin

    assert isinstance(spec.workload, TrainingWorkload)
    accelerator = Accelerator(
        deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=configuration(spec.workload, spec.parallelism)),
        gradient_accumulation_steps=spec.workload.gradient_accumulation_steps,
    )
    return accelerator, *accelerator.prepare(model, optimizer)


def micro_batch(accelerator: Any, model: Any, *, last: bool) -> AbstractContextManager[Any]:
    """What surrounds one micro-batch: gradients are exchanged in the last of a step only."""
    return accelerator.accumulate(model) if accelerator is not None else synchronised(model, last=last)


def leave(spec: RunSpec) -> None:
    """End the process group this process began."""
    if spec.device == "cuda" and dist.is_initialized():
        dist.destroy_process_group()
