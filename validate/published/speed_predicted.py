"""What the throughput model says of a published speed: who ran which model how, and the speed they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.errors import UnsupportedError
from planner.memory.ops import ceil_div
from planner.model.architecture import ModelArchitecture
from planner.throughput import kernels, model_flops_per_token, serving_throughput, training_throughput
from planner.throughput.device import Device, attained_fraction, device_of
from planner.throughput.prefill import prefill_time
from planner.throughput.values import Range
from validate.published.cases import Case, Prediction
from validate.published.speed_expressed import (
    NARROW,
    case_architecture,
    case_device,
    case_parallelism,
    gpu_of,
    largest_concurrency,
    replicas,
    serving_workload,
    training_workload,
)

_LATTICE_FRACTION = 0.93
"""A lattice-Boltzmann step writes as much as it reads, which streams a little slower than reading."""


def predict(case: Mapping[str, Any]) -> Range:
    """The quantity of a speed case. Raises UnsupportedError for what the model does not cover."""
    if case["family"] == "attainable":
        return _attainable(case["request"])
    architecture = case_architecture(case["request"])
    device = case_device(case["request"]["gpu"])
    if case["request"].get("task") == "serve":
        return _serve(case, architecture, device)
    return _train(case, architecture, device)


def predict_speed(case: Case) -> Prediction:
    """The scoreboard's view of ``predict``."""
    raw = {"family": case.family, "request": case.request, "measured": case.measured.model_dump()}
    answer = predict(raw)
    return Prediction(id=case.id, predicted=float(answer.expected), low=float(answer.low), high=float(answer.high))


def _attainable(request: Mapping[str, Any]) -> Range:
    gpu = gpu_of(request["gpu"])
    kernel = request["kernel"]
    if kernel.startswith("stream"):
        value = float(gpu.bandwidth_bytes_per_s or 0) * attained_fraction(gpu, "stream")
    elif kernel == "lbm-fp32":
        value = float(gpu.bandwidth_bytes_per_s or 0) * attained_fraction(gpu, "stream") * _LATTICE_FRACTION
    elif kernel == "skinny-matmul" and request.get("shape"):
        value = _skinny_matmul(request, device_of(gpu))
    elif kernel == "matmul":
        device = device_of(gpu)
        value = device.matmul_flops_per_s(NARROW.get(request["compute_dtype"], request["compute_dtype"]))
    else:
        raise UnsupportedError(f"the kernel {kernel} is not modelled on its own")
    if not value:
        raise UnsupportedError(f"no rate of {gpu.name} is known")
    return Range(low=value * 0.85, expected=value, high=value * 1.1)


def _skinny_matmul(request: Mapping[str, Any], device: Device) -> float:
    m, n, k = request["shape"]
    dtype = NARROW.get(request["compute_dtype"], request["compute_dtype"])
    seconds = kernels.matmul_s(
        tokens=m, in_features=k, out_features=n, weight_bytes=2.0 * n * k,
        flops_per_s=device.matmul_flops_per_s(dtype), device=device,
    )  # fmt: skip
    return float(2.0 * m * n * k / seconds)


def _train(case: Mapping[str, Any], architecture: ModelArchitecture, device: Device) -> Range:
    request, measured = case["request"], case["measured"]
    parallelism = case_parallelism(request)
    workload = training_workload(request, parallelism)
    quantity = measured["quantity"]
    if quantity == "step_time_s" and request.get("framework") == "litgpt":
        workload = replace(workload, gradient_accumulation_steps=1)
    speed = training_throughput(architecture, workload, parallelism, device)
    if quantity == "step_time_s":
        return speed.step_time_s
    if quantity == "tokens_per_s":
        return speed.tokens_per_s
    if quantity == "tokens_per_s_per_gpu":
        return speed.tokens_per_s_per_gpu
    if quantity == "samples_per_s":
        return speed.tokens_per_s.scaled(1 / workload.seq_len)
    per_token = model_flops_per_token(architecture, workload)
    if quantity == "flops_per_s":
        return speed.tokens_per_s_per_gpu.scaled(per_token)
    if quantity == "mfu":
        return speed.tokens_per_s_per_gpu.scaled(per_token / device.peak_16bit_flops_per_s)
    raise UnsupportedError(f"the quantity {quantity} is not predicted for training")


def _serve(case: Mapping[str, Any], architecture: ModelArchitecture, device: Device) -> Range:
    request, measured = case["request"], case["measured"]
    gpu = gpu_of(request["gpu"])
    parallelism = replace(case_parallelism(request), dp_shard=1)
    if not request.get("parallelism") and parallelism.num_gpus > 1:
        parallelism = replicas(request, architecture, gpu)
    concurrency = request["serve"].get("concurrency", 1)
    if concurrency == "max":
        concurrency = largest_concurrency(request, architecture, parallelism, gpu)
    else:
        concurrency = ceil_div(int(concurrency), parallelism.dp_replicate)
    workload = serving_workload(request, concurrency)
    speed = serving_throughput(architecture, workload, parallelism, device)
    quantity = measured["quantity"]
    if case["family"] == "prefill":
        if quantity == "step_time_s":
            return speed.ttft_s
        if concurrency > 1:
            prompts = concurrency * workload.prompt_tokens
            together_s = prefill_time(architecture, workload, parallelism, device, prompts).total_s
            ratio = prompts / together_s / speed.prefill_tokens_per_s.expected
            return speed.prefill_tokens_per_s.scaled(ratio)
        return speed.prefill_tokens_per_s
    rate = speed.output_tokens_per_s if _includes_prefill(case) else speed.tokens_per_s_per_user
    if not _includes_prefill(case):
        rate = rate.scaled(concurrency)
    if measured.get("counts") == "prompt+output" and workload.output_tokens:
        rate = rate.scaled((workload.prompt_tokens + workload.output_tokens) / workload.output_tokens)
    if quantity == "tokens_per_s_per_gpu":
        rate = rate.scaled(1 / parallelism.num_gpus)
    return rate


def _includes_prefill(case: Mapping[str, Any]) -> bool:
    """Batch engines and the counting of whole requests include the prompt's time; decode speeds do not."""
    serve = case["request"]["serve"]
    engine = serve.get("engine", "")
    if case["measured"].get("counts") == "prompt+output":
        return True
    return engine not in ("llama.cpp", "exllama", "autoawq")
