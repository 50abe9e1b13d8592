"""Seconds of the kernels a layer is made of, on one device: roofline with a smooth corner.

A kernel's time is bounded by its arithmetic and by its memory traffic; near the corner both count, so the two
are joined by a power mean (p = 3) instead of a maximum. Letters: M tokens, K input and N output features.
"""

from __future__ import annotations

from planner.citation import Citation
from planner.memory.ops import maximum, minimum
from planner.throughput.constants import constant
from planner.throughput.device import Device

ROOFLINE = Citation(
    title="Williams, Waterman, Patterson 2009: Roofline", url="https://doi.org/10.1145/1498765.1498785"
)
FLASH_ATTENTION = Citation(title="Dao 2023: FlashAttention-2", url="https://arxiv.org/abs/2307.08691")
_CORNER = 3.0


def joined(first: float, second: float) -> float:
    """Time of two bounds that overlap almost fully: (a³ + b³)^(1/3)."""
    time_s: float = (first**_CORNER + second**_CORNER) ** (1 / _CORNER)
    return time_s


def overlapped(work_s: float, hidden_s: float, fraction: float) -> float:
    """Time of work with communication behind it, where at most ``fraction`` of the shorter one is hidden."""
    longer: float = maximum(work_s, hidden_s)
    return longer + (1 - fraction) * (work_s + hidden_s - longer)


def matmul_s(
    *,
    tokens: float,
    in_features: float,
    out_features: float,
    weight_bytes: float,
    flops_per_s: float,
    device: Device,
) -> float:
    """One M×K by K×N product in ``flops_per_s`` arithmetic, reading ``weight_bytes`` and 16-bit activations."""
    arithmetic = 2.0 * tokens * in_features * out_features / flops_per_s
    traffic = (weight_bytes + 2.0 * tokens * (in_features + out_features)) / device.bandwidth_bytes_per_s
    return joined(arithmetic, traffic)


def attention_flops_per_s(
    device: Device, *, kind: str, head_dim: int, seq_len: float, dtype: str = "bf16"
) -> float:
    """Attained rate of attention forward.

    ``kind`` is "fused" (the vendor's), "flash", "flash-attention-1", "memory-efficient" or "eager". Short
    sequences fill the tiles poorly: S/(S + S½).
    Heads narrower than 128 spend more of the time in softmax (figures 4-7 of the source).
    """
    best = device.fused_attention_fraction if kind == "fused" else device.attention_fraction
    rate = device.matmul_flops_per_s(dtype) * best
    if kind not in ("flash", "fused"):
        rate = rate * constant(f"attention.{kind}")
    if head_dim < 128:
        rate = rate * constant("attention.narrow_head")
    half = constant("attention.half_length")
    return rate * seq_len / (seq_len + half)


def traffic_s(size_bytes: float, device: Device) -> float:
    """Elementwise kernels: bytes read and written over the bandwidth they attain."""
    return size_bytes / (device.bandwidth_bytes_per_s * constant("elementwise_fraction"))


def streaming_bytes_per_s(device: Device) -> float:
    """Rate at which a matrix-vector product reads weights: memory, or what the multiprocessors can have in flight.

    By Little's law a multiprocessor keeps a bounded number of bytes in flight, so few of them cannot use a fast
    memory (an H20 reads at less than half of its 4 TB/s).
    """
    asked = device.sm_cycles_per_s * constant("decode.bytes_per_sm_cycle")
    return 1 / joined(1 / device.bandwidth_bytes_per_s, 1 / asked)


def all_gather_s(size_bytes: float, ranks: float, device: Device, *, ranks_per_node: float | None = None) -> float:
    """Gather (or reduce-scatter) of a tensor of ``size_bytes`` in all over ``ranks`` GPUs, ring algorithm.

    Each GPU receives (n−1)/n of it over its link; across nodes, a node receives as much through its network cards,
    which its GPUs share. Source: NCCL performance notes (bus bandwidth).
    """
    per_node = device.gpus_per_node if ranks_per_node is None else ranks_per_node
    inside = minimum(ranks, per_node)
    nodes = ranks / inside
    link_s = size_bytes * (ranks - 1) / ranks / device.link_bytes_per_s
    network_s = size_bytes * (nodes - 1) / nodes / (inside * device.network_bytes_per_s)
    latency_s = (ranks - 1) * 1e-6 * constant("collective_hop_us")
    slower_s: float = maximum(link_s, network_s)
    return slower_s + latency_s


def all_reduce_s(size_bytes: float, ranks: float, device: Device) -> float:
    """Reduce-scatter and all-gather."""
    return 2 * all_gather_s(size_bytes, ranks, device)


NCCL = Citation(
    title="nccl-tests: bus bandwidth of collectives",
    url="https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md",
)
