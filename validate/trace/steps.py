"""Training loops to trace, written as users write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from planner.request import Parallelism, TrainingWorkload
from validate.trace.builder import DTYPES, Built
from validate.trace.events import HOST
from validate.trace.optimizers import state_tensors
from validate.trace.parallel import autocasts, synchronised
from validate.trace.quantised import state_tensors_of
from validate.trace.tracer import Tracer

_ALONE = Parallelism()
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A training loop ready to run: the models that are moved to the device, and the loop itself."""

    models: tuple[torch.nn.Module, ...]
    run: Callable[[Tracer], None]


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
    *,
    parallelism: Parallelism = _ALONE,
    empty_cache_steps: int | None = None,
    zero_grad_first: bool = False,
) -> None:
    """``loss.backward(); optimizer.step(); optimizer.zero_grad()`` over steps of micro-batches.

    With ``zero_grad_first`` gradients live until the next step begins, as in peft's own benchmark.
    """
    model = built.model
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    outputs = None
    for step, micro in enumerate(micro_batches):
        if zero_grad_first:
            tracer.phase("forward", step)
            optimizer.zero_grad()
        for number, batch in enumerate(micro, start=1):
            with synchronised(model, last=number == len(micro)):
                tracer.phase("forward", step)
                tracer.label(list(batch.values()), "input")
                with _autocast(workload) if autocasts(workload, parallelism) else nullcontext():
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
        if not zero_grad_first:
            optimizer.zero_grad()
        if empty_cache_steps and (step + 1) % empty_cache_steps == 0:
            tracer.empty_cache()
    tracer.finish()


def _autocast(workload: TrainingWorkload) -> torch.autocast:
    return torch.autocast("cpu", dtype=DTYPES[workload.compute_dtype])


def _forward_options(built: Built, workload: TrainingWorkload) -> dict[str, object]:
    if built.kind == "encoder":
        return {}
    return {"use_cache": workload.use_cache and workload.gradient_checkpointing == "none"}


def label_optimizer_state(tracer: Tracer, optimizer: torch.optim.Optimizer) -> None:
    """Optimizer state by category, "host" where it takes no memory of the caching allocator."""
    for tensor, outside in state_tensors(optimizer):
        tracer.label([tensor], HOST if outside else "optimizer")
