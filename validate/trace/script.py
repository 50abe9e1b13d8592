"""A user's own training step, traced: ``plan trace --script train.py::step``.

The function is called without arguments on fake tensors and returns the model, the optimizer and the batch (a dict
for ``model(**batch)``), or those and a function of them that returns the loss. A generator function is the whole
loop instead: it yields the model first and then the name of each phase before it begins.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from planner.errors import RequestError
from validate.trace.cuda_policy import VERSION, CudaPolicy, cuda_kernels
from validate.trace.events import EventLog
from validate.trace.fake import as_with_data, fake_tensors, untested_torch_warning
from validate.trace.job import ScriptJob
from validate.trace.optimizers import as_on_cuda
from validate.trace.steps import adopt_model, label_optimizer_state
from validate.trace.timeline import name_unlabelled
from validate.trace.tracer import Tracer
from validate.trace.versions import library_versions

NUM_STEPS = 3
_SHAPE = "return model, optimizer, batch (and a function of model and batch that gives the loss)"


def trace_script(job: ScriptJob) -> EventLog:
    """The event log of the user's function: ``NUM_STEPS`` steps, or a generator for as long as it lasts."""
    function = _function(job)
    tracer = Tracer(CudaPolicy(job.compute_capability))
    with fake_tensors(), as_with_data(padded=False):
        made = function()
        is_loop = inspect.isgenerator(made)
        model = _follow(tracer, made, job) if is_loop else _steps(tracer, _parts(made), job)
    name_unlabelled(tracer.log)
    parameters = list(model.parameters())
    tracer.log.meta |= {
        "title": f"{Path(job.path).name}::{job.function}",
        "versions": library_versions(),
        "policy": VERSION,
        "num_params": sum(parameter.numel() for parameter in parameters),
        "num_trainable": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        "warnings": [warning for warning in (untested_torch_warning(),) if warning],
    }
    return tracer.log


def _function(job: ScriptJob) -> Callable[[], Any]:
    path = Path(job.path)
    sys.path.insert(0, str(path.parent))
    os.chdir(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise RequestError(f"{path.name} is not a Python file", hint="--script train.py::step")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    function = getattr(module, job.function, None)
    if not callable(function):
        raise RequestError(f"{path.name} has no function {job.function!r}", hint="--script train.py::step")
    return function  # type: ignore[no-any-return]


Parts = tuple[torch.nn.Module, torch.optim.Optimizer, Any, Callable[[Any, Any], torch.Tensor]]


def _parts(made: Any) -> Parts:
    if not isinstance(made, tuple) or len(made) not in (3, 4):
        raise RequestError("the traced function returns something else than a step", hint=_SHAPE)
    model, optimizer, batch = made[:3]
    if not isinstance(model, torch.nn.Module) or not isinstance(optimizer, torch.optim.Optimizer):
        raise RequestError("the traced function does not return a model and an optimizer", hint=_SHAPE)
    return model, optimizer, batch, made[3] if len(made) == 4 else _loss_of


def _loss_of(model: Any, batch: Any) -> torch.Tensor:
    out = model(**batch) if isinstance(batch, Mapping) else model(batch)
    loss = getattr(out, "loss", out)
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        raise RequestError("the model does not return a loss", hint=_SHAPE)
    return loss


def _steps(tracer: Tracer, parts: Parts, job: ScriptJob) -> torch.nn.Module:
    model, optimizer, batch, loss_of = parts
    as_on_cuda(optimizer)
    with tracer, cuda_kernels(job.compute_capability), tracer.watch(model):
        adopt_model(tracer, model)
        tracer.adopt([leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)], "input", "to")
        for step in range(NUM_STEPS):
            tracer.phase("forward", step)
            loss = loss_of(model, batch)
            tracer.phase("backward", step)
            loss.backward()  # type: ignore[no-untyped-call]
            tracer.label([p.grad for p in model.parameters() if p.grad is not None], "gradients")
            tracer.phase("optimizer", step)
            optimizer.step()
            label_optimizer_state(tracer, optimizer)
            optimizer.zero_grad()
            del loss
    return model


def _follow(tracer: Tracer, loop: Iterator[Any], job: ScriptJob) -> torch.nn.Module:
    model = next(loop, None)
    if not isinstance(model, torch.nn.Module):
        raise RequestError("the traced generator does not yield its model first", hint="yield model, then phases")
    counts: dict[str, int] = {}
    with tracer, cuda_kernels(job.compute_capability), tracer.watch(model):
        adopt_model(tracer, model)
        tracer.phase("run", 0)
        for said in loop:
            name = str(said)
            tracer.phase(name, counts.setdefault(name, 0))
            counts[name] += 1
    return model
