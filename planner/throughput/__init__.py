"""How fast: the time of a training step, of a prompt and of a token, and what follows from it.

``throughput`` is the entry; ``training``, ``prefill`` and ``decode`` hold the causes, ``device`` what a GPU
attains, ``flops`` the work of a model, ``constants`` the fitted efficiencies and their sources.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from hardware_db.gpu import Gpu
from planner.errors import UnsupportedError
from planner.memory.terms.objectives import objective_rule, with_objective
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism, ServingWorkload, TrainingWorkload
from planner.throughput import serving, training
from planner.throughput.constants import document
from planner.throughput.decode import decode_time
from planner.throughput.device import Device, device_of
from planner.throughput.flops import forward_flops_per_token
from planner.throughput.method import passes_of
from planner.throughput.prefill import prefill_time
from planner.throughput.values import (
    Range,
    ServingThroughput,
    StepTime,
    Throughput,
    TimePart,
    TrainingThroughput,
)

__all__ = [
    "Range",
    "ServingThroughput",
    "Throughput",
    "TimePart",
    "TrainingThroughput",
    "check_timed",
    "serving_throughput",
    "throughput",
    "training_throughput",
]

_UNTIMED_OBJECTIVES = ("ppo", "grpo")
"""They generate answers between the steps."""


def throughput(
    architecture: ModelArchitecture,
    workload: TrainingWorkload | ServingWorkload,
    parallelism: Parallelism,
    gpu: Gpu,
) -> Throughput:
    """Speed of a workload on ``parallelism.num_gpus`` GPUs of one kind.

    Raises UnsupportedError where the GPU's rates are unknown, the model does not generate tokens, or part of the
    workload is not timed.
    """
    check_timed(workload)
    device = device_of(gpu)
    if isinstance(workload, TrainingWorkload):
        return training_throughput(architecture, workload, parallelism, device)
    return serving_throughput(architecture, workload, parallelism, device)


def check_timed(workload: TrainingWorkload | ServingWorkload) -> None:
    """Raises UnsupportedError where part of the workload is not timed."""
    untimed = _untimed(workload)
    if untimed:
        raise UnsupportedError(f"the speed of {untimed} is not predicted")


def _untimed(workload: TrainingWorkload | ServingWorkload) -> str:
    """What of the workload the formulas of time leave out; empty where they hold it all."""
    if isinstance(workload, ServingWorkload):
        return "speculative decoding" if workload.draft_model or workload.num_speculative_tokens else ""
    if workload.objective in _UNTIMED_OBJECTIVES:
        return f"{workload.objective} training"
    if workload.frozen_layers:
        return "training with frozen layers"
    return "a target of its own length" if workload.target_seq_len is not None else ""


def training_throughput(
    architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism, device: Device
) -> TrainingThroughput:
    """One optimizer step on a device whose rates are known."""
    step = training.step_time(architecture, workload, parallelism, device)
    ranks = parallelism.dp_replicate * parallelism.dp_shard
    tokens = step_tokens(workload) * ranks
    time_s = _spread(step.total_s, "training")
    per_token = model_flops_per_token(architecture, workload)
    peak = device.peak_16bit_flops_per_s * parallelism.num_gpus
    return TrainingThroughput(
        step_time_s=time_s,
        tokens_per_step=tokens,
        tokens_per_s=time_s.over(tokens),
        num_gpus=parallelism.num_gpus,
        model_flops_per_token=per_token,
        mfu=per_token * tokens / step.total_s / peak if device.peak_16bit_flops_per_s else None,
        parts=_parts(step, training.formulas(parallelism), training.sources(parallelism)),
    )


def step_tokens(workload: TrainingWorkload) -> Any:
    """Tokens of an optimizer step on one rank: both answers of a pair count."""
    seen = with_objective(workload, objective_rule(workload))
    return seen.batch_size * seen.seq_len * seen.gradient_accumulation_steps


def model_flops_per_token(architecture: ModelArchitecture, workload: TrainingWorkload) -> float:
    """Forward and backward work of one token without recomputation: 3 × forward where all weights train.

    Behind adapters the gradients of frozen weights are left out: 2 × forward.
    """
    forward = forward_flops_per_token(architecture, workload.seq_len)
    passes = passes_of(workload)
    return forward * (1 + passes.input_gradients + passes.weight_gradients)


def serving_throughput(
    architecture: ModelArchitecture, workload: ServingWorkload, parallelism: Parallelism, device: Device
) -> ServingThroughput:
    """Requests of one shape, ``concurrency`` at once, each prompt prefilled once and answered token by token.

    In steady state the engine alternates: in the time of one request it decodes ``output_tokens`` steps for all
    and prefills ``concurrency`` prompts, so the total rate is concurrency × output / (prefills + steps).
    """
    alone = replace(workload, concurrency=1)
    first = prefill_time(architecture, alone, parallelism, device, workload.prompt_tokens)
    together = prefill_time(
        architecture, workload, parallelism, device, workload.prompt_tokens * workload.concurrency
    )
    middle = workload.prompt_tokens + workload.output_tokens / 2
    step = decode_time(architecture, workload, parallelism, device, middle)
    batched = workload.concurrency > 1
    tpot_s = _spread(step.total_s, "batch" if batched else "decode")
    ttft_s = _spread(first.total_s, "prefill")
    busy_s = together.total_s + workload.output_tokens * step.total_s
    produced = workload.concurrency * workload.output_tokens
    replicas = parallelism.dp_replicate
    return ServingThroughput(
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        output_tokens_per_s=_spread(busy_s, "batch" if batched else "decode").over(produced * replicas),
        tokens_per_s_per_user=tpot_s.over(1.0),
        prefill_tokens_per_s=ttft_s.over(workload.prompt_tokens * replicas),
        concurrency=workload.concurrency * replicas,
        num_gpus=parallelism.num_gpus,
        decode_parts=_parts(step, serving.FORMULAS, serving.SOURCES),
        prefill_parts=_parts(first, serving.FORMULAS, serving.SOURCES),
    )


def _spread(seconds: float, group: str) -> Range:
    """Low and high from the errors of the fit with each source left out (80 % of held-out cases lie inside)."""
    spread = cast(dict[str, Any], document()["spread"])[group]
    return Range(low=seconds * spread["low"], expected=seconds, high=seconds * spread["high"])


def _parts(step: StepTime, formulas: dict[str, str], sources: dict[str, Any]) -> tuple[TimePart, ...]:
    return tuple(
        TimePart(kind=kind, seconds=seconds, formula=formulas[kind], source=sources[kind])
        for kind, seconds in step.parts.items()
        if not isinstance(seconds, float) or seconds > 0
    )
