"""Time of one optimizer step on the busiest GPU, cause by cause.

A micro-batch passes forward, once more forward where activations are recomputed, and backward: a gradient with
respect to the input of every layer, and with respect to the weights of trainable ones only. Work of the GPU and
of the host that launches it overlap, and so do work and communication up to a measured fraction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.citation import Citation
from planner.dtypes import weight_format
from planner.memory.ops import where
from planner.model.architecture import GroupedQueryAttention, LayerGroup, Linear, ModelArchitecture, MoeMlp
from planner.request import Parallelism, TrainingWorkload
from planner.throughput import communication, kernels
from planner.throughput.constants import constant
from planner.throughput.device import Device
from planner.throughput.flops import (
    ATTENTION_BACKWARD,
    active_count,
    attention_flops_per_token,
    average_keys,
    logits_flops_per_token,
)
from planner.throughput.layer import ELEMENTWISE, Implementation, implementation_of, layer_shape
from planner.throughput.method import Passes, adapted, passes_of, trainable_params
from planner.vocabulary import FULL_METHODS

PASSES = Citation(title="Korthikanti et al. 2022: recomputation", url="https://arxiv.org/abs/2205.05198")
LORA = Citation(title="Hu et al. 2021: LoRA", url="https://arxiv.org/abs/2106.09685")
QLORA = Citation(title="Dettmers et al. 2023: QLoRA", url="https://arxiv.org/abs/2305.14314")
ZERO = Citation(title="Rajbhandari et al. 2019: ZeRO", url="https://arxiv.org/abs/1910.02054")
ZERO_OFFLOAD = Citation(title="Ren et al. 2021: ZeRO-Offload", url="https://arxiv.org/abs/2101.06840")
PIPELINE = Citation(
    title="Narayanan et al. 2021: pipeline bubble (p−1)/(v·m)", url="https://arxiv.org/abs/2104.04473"
)
OPTIMIZERS = Citation(
    title="torch.optim: foreach and fused implementations", url="https://docs.pytorch.org/docs/stable/optim.html"
)
_OPTIMIZER_PASSES = {
    "adamw": 15, "adamw-forloop": 19, "adamw-fused": 7, "paged-adamw": 7, "adamw-8bit": 5, "paged-adamw-8bit": 5,
    "sgd": 4, "sgd-momentum": 7, "adafactor": 12, "lion": 5, "lion-8bit": 4, "galore-adamw": 12, "muon": 12,
}  # fmt: skip
"""Element-sized reads and writes per parameter: fused Adam reads p, g, m, v and writes p, m, v."""
_MUON_ITERATIONS = 5


@dataclass(slots=True)
class StepTime:
    """Parts in seconds (arrays in vectorised use), and the step they make."""

    parts: dict[str, float] = field(default_factory=dict)
    total_s: float = 0.0

    def add(self, kind: str, seconds: float) -> None:
        self.parts[kind] = self.parts.get(kind, 0.0) + seconds


def _kind_of_attention(workload: TrainingWorkload) -> str:
    if workload.attention == "eager":
        return "eager"
    if workload.attention == "sdpa" and workload.padding_mask:
        return "memory-efficient"
    if workload.attention == "flash-attention-1":
        return workload.attention
    fused = implementation_of(workload.framework, compiled=workload.compile) == "fused"
    return "fused" if fused and not workload.framework.startswith("unsloth") else "flash"


def step_time(
    architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism, device: Device
) -> StepTime:
    """Seconds of one optimizer step. Numeric fields of the workload, the degrees and the device may be arrays."""
    micro = StepTime()
    passes = passes_of(workload)
    tokens = workload.batch_size * workload.seq_len / parallelism.cp
    implementation = implementation_of(workload.framework, compiled=workload.compile)
    for group in architecture.groups:
        layers = group.count / parallelism.pp
        _add_layer(micro, architecture, group, layers, workload, parallelism, device, passes, tokens)
    _add_head(micro, architecture, workload, parallelism, device, passes, tokens)
    gpu_s = sum(micro.parts.values())
    host_s = _host_s(architecture, workload, parallelism, passes, implementation)
    micro.add("host", host_s)
    busy_s = kernels.joined(gpu_s, host_s)
    exposed_s = communication.tensor_parallel_s(architecture, workload, parallelism, device, passes, tokens)
    exposed_s = exposed_s + communication.expert_parallel_s(architecture, parallelism, device, passes, tokens)
    ring_s = communication.context_parallel_s(architecture, workload, parallelism, device, passes)
    exposed_s = exposed_s + ring_s
    micro.add("communication", exposed_s)
    sharded_s = communication.sharded_data_parallel_s(architecture, workload, parallelism, device)
    micro.add("communication", sharded_s)
    overlap = constant("overlap.nvlink") * device.has_nvlink + constant("overlap.pcie") * (1 - device.has_nvlink)
    micro_s = kernels.overlapped(busy_s + exposed_s, sharded_s, overlap)
    return _whole_step(architecture, workload, parallelism, device, micro, micro_s, overlap)


def _whole_step(
    architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism, device: Device,
    micro: StepTime, micro_s: float, overlap: float,
) -> StepTime:  # fmt: skip
    accumulated = workload.gradient_accumulation_steps
    microbatches = parallelism.num_microbatches or accumulated
    bubble = (parallelism.pp - 1) / (microbatches * parallelism.pp_virtual_stages)
    if parallelism.pp_schedule == "zero-bubble":
        bubble = bubble / 3
    step = StepTime(parts={kind: seconds * accumulated for kind, seconds in micro.parts.items()})
    work_s = micro_s * accumulated
    step.add("bubble", work_s * bubble)
    reduce_s = communication.gradient_reduction_s(architecture, workload, parallelism, device)
    step.add("communication", reduce_s)
    optimizer_s = _optimizer_s(architecture, workload, parallelism, device)
    step.add("optimizer", optimizer_s)
    last_s = micro_s + 0.0
    exposed_s = kernels.overlapped(last_s, reduce_s, overlap) - last_s
    fixed_s = constant("step_fixed_s")
    step.total_s = work_s * (1 + bubble) + exposed_s + optimizer_s + fixed_s
    return step


def _rate(workload: TrainingWorkload, device: Device) -> float:
    """Sustained rate of large matrix products in the dtype they run in."""
    narrow = workload.matmul_dtype
    if narrow is not None:
        return device.matmul_flops_per_s(narrow) * constant(f"sustained.{narrow}", "sustained.fp8")
    if workload.compute_dtype == "fp32" and workload.autocast:
        return device.matmul_flops_per_s("bf16") * device.sustained_16bit_fraction
    return device.matmul_flops_per_s(workload.compute_dtype) * device.sustained_16bit_fraction


def _add_layer(
    step: StepTime, architecture: ModelArchitecture, group: LayerGroup, layers: float, workload: TrainingWorkload,
    parallelism: Parallelism, device: Device, passes: Passes, tokens: float,
) -> None:  # fmt: skip
    rate = _rate(workload, device)
    implementation = implementation_of(workload.framework, compiled=workload.compile)
    matrix_passes = 1 + passes.recompute_linear + passes.input_gradients + passes.weight_gradients
    weight = weight_format(workload.weight_dtype)
    for linear in group.linears:
        seconds = _linear_s(group, linear, tokens, rate, parallelism, device)
        step.add("matmul", layers * matrix_passes * seconds)
        if weight.is_quantised and weight.quantises(linear.role, is_module=linear.is_packable):
            size = linear.count * linear.in_features * linear.out_features / parallelism.tp
            once = size * (weight.bits / 8 + 2) / device.bandwidth_bytes_per_s
            times = 1 + passes.recompute_linear + passes.input_gradients
            scheme = constant(f"dequantise_fraction.{weight.scheme}", "dequantise_fraction")
            step.add("dequantise", layers * times * once / scheme)
        if workload.matmul_dtype is not None:
            cast = 5.0 * tokens * active_count(group, linear) * (linear.in_features + linear.out_features)
            cast = cast / parallelism.tp * (1.0 if implementation == "eager" else 0.5)
            step.add("elementwise", layers * kernels.traffic_s(cast, device))
        if adapted(workload, linear):
            once = _adapter_s(workload, linear, tokens * active_count(group, linear), parallelism, device)
            step.add("adapter", layers * (3 + passes.recompute_linear) * once)
    shape = layer_shape(group, architecture.hidden_size, architecture.norm, implementation)
    shards = parallelism.tp
    size = shape.elementwise_bytes_per_token * tokens / shards * (2 if workload.compute_dtype == "fp32" else 1)
    size = size * constant(f"elementwise_bytes.{implementation}")
    elementwise_passes = 1 + passes.recompute_linear + 2 * passes.input_gradients
    step.add("elementwise", layers * elementwise_passes * kernels.traffic_s(size, device))
    if shape.num_heads:
        kind = _kind_of_attention(workload)
        dtype = "bf16" if workload.compute_dtype == "fp32" else workload.compute_dtype
        speed = kernels.attention_flops_per_s(
            device, kind=kind, head_dim=shape.head_dim, seq_len=workload.seq_len, dtype=dtype
        )
        keys = average_keys(group, workload.seq_len)
        if kind in ("eager", "memory-efficient") and group.stack == "decoder":
            keys = keys * 2 if _window(group) is None else keys
        flops = attention_flops_per_token(group, keys, workload.seq_len) * tokens / shards
        speed = speed * where(parallelism.cp > 1, constant("attention.ring"), 1.0)
        attention_passes = 1 + passes.recompute_attention + ATTENTION_BACKWARD * passes.input_gradients
        step.add("attention", layers * attention_passes * flops / speed)
        if kind == "eager":
            scores = 22.0 * tokens * workload.seq_len * shape.num_heads / shards
            step.add("attention", layers * attention_passes * kernels.traffic_s(scores, device))


def _window(group: LayerGroup) -> int | None:
    return group.mixer.window if isinstance(group.mixer, GroupedQueryAttention) else None


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


def _add_head(
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
    times = 1 + passes.input_gradients + float(bool(trains_head))
    if workload.loss in ("chunked", "fused"):
        times = times + (1.0 if workload.loss == "chunked" else 0.0)
    step.add("logits", times * flops / (rate * device.sustained_16bit_fraction))
    width = 42.0 if workload.loss == "standard" else 8.0
    size = width * tokens * architecture.vocab_size / parallelism.tp
    step.add("logits", kernels.traffic_s(size, device))


def _host_s(
    architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism, passes: Passes,
    implementation: Implementation,
) -> float:  # fmt: skip
    """Time the host needs to launch one micro-batch: Python, dispatcher and autograd, per kernel."""
    launches = 0.0
    quantised = weight_format(workload.weight_dtype).is_quantised
    for group in architecture.groups:
        shape = layer_shape(group, architecture.hidden_size, architecture.norm, implementation)
        per_layer = shape.launches
        for linear in group.linears:
            if quantised:
                per_layer = per_layer + 4
            if adapted(workload, linear):
                per_layer = per_layer + 6
        launches = launches + group.count / parallelism.pp * per_layer
    times = 2 + passes.recompute_linear
    return launches * times * 1e-6 * constant(f"host_us_per_launch.{implementation}")


def _optimizer_s(
    architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism, device: Device
) -> float:
    """Element passes over parameters, gradients and states this rank owns; clipping reads gradients twice more."""
    trained = trainable_params(architecture, workload) / (parallelism.tp * parallelism.pp)
    owned = trained / (parallelism.dp_shard * parallelism.cp)
    full = workload.method in FULL_METHODS
    dtype = workload.weight_dtype if full else workload.adapter.dtype
    element = 4.0 if dtype == "fp32" else 2.0
    if parallelism.cpu_offload != "none":
        touched = 28.0 * owned / constant("cpu_optimizer_bytes_per_s")
        moved = 2 * 2.0 * owned / device.host_link_bytes_per_s
        return touched + moved
    passes = _OPTIMIZER_PASSES.get(workload.optimizer, 15) + 3
    seconds = kernels.traffic_s(owned * element * passes, device)
    if workload.optimizer == "muon":
        flops = sum(
            group.count * linear.count * 2.0 * _MUON_ITERATIONS * 3
            * linear.in_features * linear.out_features * min(linear.in_features, linear.out_features)
            for group in architecture.groups for linear in group.linears
        )  # fmt: skip
        seconds = seconds + flops / (parallelism.tp * parallelism.pp) / device.matmul_flops_per_s("bf16")
    return seconds


SOURCES = {
    "matmul": kernels.ROOFLINE,
    "attention": kernels.FLASH_ATTENTION,
    "elementwise": ELEMENTWISE,
    "logits": ELEMENTWISE,
    "dequantise": QLORA,
    "adapter": LORA,
    "host": ELEMENTWISE,
    "communication": kernels.NCCL,
    "bubble": PIPELINE,
    "optimizer": OPTIMIZERS,
}
FORMULAS = {
    "matmul": "passes × Σ 2·M·K·N / rate, at least bytes / bandwidth",
    "attention": "passes × 4·S/2·P·M / rate",
    "elementwise": "passes × bytes per token × M / bandwidth",
    "logits": "passes × 2·d·V·M / rate + bytes × M × V / bandwidth",
    "dequantise": "passes × weights × (bits/8 + 2) / bandwidth",
    "adapter": "passes × bytes per token × M / bandwidth + 2·r·(K+N)·M / rate",
    "host": "launches × time per launch, behind the GPU's work",
    "communication": "bytes × (n−1)/n / link, partly behind the GPU's work",
    "bubble": "work × (pp − 1) / (microbatches × virtual stages)",
    "optimizer": "element passes × owned parameters × bytes / bandwidth",
}
