"""What one GPU attains: rates of kernels and links, from its data sheet and measured fractions of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from hardware_db.gpu import FlopsDtype, Gpu
from planner.errors import UnsupportedError
from planner.throughput.constants import constant, document, is_overridden

MATMUL_DTYPES: tuple[FlopsDtype, ...] = ("fp32", "fp16", "bf16", "fp8", "int8", "fp4")
_NARROWER: dict[FlopsDtype, tuple[FlopsDtype, ...]] = {
    "fp32": ("tf32", "fp32"),
    "fp16": ("fp16", "fp32"),
    "bf16": ("bf16", "fp16"),
    "fp8": ("fp8", "bf16", "fp16", "fp32"),
    "int8": ("int8", "fp16", "fp32"),
    "fp4": ("fp4", "fp8", "bf16", "fp16", "fp32"),
}
"""What a kernel falls back to where the GPU lacks the format."""
_PCIE_BYTES_PER_S_PER_LANE = {1.0: 0.25e9, 2.0: 0.5e9, 3.0: 0.985e9, 4.0: 1.969e9, 5.0: 3.938e9, 6.0: 7.563e9}
"""One direction, after encoding: https://en.wikipedia.org/wiki/PCI_Express (transfer rates per lane)."""

_PLAUSIBLE_STREAM = 0.8
"""Streaming readings below this fraction show the limit of a plain kernel, not of the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Attained rates of one GPU. In vectorised use every field is a float array of one shape."""

    fp32_flops_per_s: float
    fp16_flops_per_s: float
    fp16_acc16_flops_per_s: float
    """fp16 with fp16 accumulation: twice the rate on GeForce cards."""
    bf16_flops_per_s: float
    fp8_flops_per_s: float
    int8_flops_per_s: float
    fp4_flops_per_s: float
    peak_16bit_flops_per_s: float
    """Dense peak of the 16-bit tensor format: the reference of MFU."""
    attention_fraction: float
    """FlashAttention-2 at head size 128 and long sequences, of the attained 16-bit rate."""
    fused_attention_fraction: float
    """The same of the vendor's kernels (cuDNN, TensorRT-LLM), which use what a newer chip adds."""
    sustained_16bit_fraction: float
    """Of the best matrix product, what a long run of real ones keeps: clocks under power, tile quantisation."""
    bandwidth_bytes_per_s: float
    """Attained by a streaming read."""
    sm_cycles_per_s: float
    """Cycles of all multiprocessors together: what a GPU can ask of its memory is proportional to it."""
    link_bytes_per_s: float
    """Between two GPUs of one node, one direction, attained."""
    network_bytes_per_s: float
    """Between nodes, one direction, per GPU, attained."""
    host_link_bytes_per_s: float
    """PCIe to the host, one direction, attained."""
    gpus_per_node: float
    has_nvlink: float
    """1 or 0."""

    def matmul_flops_per_s(self, dtype: str) -> float:
        """Attained rate of a large matrix multiplication in a dtype named in ``MATMUL_DTYPES``."""
        rate: float = getattr(self, f"{dtype}_flops_per_s")
        return rate


def generation(gpu: Gpu) -> str:
    """Group of GPUs that share attainable fractions: chip generation and market, for example "sm89-geforce"."""
    if gpu.compute_capability:
        chip = f"sm{gpu.compute_capability[0]}{gpu.compute_capability[1]}"
    else:
        chip = (gpu.architecture or gpu.vendor).lower().replace(" ", "")
    form = (gpu.form_factor or "").upper()
    if any(word in form for word in ("SXM", "OAM", "NVL72", "SUPERCHIP")):
        return f"{chip}-module"
    if form.startswith("PCIE"):
        return f"{chip}-card"
    if gpu.id.startswith(("rtx-a", "rtx-pro", "quadro", "titan")) or gpu.id.endswith("-ada"):
        return f"{chip}-workstation"
    return f"{chip}-geforce"


def attained_fraction(gpu: Gpu, kind: str) -> float:
    """Measured fraction of the data-sheet rate for ``kind`` ("matmul-16", "matmul-8", "stream").

    Of this GPU where measured, else the median of its generation and market, of the nearest market (workstation
    and data-centre cards share power limits), of its chip, of all GPUs. Products in 8 bits lose, where not
    measured, what 16-bit ones lose to power and a little more to the conversion around them.
    """
    table = document()["attainable"].get(kind, {})
    group = generation(gpu)
    chip, market = group.split("-", 1)
    sibling = {"workstation": "card", "card": "workstation"}.get(market, market)
    keys = [gpu.id, group, f"{chip}-{sibling}", chip, "all"]
    for key in keys if kind != "matmul-8" else keys[:4]:
        fraction = table.get(key, {}).get("fraction")
        if fraction and (kind != "stream" or fraction >= _PLAUSIBLE_STREAM):
            return float(fraction)
    if kind == "matmul-8":
        return attained_fraction(gpu, "matmul-16") * constant("attainable.matmul-8")
    return constant(f"attainable.{kind}")


def peak_flops_per_s(gpu: Gpu, dtype: FlopsDtype) -> float:
    """Dense peak of the format a kernel of this dtype would use; 0 where none is known."""
    known = [gpu.dense_flops_per_s.get(name) for name in _NARROWER[dtype]]
    found = float(next((rate for rate in known if rate), 0))
    if dtype == "fp16":  # Pascal's fp16 units are too few to be used: libraries compute in fp32
        found = max(found, float(gpu.dense_flops_per_s.get("fp32") or 0))
    return found


def device_of(gpu: Gpu) -> Device:
    """Attained rates of ``gpu``. Raises UnsupportedError where bandwidth or 16-bit rate are unknown."""
    return _device(gpu) if is_overridden() else _kept_device(gpu)


@cache
def _kept_device(gpu: Gpu) -> Device:
    return _device(gpu)


def _device(gpu: Gpu) -> Device:
    peak_16bit = max(peak_flops_per_s(gpu, "bf16") if gpu.supports_bf16 else 0.0, peak_flops_per_s(gpu, "fp16"))
    rate_known = bool(peak_flops_per_s(gpu, "bf16") if gpu.supports_bf16 else peak_16bit)
    if not rate_known or not gpu.bandwidth_bytes_per_s:
        missing = "memory bandwidth" if rate_known else "16-bit rate"
        raise UnsupportedError(f"the {missing} of {gpu.name} is not known, so its speed is not predicted")
    rates = {"fp16_acc16_flops_per_s": 0.0}
    for dtype in MATMUL_DTYPES:
        kind = "matmul-16" if dtype in ("fp16", "bf16", "fp32") else "matmul-8"
        rates[f"{dtype}_flops_per_s"] = peak_flops_per_s(gpu, dtype) * attained_fraction(gpu, kind)
    if not gpu.supports_bf16:
        rates["bf16_flops_per_s"] = peak_flops_per_s(gpu, "fp16") * constant("bf16_emulation")
    half = peak_flops_per_s(gpu, "fp16")
    doubled = max(float(gpu.dense_flops_per_s.get("fp16_acc16") or 0), half)
    rates["fp16_acc16_flops_per_s"] = doubled * attained_fraction(gpu, "matmul-16")
    link = gpu.interconnect
    lanes = link.pcie_lanes or 16
    pcie = lanes * _PCIE_BYTES_PER_S_PER_LANE.get(float(link.pcie_generation or 4), 1.969e9)
    module = generation(gpu).endswith("-module")
    nvlink = link.nvlink_bytes_per_s if module else None  # a card's bridge is optional and joins two cards only
    group = generation(gpu).split("-")[0]
    return Device(
        **rates,
        peak_16bit_flops_per_s=peak_16bit,
        attention_fraction=constant(f"attention.flash.{group}", "attention.flash"),
        fused_attention_fraction=constant(f"attention.fused.{group}", "attention.fused"),
        sustained_16bit_fraction=constant(f"sustained.16.{group}", "sustained.16"),
        sm_cycles_per_s=float(gpu.dense_flops_per_s.get("fp32") or peak_16bit / 16) / (2 * _fp32_lanes(gpu)),
        bandwidth_bytes_per_s=gpu.bandwidth_bytes_per_s * attained_fraction(gpu, "stream"),
        link_bytes_per_s=(
            nvlink / 2 * constant("link.nvlink_fraction") if nvlink else pcie * constant("link.pcie_peer_fraction")
        ),
        network_bytes_per_s=constant(f"network.{generation(gpu)}", "network.other") * constant("network.fraction"),
        host_link_bytes_per_s=pcie * constant("link.pcie_host_fraction"),
        gpus_per_node=constant(f"gpus_per_node.{gpu.id}", "gpus_per_node"),
        has_nvlink=float(nvlink is not None),
    )


def _fp32_lanes(gpu: Gpu) -> int:
    """fp32 units of one multiprocessor: https://docs.nvidia.com/cuda/cuda-c-programming-guide/ (arithmetic)."""
    return 64 if gpu.compute_capability in {(6, 0), (7, 0), (7, 5), (8, 0)} else 128


def stack(devices: Sequence[Device]) -> Device:
    """One device whose fields are arrays of shape (len(devices), 1)."""
    import numpy

    columns: dict[str, Any] = {
        item.name: numpy.array([getattr(device, item.name) for device in devices], dtype=float)[:, None]
        for item in fields(Device)
    }
    return Device(**columns)
