"""Time of prefill and of one decode step, cause by cause.

Prefill is arithmetic over the prompt. Decode reads every active weight and the whole cache for one token per
request, and pays for each kernel it launches: at batch 1 bandwidth and launches decide, at large batches
arithmetic too.
"""

from __future__ import annotations

from dataclasses import replace

from planner.citation import Citation
from planner.dtypes import WeightFormat, element_bytes, weight_format
from planner.errors import UnsupportedError
from planner.memory.ops import maximum, where
from planner.memory.terms.weights import layers_of
from planner.model.architecture import (
    GroupedQueryAttention,
    LatentAttention,
    LayerGroup,
    ModelArchitecture,
    MoeMlp,
    RecurrentMixer,
)
from planner.request import Parallelism, ServingWorkload
from planner.throughput import kernels
from planner.throughput.constants import constant
from planner.throughput.device import Device
from planner.throughput.engines import EngineTraits, engine_traits
from planner.throughput.flops import (
    attention_flops_per_token,
    average_keys,
    linear_flops_per_token,
    logits_flops_per_token,
)
from planner.throughput.layer import Implementation, layer_shape
from planner.throughput.training import StepTime

DECODE = Citation(
    title="Pope et al. 2022: Efficiently Scaling Transformer Inference", url="https://arxiv.org/abs/2211.05102"
)
CUDA_GRAPHS = Citation(
    title="PyTorch: accelerating with CUDA graphs",
    url="https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/",
)
SOURCES = {
    "weights": DECODE,
    "kv_cache": DECODE,
    "matmul": kernels.ROOFLINE,
    "attention": kernels.FLASH_ATTENTION,
    "elementwise": kernels.ROOFLINE,
    "dequantise": DECODE,
    "logits": DECODE,
    "host": CUDA_GRAPHS,
    "communication": kernels.NCCL,
}
FORMULAS = {
    "weights": "bytes of active weights / attained bandwidth, at least 2·N·batch / rate",
    "kv_cache": "batch × context × bytes per token / attained bandwidth",
    "matmul": "2·N·tokens / rate",
    "attention": "4·S/2·P·tokens / rate",
    "elementwise": "bytes per token × tokens / bandwidth",
    "dequantise": "weights × (bits/8 + 2) / bandwidth",
    "logits": "2·d·V / rate, at least its bytes / bandwidth",
    "host": "layers × time per layer + time per step and request",
    "communication": "two all-reduces per layer over tp, one hop per pipeline stage",
}


_ATTENTION = {"llama.cpp": "eager", "exllama": "eager", "autoawq": "eager", "tensorrt-llm": "fused"}


def kv_bytes_per_token(architecture: ModelArchitecture, kv_cache_dtype: str) -> float:
    """Bytes the cache of one token occupies in all layers that keep one."""
    element = element_bytes(kv_cache_dtype)
    return sum(group.count * _kv_elements(group) for group in architecture.groups) * float(element)


def _kv_elements(group: LayerGroup) -> int:
    mixer = group.mixer
    if isinstance(mixer, GroupedQueryAttention) and group.stack == "decoder":
        return 0 if mixer.shares_kv_with_earlier_layer else 2 * mixer.num_key_value_heads * mixer.head_dim
    if isinstance(mixer, LatentAttention):
        return mixer.kv_lora_rank + mixer.qk_rope_head_dim
    return 0


def _scheme(workload: ServingWorkload) -> str:
    """Group of weight formats that share kernels: "16bit", "8bit", "4bit", "bnb", "gguf", "gguf16"."""
    fmt = weight_format(workload.weight_dtype)
    if fmt.scheme == "gguf":
        return "gguf16" if fmt.bits >= 16 else "gguf"
    if fmt.scheme == "plain":
        return "16bit"
    if fmt.scheme == "bitsandbytes":
        return (
            "bnb8"
            if fmt.bits == 8 and workload.engine in ("transformers", "litgpt")
            else "8bit"
            if fmt.bits == 8
            else "bnb4"
        )
    if fmt.bits == 4 and fmt.scheme == "awq":
        return "awq"
    return "8bit" if fmt.bits == 8 else "4bit"


def _rate(workload: ServingWorkload, engine: EngineTraits, device: Device) -> float:
    """Rate of large products in the arithmetic the weight format runs in."""
    fmt = weight_format(workload.weight_dtype)
    scheme = _scheme(workload)
    if fmt.scheme == "fp8":
        return device.matmul_flops_per_s("fp8") * constant("prefill.8bit")
    if fmt.scheme in ("nvfp4", "mxfp4"):
        return device.matmul_flops_per_s("fp4") * constant("prefill.fp4")
    if scheme == "gguf":
        return device.matmul_flops_per_s("int8") * constant("prefill.gguf")
    half = device.fp16_acc16_flops_per_s if engine.accumulates_in_fp16 else device.matmul_flops_per_s("fp16")
    if workload.compute_dtype == "fp32":
        half = device.matmul_flops_per_s("fp32")
    return half * constant(f"prefill.{engine.name}.{scheme}", f"prefill.{scheme}", "prefill.16bit")


def _check(architecture: ModelArchitecture) -> None:
    if architecture.kind == "encoder":
        raise UnsupportedError(
            f"{architecture.name} does not generate tokens, so it has no decode speed",
            hint="ask for training, or for a decoder model",
        )


def prefill_time(
    architecture: ModelArchitecture, workload: ServingWorkload, parallelism: Parallelism, device: Device,
    tokens: float,
) -> StepTime:  # fmt: skip
    """Seconds until ``tokens`` prompt tokens (of sequences of ``prompt_tokens``) have passed the model."""
    _check(architecture)
    engine = engine_traits(workload.engine, workload.engine_version)
    fmt = weight_format(workload.weight_dtype)
    rate = _rate(workload, engine, device) * constant("sustained.prefill")
    shards = parallelism.tp
    step = StepTime()
    tokens = maximum(tokens, 1)
    prompt = maximum(workload.prompt_tokens, 1)
    chunk = _chunk(workload, engine, tokens)
    num_chunks = tokens / chunk
    first_layer = 0
    for group in architecture.groups:
        flops = group.count * linear_flops_per_token(group) * tokens / shards
        read = (
            _layer_bytes(architecture, group, fmt, workload, first_layer, active=_distinct(group, chunk)) / shards
        )
        first_layer += group.count
        step.add(
            "matmul",
            kernels.joined(flops / rate, num_chunks * read / device.bandwidth_bytes_per_s),
        )
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
            speed = kernels.attention_flops_per_s(
                device,
                kind=_ATTENTION.get(engine.name, "flash"),
                head_dim=shape.head_dim,
                seq_len=prompt,
                dtype="fp16",
            )
            keys = average_keys(group, prompt)
            attention = attention_flops_per_token(group, keys, prompt) * tokens / shards
            step.add("attention", group.count * attention / speed)
    gpu_s = sum(step.parts.values())
    host_s = num_chunks * _host_s(architecture, workload, parallelism, engine, batch=1, graphs=False)
    step.add("host", host_s)
    link_s = _tensor_parallel_s(architecture, parallelism, device, tokens)
    step.add("communication", link_s)
    step.total_s = kernels.joined(gpu_s, host_s) + link_s
    if not engine.layer_split_is_serial:
        return step  # other engines keep every stage busy with chunks, but one prompt still visits them in turn
    return step


def _chunk(workload: ServingWorkload, engine: EngineTraits, tokens: float) -> float:
    """Tokens one pass handles: llama.cpp's ``n_ubatch``, chunked prefill, or the whole prompt."""
    limit = workload.max_num_batched_tokens or (512 if engine.name == "llama.cpp" else None)
    if limit is None:
        return tokens
    chunk: float = where(tokens < limit, tokens, limit)
    return chunk


def _distinct(group: LayerGroup, tokens: float) -> float:
    """Share of a layer's experts that ``tokens`` tokens reach: 1 − (1 − k/E)^tokens."""
    if not isinstance(group.mlp, MoeMlp):
        return 1.0
    missed = 1 - group.mlp.num_experts_per_tok / group.mlp.num_experts
    share: float = 1 - missed**tokens
    return share


def _layer_bytes(
    architecture: ModelArchitecture, group: LayerGroup, fmt: WeightFormat, workload: ServingWorkload,
    first_layer: int, *, active: float,
) -> float:  # fmt: skip
    """Bytes of a group's weights that a step reads, all layers, with ``active`` of the experts."""
    stored = layers_of(architecture, group, fmt, workload.compute_dtype, first_layer)
    whole = stored.sharded.total_bytes + stored.kv.total_bytes + stored.replicated.total_bytes
    size_bytes: float = whole + active * stored.experts.total_bytes
    return size_bytes


def _head_bytes(architecture: ModelArchitecture, fmt: WeightFormat, compute_dtype: str) -> float:
    if not architecture.has_lm_head:
        return 0.0
    weights = architecture.hidden_size * architecture.vocab_size
    if fmt.scheme == "gguf" and fmt.bits < 16:
        return weights * 6.5625 / 8  # Q6_K, the output type of every common mixture
    return weights * float(element_bytes("fp16" if fmt.is_quantised else fmt.name))


def decode_time(
    architecture: ModelArchitecture, workload: ServingWorkload, parallelism: Parallelism, device: Device,
    context_tokens: float,
) -> StepTime:  # fmt: skip
    """Seconds of one decode step of ``concurrency`` requests with ``context_tokens`` in the cache of each."""
    _check(architecture)
    engine = engine_traits(workload.engine, workload.engine_version)
    fmt = weight_format(workload.weight_dtype)
    scheme = _scheme(workload)
    batch = workload.concurrency
    shards = parallelism.tp
    bandwidth = kernels.streaming_bytes_per_s(device) * constant(f"decode.{engine.name}", "decode.engine")
    bandwidth = bandwidth * constant(f"decode.{engine.name}.{scheme}", f"decode.format.{scheme}")
    rate = _rate(workload, engine, device) * constant("sustained.decode")
    step = StepTime()
    first_layer = 0
    cache_s = 0.0
    for group in architecture.groups:
        read = (
            _layer_bytes(architecture, group, fmt, workload, first_layer, active=_distinct(group, batch)) / shards
        )
        first_layer += group.count
        flops = group.count * linear_flops_per_token(group) * batch / shards
        step.add("weights", kernels.joined(read / bandwidth, flops / rate))
        cache_s = cache_s + _cache_s(group, workload, engine, batch, context_tokens, shards, device)
    step.add("kv_cache", cache_s)
    head = _head_bytes(architecture, fmt, workload.compute_dtype) / shards
    head_flops = logits_flops_per_token(architecture) * batch / shards
    dense = kernels.streaming_bytes_per_s(device) * constant("decode.head")
    step.add("logits", kernels.joined(head / dense, head_flops / device.matmul_flops_per_s("fp16")))
    gpu_s = sum(step.parts.values())
    launched_s = _host_s(architecture, workload, parallelism, engine, batch=batch, graphs=False)
    if engine.execution == "eager" or (engine.execution == "graph" and not workload.cuda_graphs):
        host_s, busy_s = launched_s, kernels.joined(gpu_s, launched_s)
    else:
        gaps_s = _host_s(architecture, workload, parallelism, engine, batch=batch, graphs=True)
        within = engine.graph_context_limit is None or context_tokens <= engine.graph_context_limit
        host_s = where(within, gaps_s, launched_s)
        busy_s = where(within, gpu_s + gaps_s, kernels.joined(gpu_s, launched_s))
    step.add("host", host_s)
    link_s = _tensor_parallel_s(architecture, parallelism, device, batch)
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
    size = group.count * batch * seen * _kv_elements(group) * element / shards
    fraction = constant(f"decode.kv.{engine.name}", "decode.kv")
    return size / (device.bandwidth_bytes_per_s * fraction)


def _host_s(
    architecture: ModelArchitecture, workload: ServingWorkload, parallelism: Parallelism, engine: EngineTraits, *,
    batch: float, graphs: bool,
) -> float:  # fmt: skip
    """Gaps between kernels, launches, and per-step and per-request work of the scheduler."""
    fmt = weight_format(workload.weight_dtype)
    layers = architecture.num_layers
    fixed = 1e-6 * constant(f"step_us.{engine.name}", "step_us") + batch * 1e-6 * constant("request_us")
    if graphs:
        return layers * 1e-6 * constant(f"layer_us.{engine.name}", f"layer_us.{engine.execution}") + fixed
    launches = 0.0 if engine.fused_layer else layers * constant("cache_launches")
    implementation: Implementation = "fused" if engine.fused_layer else "eager"
    for group in architecture.groups:
        shape = layer_shape(group, architecture.hidden_size, architecture.norm, implementation)
        extra = shape.num_linears * constant(f"extra_launches.{fmt.scheme}", "extra_launches")
        launches += group.count * (shape.launches + extra)
    return (
        launches * 1e-6 * constant(f"launch_us.{engine.name}", f"launch_us.{implementation}", "launch_us") + fixed
    )


def _tensor_parallel_s(
    architecture: ModelArchitecture, parallelism: Parallelism, device: Device, tokens: float
) -> float:
    """Two all-reduces of the hidden states per layer, each with a latency of its own."""
    size = 2.0 * tokens * architecture.hidden_size
    once = kernels.all_reduce_s(size, parallelism.tp, device) + 1e-6 * constant("all_reduce_us")
    return 2 * architecture.num_layers * once * (parallelism.tp > 1)


def at_concurrency(workload: ServingWorkload, concurrency: int) -> ServingWorkload:
    """The same requests, ``concurrency`` at once."""
    return replace(workload, concurrency=concurrency)
