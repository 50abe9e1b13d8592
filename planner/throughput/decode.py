"""Time of one decode step, cause by cause.

It reads every active weight and the whole cache for one token per request, and pays for each kernel it launches:
at batch 1 bandwidth and launches decide, at large batches arithmetic too.
"""

from __future__ import annotations

from planner.dtypes import WeightFormat, element_bytes, weight_format
from planner.memory.ops import where
from planner.model.architecture import GroupedQueryAttention, LayerGroup, ModelArchitecture, RecurrentMixer
from planner.request import Parallelism, ServingWorkload
from planner.throughput import kernels, serving
from planner.throughput.constants import constant
from planner.throughput.device import Device
from planner.throughput.engines import EngineTraits, engine_traits
from planner.throughput.flops import linear_flops_per_token, logits_flops_per_token
from planner.throughput.values import StepTime


def decode_time(
    architecture: ModelArchitecture, workload: ServingWorkload, parallelism: Parallelism, device: Device,
    context_tokens: float,
) -> StepTime:  # fmt: skip
    """Seconds of one decode step of ``concurrency`` requests with ``context_tokens`` in the cache of each."""
    serving.check_generates(architecture)
    engine = engine_traits(workload.engine, workload.engine_version)
    fmt = weight_format(workload.weight_dtype)
    scheme = serving.kernel_scheme(workload)
    batch = workload.concurrency
    shards = parallelism.tp
    bandwidth = kernels.streaming_bytes_per_s(device) * constant(f"decode.{engine.name}", "decode.engine")
    bandwidth = bandwidth * constant(f"decode.{engine.name}.{scheme}", f"decode.format.{scheme}")
    rate = serving.product_rate(workload, engine, device) * constant("sustained.decode")
    step = StepTime()
    first_layer = 0
    cache_s = 0.0
    for group in architecture.groups:
        active = serving.distinct_share(group, batch)
        read = serving.layer_bytes(architecture, group, fmt, workload, first_layer, active=active) / shards
        first_layer += group.count
        flops = group.count * linear_flops_per_token(group) * batch / shards
        step.add("weights", kernels.joined(read / bandwidth, flops / rate))
        cache_s = cache_s + _cache_s(group, workload, engine, batch, context_tokens, shards, device)
    step.add("kv_cache", cache_s)
    head = _head_bytes(architecture, fmt) / shards
    head_flops = logits_flops_per_token(architecture) * batch / shards
    dense = kernels.streaming_bytes_per_s(device) * constant("decode.head")
    step.add("logits", kernels.joined(head / dense, head_flops / device.matmul_flops_per_s("fp16")))
    gpu_s = sum(step.parts.values())
    launched_s = serving.host_s(architecture, workload, engine, batch=batch, graphs=False)
    if engine.execution == "eager" or (engine.execution == "graph" and not workload.cuda_graphs):
        host_s, busy_s = launched_s, kernels.joined(gpu_s, launched_s)
    else:
        gaps_s = serving.host_s(architecture, workload, engine, batch=batch, graphs=True)
        within = engine.graph_context_limit is None or context_tokens <= engine.graph_context_limit
        host_s = where(within, gaps_s, launched_s)
        busy_s = where(within, gpu_s + gaps_s, kernels.joined(gpu_s, launched_s))
    step.add("host", host_s)
    link_s = serving.tensor_parallel_s(architecture, parallelism, device, batch)
    link_s = link_s + (parallelism.pp - 1) * 1e-6 * constant("pipeline_hop_us")
    step.add("communication", link_s)
    step.total_s = busy_s + link_s
    return step


def _cache_s(
    group: LayerGroup, workload: ServingWorkload, engine: EngineTraits, batch: float, context: float,
    shards: float, device: Device,
) -> float:  # fmt: skip
    mixer = group.mixer
    if isinstance(mixer, RecurrentMixer):
        return group.count * batch * 8.0 * mixer.state_elements / shards / device.bandwidth_bytes_per_s
    window = mixer.window if isinstance(mixer, GroupedQueryAttention) else None
    seen = context if window is None else where(context < window, context, window)
    element = element_bytes(workload.kv_cache_dtype)
    size = group.count * batch * seen * serving.kv_elements(group) * element / shards
    fraction = constant(f"decode.kv.{engine.name}", "decode.kv")
    return size / (device.bandwidth_bytes_per_s * fraction)


def _head_bytes(architecture: ModelArchitecture, fmt: WeightFormat) -> float:
    if not architecture.has_lm_head:
        return 0.0
    weights = architecture.hidden_size * architecture.vocab_size
    if fmt.scheme == "gguf" and fmt.bits < 16:
        return weights * 6.5625 / 8  # Q6_K, the output type of every common mixture
    return weights * float(element_bytes("fp16" if fmt.is_quantised else fmt.name))
