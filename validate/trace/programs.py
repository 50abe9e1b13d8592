"""From a job to its event log: build on fake tensors, run the step, record."""

from __future__ import annotations

from contextlib import nullcontext

from planner.errors import UnsupportedError
from planner.request import Parallelism
from validate.trace.builder import Built, build_for_generation, build_model, make_batch
from validate.trace.cuda_policy import VERSION, CudaPolicy, cuda_kernels
from validate.trace.events import EventLog
from validate.trace.fake import as_with_data, fake_tensors, untested_torch_warning
from validate.trace.generation import trace_generation
from validate.trace.job import TraceJob
from validate.trace.optimizers import build_optimizer
from validate.trace.parallel import SpreadLabels, playing_rank, ranks_alike, spread
from validate.trace.quantised import sharded_weights
from validate.trace.steps import Program, adopt_model, plain_loop
from validate.trace.timeline import name_unlabelled
from validate.trace.tracer import Tracer
from validate.trace.trl_kernels import triton_head
from validate.trace.versions import library_versions


def trace_training(job: TraceJob) -> EventLog:
    """Trace the training loop of a job."""
    if job.loop != "plain":
        return _trace_library_loop(job)
    workload, parallelism = job.training, job.request.parallelism or Parallelism()
    with playing_rank(job.rank, parallelism) as mesh, fake_tensors(), as_with_data(padded=workload.padding_mask):
        built = build_model(
            job.config, workload, upcast_quantised=job.upcast_quantised, sharded=parallelism.dp_shard > 1
        )
        alike = ranks_alike(built.model, parallelism)
        if mesh is not None:  # accelerate shards a model that lies on the host; the device sees shards alone
            built.model = spread(built.model, workload, parallelism, mesh)
        on_cuda = job.device == "cuda"
        tracer = Tracer(CudaPolicy(job.compute_capability) if on_cuda else None)
        kernels = cuda_kernels(job.compute_capability) if on_cuda else nullcontext()
        with tracer, sharded_weights(), SpreadLabels(tracer), kernels, tracer.watch(built.model):
            adopt_model(tracer, built.model)
            if mesh is None:
                built.model = spread(built.model, workload, parallelism, mesh)
            optimizer = build_optimizer(built.model, workload.optimizer)
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
                parallelism=parallelism,
                empty_cache_steps=job.empty_cache_steps,
                zero_grad_first=job.zero_grad_first,
            )
    tracer.log.meta["ranks_alike"] = alike
    return _finished(tracer, built, job)


def _trace_library_loop(job: TraceJob) -> EventLog:
    workload = job.training
    on_cuda = job.device == "cuda"
    with fake_tensors(full_masks=workload.objective == "dpo"), as_with_data(padded=workload.padding_mask):
        built = build_model(job.config, workload, upcast_quantised=job.upcast_quantised)
        program = library_program(job, built)
        tracer = Tracer(CudaPolicy(job.compute_capability) if on_cuda else None)
        kernels = cuda_kernels(job.compute_capability) if on_cuda else nullcontext()
        head = triton_head() if on_cuda and job.loop == "trl" else nullcontext()
        with tracer, kernels, head, tracer.watch(built.model):
            for model in program.models:
                adopt_model(tracer, model)
            program.run(tracer)
    return _finished(tracer, built, job)


def library_program(job: TraceJob, built: Built) -> Program:
    """The loop of a library over ``built``, ready to run; libraries are imported where they are asked for."""
    workload, lengths = job.training, job.seq_lens
    if job.loop == "accelerate":
        from validate.trace.accelerated import accelerate_program

        return accelerate_program(built, workload, lengths)
    from validate.trace import trainers

    if job.loop == "trainer":
        return trainers.trainer_program(built, workload, lengths)
    if workload.objective != "dpo":
        return trainers.sft_program(built, workload, lengths)
    reference = build_model(job.config, workload).model if workload.method == "full" else None
    return trainers.dpo_program(built, workload, lengths, reference)


def trace_serving(job: TraceJob) -> EventLog:
    """Trace prefill and decoding of a job with ``model.generate``."""
    workload = job.serving
    with fake_tensors(), as_with_data(padded=False):
        built = build_for_generation(job.config, workload)
        if built.kind != "decoder":
            raise UnsupportedError("only decoders are traced while generating", hint=None)
        tracer = trace_generation(built, workload, job)
    return _finished(tracer, built, job)


def _finished(tracer: Tracer, built: Built, job: TraceJob) -> EventLog:
    name_unlabelled(tracer.log)
    tracer.log.meta |= {
        "model": job.request.model,
        "versions": library_versions(),
        "policy": VERSION,
        "num_params": sum(parameter.numel() for parameter in built.model.parameters()),
        "num_trainable": built.num_trainable if job.request.task == "train" else 0,
        "warnings": [warning for warning in (untested_torch_warning(), _left_out(job)) if warning],
    }
    return tracer.log


def _left_out(job: TraceJob) -> str | None:
    if getattr(job.request.workload, "evaluation", None) is None or job.loop in ("trainer", "trl"):
        return None
    return "the trace runs training steps alone; evaluation may peak higher"
