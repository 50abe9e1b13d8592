"""Time of prefill, cause by cause: arithmetic over the prompt, in chunks where the engine cuts it."""

from __future__ import annotations

from planner.dtypes import weight_format
from planner.memory.ops import maximum, where
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism, ServingWorkload
from planner.throughput import kernels, serving
from planner.throughput.constants import constant
from planner.throughput.device import Device
from planner.throughput.engines import EngineTraits, engine_traits
from planner.throughput.flops import attention_flops_per_token, average_keys, linear_flops_per_token
from planner.throughput.layer import layer_shape
from planner.throughput.values import StepTime

_ATTENTION = {"llama.cpp": "eager", "exllama": "eager", "autoawq": "eager", "tensorrt-llm": "fused"}


def prefill_time(
    architecture: ModelArchitecture, workload: ServingWorkload, parallelism: Parallelism, device: Device,
    tokens: float,
) -> StepTime:  # fmt: skip
    """Seconds until ``tokens`` prompt tokens (of sequences of ``prompt_tokens``) have passed the model."""
    serving.check_generates(architecture)
    engine = engine_traits(workload.engine, workload.engine_version)
    fmt = weight_format(workload.weight_dtype)
    rate = serving.product_rate(workload, engine, device) * constant("sustained.prefill")
    shards = parallelism.tp
    step = StepTime()
    tokens = maximum(tokens, 1)
    prompt = maximum(workload.prompt_tokens, 1)
    chunk = _chunk(workload, engine, tokens)
    num_chunks = tokens / chunk
    first_layer = 0
    for group in architecture.groups:
        flops = group.count * linear_flops_per_token(group) * tokens / shards
        active = serving.distinct_share(group, chunk)
        read = serving.layer_bytes(architecture, group, fmt, workload, first_layer, active=active) / shards
        first_layer += group.count
        step.add("matmul", kernels.joined(flops / rate, num_chunks * read / device.bandwidth_bytes_per_s))
        if fmt.is_quantised and fmt.scheme in ("gptq", "awq", "bitsandbytes"):
            weights = group.count * sum(linear.num_params for linear in group.linears) / shards
            moved = num_chunks * weights * (fmt.bits / 8 + 2)
            fraction = constant(f"dequantise_fraction.{fmt.scheme}", "dequantise_fraction")
            step.add("dequantise", moved / device.bandwidth_bytes_per_s / fraction)
        shape = layer_shape(
            group, architecture.hidden_size, architecture.norm, "fused" if engine.fused_layer else "eager"
        )
        elementwise = shape.elementwise_bytes_per_token * tokens / shards
        step.add("elementwise", group.count * kernels.traffic_s(elementwise, device))
        if shape.num_heads:
            kind = _ATTENTION.get(engine.name, "flash")
            speed = kernels.attention_flops_per_s(
                device, kind=kind, head_dim=shape.head_dim, seq_len=prompt, dtype="fp16"
            )
            keys = average_keys(group, prompt)
            attention = attention_flops_per_token(group, keys, prompt) * tokens / shards
            step.add("attention", group.count * attention / speed)
    gpu_s = sum(step.parts.values())
    host_s = num_chunks * serving.host_s(architecture, workload, engine, batch=1, graphs=False)
    step.add("host", host_s)
    link_s = serving.tensor_parallel_s(architecture, parallelism, device, tokens)
    step.add("communication", link_s)
    step.total_s = kernels.joined(gpu_s, host_s) + link_s
    return step


def _chunk(workload: ServingWorkload, engine: EngineTraits, tokens: float) -> float:
    """Tokens one pass handles: llama.cpp's ``n_ubatch``, chunked prefill, or the whole prompt."""
    limit = workload.max_num_batched_tokens or (512 if engine.name == "llama.cpp" else None)
    if limit is None:
        return tokens
    chunk: float = where(tokens < limit, tokens, limit)
    return chunk
