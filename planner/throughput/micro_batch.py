"""Work of the GPU in one micro-batch: layers (products, traffic, adapters, attention) and the output head."""

from __future__ import annotations

from planner.dtypes import weight_format
from planner.memory.ops import where
from planner.model.architecture import GroupedQueryAttention, LayerGroup, Linear, ModelArchitecture, MoeMlp
from planner.request import Parallelism, TrainingWorkload
from planner.throughput import kernels
from planner.throughput.constants import constant
from planner.throughput.device import Device
from planner.throughput.flops import (
    ATTENTION_BACKWARD,
    active_count,
    attention_flops_per_token,
    average_keys,
    logits_flops_per_token,
)
from planner.throughput.layer import Implementation, LayerShape, implementation_of, layer_shape
from planner.throughput.method import Passes, adapted
from planner.throughput.values import StepTime


def add_layer(
    step: StepTime, architecture: ModelArchitecture, group: LayerGroup, layers: float, workload: TrainingWorkload,
    parallelism: Parallelism, device: Device, passes: Passes, tokens: float,
) -> None:  # fmt: skip
    """Time of ``layers`` layers of a group over ``tokens`` tokens, every pass of the micro-batch."""
    implementation = implementation_of(workload.framework, compiled=workload.compile)
    shape = layer_shape(group, architecture.hidden_size, architecture.norm, implementation)
    for linear in group.linears:
        _add_linear(step, group, linear, layers, workload, parallelism, device, passes, tokens, implementation)
    size = shape.elementwise_bytes_per_token * tokens / parallelism.tp
    size = size * (2 if workload.compute_dtype == "fp32" else 1) * constant(f"elementwise_bytes.{implementation}")
    elementwise_passes = passes.forward + passes.recompute_linear + 2 * passes.input_gradients
    step.add("elementwise", layers * elementwise_passes * kernels.traffic_s(size, device))
    if shape.num_heads:
        _add_attention(step, group, shape, layers, workload, parallelism, device, passes, tokens)


def _add_linear(
    step: StepTime, group: LayerGroup, linear: Linear, layers: float, workload: TrainingWorkload,
    parallelism: Parallelism, device: Device, passes: Passes, tokens: float, implementation: Implementation,
) -> None:  # fmt: skip
    """One matrix of a layer: its products, its dequantisation, its casts and its adapter."""
    weight = weight_format(workload.weight_dtype)
    matrix_passes = passes.forward + passes.recompute_linear + passes.input_gradients + passes.weight_gradients
    seconds = _linear_s(group, linear, tokens, _rate(workload, device), parallelism, device)
    step.add("matmul", layers * matrix_passes * seconds)
    if weight.is_quantised and weight.quantises(
        linear.role, is_module=linear.is_packable, kept=linear.keeps_precision
    ):
        size = linear.count * linear.in_features * linear.out_features / parallelism.tp
        once = size * (weight.bits / 8 + 2) / device.bandwidth_bytes_per_s
        times = passes.forward + passes.recompute_linear + passes.input_gradients
        scheme = constant(f"dequantise_fraction.{weight.scheme}", "dequantise_fraction")
        step.add("dequantise", layers * times * once / scheme)
    if workload.matmul_dtype is not None:
        cast = 5.0 * tokens * active_count(group, linear) * (linear.in_features + linear.out_features)
        cast = cast / parallelism.tp * (1.0 if implementation == "eager" else 0.5)
        step.add("elementwise", layers * kernels.traffic_s(cast, device))
    if adapted(workload, linear):
        once = _adapter_s(workload, linear, tokens * active_count(group, linear), parallelism, device)
        step.add("adapter", layers * (3 + passes.recompute_linear) * once)


def _add_attention(
    step: StepTime, group: LayerGroup, shape: LayerShape, layers: float, workload: TrainingWorkload,
    parallelism: Parallelism, device: Device, passes: Passes, tokens: float,
) -> None:  # fmt: skip
    """Scores and their product with the values; eager attention also writes the scores to memory."""
    kind = _kind_of_attention(workload)
    dtype = "bf16" if workload.compute_dtype == "fp32" else workload.compute_dtype
    speed = kernels.attention_flops_per_s(
        device, kind=kind, head_dim=shape.head_dim, seq_len=workload.seq_len, dtype=dtype
    )
    keys = average_keys(group, workload.seq_len)
    if kind in ("eager", "memory-efficient") and group.stack == "decoder":
        keys = keys * 2 if _window(group) is None else keys
    flops = attention_flops_per_token(group, keys, workload.seq_len) * tokens / parallelism.tp
    speed = speed * where(parallelism.cp > 1, constant("attention.ring"), 1.0)
    attention_passes = passes.forward + passes.recompute_attention + ATTENTION_BACKWARD * passes.input_gradients
    step.add("attention", layers * attention_passes * flops / speed)
    if kind == "eager":
        scores = 22.0 * tokens * workload.seq_len * shape.num_heads / parallelism.tp
        step.add("attention", layers * attention_passes * kernels.traffic_s(scores, device))


def add_head(
    step: StepTime, architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism,
    device: Device, passes: Passes, tokens: float,
) -> None:  # fmt: skip
    """Output projection and loss, on the last pipeline stage. Logits traffic in bytes per element.

    Standard: written in 16 bits, cast, shifted, log-softmax and its gradient in fp32 (42 B); fused or chunked
    losses read and write once (8 B).
    """
    if not architecture.has_lm_head:
        return
    rate = device.matmul_flops_per_s("bf16" if workload.compute_dtype == "fp32" else workload.compute_dtype)
    flops = logits_flops_per_token(architecture) * tokens / parallelism.tp
    trains_head = passes.weight_gradients or "lm_head" in workload.adapter.modules_to_save
    times = passes.forward + passes.input_gradients + float(bool(trains_head))
    if workload.loss in ("chunked", "fused"):
        times = times + (1.0 if workload.loss == "chunked" else 0.0)
    step.add("logits", times * flops / (rate * device.sustained_16bit_fraction))
    width = 42.0 if workload.loss == "standard" else 8.0
    size = width * tokens * architecture.vocab_size / parallelism.tp
    step.add("logits", kernels.traffic_s(size, device))


def _linear_s(
    group: LayerGroup, linear: Linear, tokens: float, rate: float, parallelism: Parallelism, device: Device
) -> float:
    """Forward seconds of all active copies of one matrix of a layer; experts run as grouped products."""
    shards = parallelism.tp
    if linear.role == "expert" and isinstance(group.mlp, MoeMlp):
        held = linear.count / parallelism.ep
        routed = tokens * group.mlp.num_experts_per_tok * (linear.count / group.mlp.num_experts)
        return kernels.matmul_s(
            tokens=routed,
            in_features=linear.in_features,
            out_features=linear.out_features / shards,
            weight_bytes=2.0 * held * linear.in_features * linear.out_features / shards,
            flops_per_s=rate * constant("grouped_matmul_fraction"),
            device=device,
        )
    once = kernels.matmul_s(
        tokens=tokens,
        in_features=linear.in_features,
        out_features=linear.out_features / shards,
        weight_bytes=2.0 * linear.in_features * linear.out_features / shards,
        flops_per_s=rate,
        device=device,
    )
    return linear.count * once


def _adapter_s(
    workload: TrainingWorkload, linear: Linear, tokens: float, parallelism: Parallelism, device: Device
) -> float:
    """One pass of a low-rank adapter: skinny products, a scaled addition, casts where adapters are fp32.

    Bytes per token: fp32 adapters cast the input (2+4+4 per input feature) and add in fp32 (22 per output
    feature); adapters in the compute dtype read the input and write, scale and add the output (2 and 12).
    """
    wide = workload.adapter.dtype == "fp32" and not workload.autocast and workload.compute_dtype != "fp32"
    read, written = (10.0, 22.0) if wide else (2.0, 12.0)
    if workload.adapter.dropout:
        read = read + (9.0 if wide else 5.0)
    size = tokens * (read * linear.in_features + written * linear.out_features) / parallelism.tp
    rank = workload.adapter.rank
    flops = 2.0 * tokens * rank * (linear.in_features + linear.out_features) / parallelism.tp
    rate = device.matmul_flops_per_s("fp32" if wide else "bf16") * constant("skinny_matmul_fraction")
    decomposed = 2.0 if workload.method in ("dora", "qdora") else 1.0
    return decomposed * (kernels.traffic_s(size, device) + flops / rate)


def _kind_of_attention(workload: TrainingWorkload) -> str:
    if workload.attention == "eager":
        return "eager"
    if workload.attention == "sdpa" and workload.padding_mask:
        return "memory-efficient"
    if workload.attention == "flash-attention-1":
        return workload.attention
    fused = implementation_of(workload.framework, compiled=workload.compile) == "fused"
    return "fused" if fused and not workload.framework.startswith("unsloth") else "flash"


def _window(group: LayerGroup) -> int | None:
    return group.mixer.window if isinstance(group.mixer, GroupedQueryAttention) else None


def _rate(workload: TrainingWorkload, device: Device) -> float:
    """Sustained rate of large matrix products in the dtype they run in."""
    narrow = workload.matmul_dtype
    if narrow is not None:
        return device.matmul_flops_per_s(narrow) * constant(f"sustained.{narrow}", "sustained.fp8")
    if workload.compute_dtype == "fp32" and workload.autocast:
        return device.matmul_flops_per_s("bf16") * device.sustained_16bit_fraction
    return device.matmul_flops_per_s(workload.compute_dtype) * device.sustained_16bit_fraction
