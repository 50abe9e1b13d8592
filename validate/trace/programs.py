"""From a job to its event log: build on fake tensors, run the step, record."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version

import torch

from validate.trace.builder import build_model, make_batch
from validate.trace.cuda_policy import VERSION, CudaPolicy, cuda_kernels
from validate.trace.events import EventLog
from validate.trace.fake import as_with_data, fake_tensors, untested_torch_warning
from validate.trace.job import TraceJob
from validate.trace.optimizers import build_optimizer
from validate.trace.steps import adopt_model, plain_loop
from validate.trace.timeline import name_unlabelled
from validate.trace.tracer import Tracer

_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl")


def trace_training(job: TraceJob) -> EventLog:
    """Trace the plain training loop of a job."""
    workload = job.training
    with fake_tensors(), as_with_data(padded=workload.padding_mask):
        built = build_model(job.config, workload, upcast_quantised=job.upcast_quantised)
        optimizer = build_optimizer(built.model, workload.optimizer)
        on_cuda = job.device == "cuda"
        tracer = Tracer(CudaPolicy(job.compute_capability) if on_cuda else None)
        kernels = cuda_kernels(job.compute_capability) if on_cuda else nullcontext()
        with tracer, kernels, tracer.watch(built.model):
            adopt_model(tracer, built.model)
            micro_batches = [
                [make_batch(built, workload, seq_len=length) for _ in range(workload.gradient_accumulation_steps)]
                for length in job.seq_lens
            ]
            plain_loop(
                tracer,
                built,
                optimizer,
                micro_batches,
                workload,
                empty_cache_steps=job.empty_cache_steps,
                zero_grad_first=job.zero_grad_first,
            )
    name_unlabelled(tracer.log)
    parameters = list(built.model.parameters())
    tracer.log.meta |= {
        "model": job.request.model,
        "versions": library_versions(),
        "policy": VERSION,
        "num_params": sum(parameter.numel() for parameter in parameters),
        "num_trainable": built.num_trainable,
        "warnings": [warning for warning in (untested_torch_warning(),) if warning],
    }
    return tracer.log


def library_versions() -> dict[str, str]:
    found = {"torch": str(torch.__version__)}
    for library in _LIBRARIES[1:]:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
