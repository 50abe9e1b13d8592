"""Training loops to trace, written as users write them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch

from planner.request import TrainingWorkload
from validate.trace.builder import DTYPES, Built
from validate.trace.quantised import state_tensors_of
from validate.trace.tracer import Tracer

Batch = dict[str, torch.Tensor]


def adopt_model(tracer: Tracer, model: torch.nn.Module) -> None:
    """``model.to("cuda")``: every parameter and buffer gets its memory, in the order of the module tree."""
    tracer.phase("load")
    for parameter in model.parameters():
        tracer.adopt([parameter], "adapter" if _is_adapter(model, parameter) else "weights", "to")
        tracer.adopt(state_tensors_of(parameter), "weights", "to")
    tracer.adopt(list(model.buffers()), "buffers", "to")


def _is_adapter(model: torch.nn.Module, parameter: torch.nn.Parameter) -> bool:
    return hasattr(model, "peft_config") and parameter.requires_grad


def plain_loop(
    tracer: Tracer,
    built: Built,
    optimizer: torch.optim.Optimizer,
    micro_batches: Sequence[Sequence[Batch]],
    workload: TrainingWorkload,
) -> None:
    """``loss.backward(); optimizer.step(); optimizer.zero_grad()`` over steps of micro-batches."""
    model = built.model
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    outputs = None
    for step, micro in enumerate(micro_batches):
        for batch in micro:
            tracer.phase("forward", step)
            tracer.label(list(batch.values()), "input")
            autocast = (
                torch.autocast("cpu", dtype=DTYPES[workload.compute_dtype]) if workload.autocast else nullcontext()
            )
            with autocast:
                outputs = model(**batch, **_forward_options(built, workload))
            loss = outputs.loss
            if not workload.keep_outputs:
                outputs = None
            tracer.phase("backward", step)
            loss.backward()
            tracer.label([p.grad for p in trainable if p.grad is not None], "gradients")
        tracer.phase("optimizer", step)
        optimizer.step()
        label_optimizer_state(tracer, optimizer)
        optimizer.zero_grad()


def _forward_options(built: Built, workload: TrainingWorkload) -> dict[str, object]:
    if built.kind == "encoder":
        return {}
    return {"use_cache": workload.use_cache and workload.gradient_checkpointing == "none"}


def label_optimizer_state(tracer: Tracer, optimizer: torch.optim.Optimizer) -> None:
    """Optimizer state by category; step counters stay on the host unless capturable or fused."""
    for group in optimizer.param_groups:
        on_device = group.get("capturable") or group.get("fused")
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    host = name == "step" and not on_device
                    tracer.label([value], "host" if host else "optimizer")
