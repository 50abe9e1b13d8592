"""What prefill and decode share: the rate of products, bytes of weights and cache, launches, links, sources."""

from __future__ import annotations

from planner.citation import Citation
from planner.dtypes import WeightFormat, element_bytes, weight_format
from planner.errors import UnsupportedError
from planner.memory.terms.weights import layers_of
from planner.model.architecture import (
    GroupedQueryAttention,
    LatentAttention,
    LayerGroup,
    ModelArchitecture,
    MoeMlp,
)
from planner.request import Parallelism, ServingWorkload
from planner.throughput import kernels
from planner.throughput.constants import constant
from planner.throughput.device import Device
from planner.throughput.engines import EngineTraits
from planner.throughput.layer import Implementation, layer_shape

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


def kv_bytes_per_token(architecture: ModelArchitecture, kv_cache_dtype: str) -> float:
    """Bytes the cache of one token occupies in all layers that keep one."""
    element = element_bytes(kv_cache_dtype)
    return sum(group.count * kv_elements(group) for group in architecture.groups) * float(element)


def kv_elements(group: LayerGroup) -> int:
    """Elements of one token in the cache of one layer."""
    mixer = group.mixer
    if isinstance(mixer, GroupedQueryAttention) and group.stack == "decoder":
        return 0 if mixer.shares_kv_with_earlier_layer else 2 * mixer.num_key_value_heads * mixer.head_dim
    if isinstance(mixer, LatentAttention):
        return mixer.kv_lora_rank + mixer.qk_rope_head_dim
    return 0


def kernel_scheme(workload: ServingWorkload) -> str:
    """Group of weight formats that share kernels: "16bit", "8bit", "4bit", "awq", "bnb4"…."""
    fmt = weight_format(workload.weight_dtype)
    if fmt.scheme == "gguf":
        return "gguf16" if fmt.bits >= 16 else "gguf"
    if fmt.scheme == "plain":
        return "16bit"
    if fmt.scheme == "bitsandbytes":
        if fmt.bits == 4:
            return "bnb4"
        return "bnb8" if workload.engine in ("transformers", "litgpt") else "8bit"
    if fmt.bits == 4 and fmt.scheme == "awq":
        return "awq"
    return "8bit" if fmt.bits == 8 else "4bit"


def product_rate(workload: ServingWorkload, engine: EngineTraits, device: Device) -> float:
    """Rate of large products in the arithmetic the weight format runs in."""
    fmt = weight_format(workload.weight_dtype)
    scheme = kernel_scheme(workload)
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


def check_generates(architecture: ModelArchitecture) -> None:
    """Raises UnsupportedError where the model does not generate tokens."""
    if architecture.kind == "encoder":
        raise UnsupportedError(
            f"{architecture.name} does not generate tokens, so it has no decode speed",
            hint="ask for training, or for a decoder model",
        )


def distinct_share(group: LayerGroup, tokens: float) -> float:
    """Share of a layer's experts that ``tokens`` tokens reach: 1 − (1 − k/E)^tokens."""
    if not isinstance(group.mlp, MoeMlp):
        return 1.0
    missed = 1 - group.mlp.num_experts_per_tok / group.mlp.num_experts
    share: float = 1 - missed**tokens
    return share


def layer_bytes(
    architecture: ModelArchitecture, group: LayerGroup, fmt: WeightFormat, workload: ServingWorkload,
    first_layer: int, *, active: float,
) -> float:  # fmt: skip
    """Bytes of a group's weights that a step reads, all layers, with ``active`` of the experts."""
    stored = layers_of(architecture, group, fmt, workload.compute_dtype, first_layer)
    whole = stored.sharded.total_bytes + stored.kv.total_bytes + stored.replicated.total_bytes
    size_bytes: float = whole + active * stored.experts.total_bytes
    return size_bytes


def host_s(
    architecture: ModelArchitecture, workload: ServingWorkload, engine: EngineTraits, *, batch: float,
    graphs: bool,
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


def tensor_parallel_s(
    architecture: ModelArchitecture, parallelism: Parallelism, device: Device, tokens: float
) -> float:
    """Two all-reduces of the hidden states per layer, each with a latency of its own."""
    size = 2.0 * tokens * architecture.hidden_size
    once = kernels.all_reduce_s(size, parallelism.tp, device) + 1e-6 * constant("all_reduce_us")
    return 2 * architecture.num_layers * once * (parallelism.tp > 1)
