"""Facts the catalogue must hold, and the shape of its file."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest

from hardware_db import catalog
from hardware_db.gpu import Gpu
from hardware_db.schema import GpuFile
from planner.units import GIB, MIB

GPUS = catalog.all_gpus()
TERA = 10**12


def test_the_file_satisfies_its_schema() -> None:
    GpuFile.model_validate(json.loads((catalog.DATA / "gpus.json").read_text()))


def test_there_are_enough_and_each_once() -> None:
    assert len(GPUS) >= 170
    assert len({gpu.id for gpu in GPUS}) == len(GPUS)
    assert len({gpu.name for gpu in GPUS}) == len(GPUS)
    assert not [gpu for gpu in GPUS if "M4 Ultra" in gpu.name], "not a known product"


FOUNDING_LIST = [
    # name, GB, memory, TFLOPS FP32
    ("H200 SXM 141 GB", 141, "HBM3e", "67"),
    ("H100 SXM5 64 GB", 64, "HBM3", "66.91"),
    ("H100 SXM5 80 GB", 80, "HBM3", "66.91"),
    ("H100 SXM5 96 GB", 96, "HBM3", "62.08"),
    ("H100 PCIe 80 GB", 80, "HBM2e", "51.22"),
    ("H100 PCIe 96 GB", 96, "HBM3", "62.08"),
    ("H100 CNX", 80, "HBM2e", "53.84"),
    ("H800 SXM5", 80, "HBM3", "59.3"),
    ("H800 PCIe 80 GB", 80, "HBM2e", "51.22"),
    ("A100 PCIe 40 GB", 40, "HBM2", "19.49"),
    ("A100 PCIe 80 GB", 80, "HBM2e", "19.49"),
    ("A100 SXM4 40 GB", 40, "HBM2", "19.49"),
    ("A100 SXM4 80 GB", 80, "HBM2e", "19.49"),
    ("A800 PCIe 40 GB", 40, "HBM2e", "19.49"),
    ("A800 PCIe 80 GB", 80, "HBM2e", "19.49"),
    ("A800 SXM4 80 GB", 80, "HBM2e", "19.49"),
]


@pytest.mark.parametrize(("name", "memory_gb", "memory_type", "tflops_fp32"), FOUNDING_LIST)
def test_the_founding_list(name: str, memory_gb: int, memory_type: str, tflops_fp32: str) -> None:
    gpu = catalog.find_gpu(name)
    assert gpu.memory_gb == memory_gb
    assert gpu.memory_type == memory_type
    assert gpu.dense_flops_per_s["fp32"] == int(Decimal(tflops_fp32) * TERA)
    for part in name.replace(" GB", "GB").split():
        assert part in (*gpu.name.split(), f"{memory_gb}GB")


def test_h200_release() -> None:
    assert catalog.find_gpu("H200 SXM").release == "2023-11"


@pytest.mark.parametrize(
    ("name", "low_usd", "high_usd"),
    [("H100 SXM5 80GB", 126_000, 126_000), ("A100 SXM4 80GB", 41_000, 52_609)],
)
def test_the_lectures_buying_prices_are_kept_and_marked(name: str, low_usd: int, high_usd: int) -> None:
    prices = [price for price in catalog.find_gpu(name).buy_prices if "lecture" in price.source]
    assert [(price.low_usd, price.high_usd, price.unit) for price in prices] == [(low_usd, high_usd, "unclear")]
    assert "unclear" in prices[0].condition


@pytest.mark.parametrize(
    ("name", "memory_mib"),
    [("A100 80GB", 81920), ("H100 80GB", 81559), ("Tesla T4", 15360), ("L40S", 46068), ("RTX 4090", 24564)],
)
def test_memory_is_what_the_driver_reports(name: str, memory_mib: int) -> None:
    gpu = catalog.find_gpu(name)
    assert gpu.memory_bytes == memory_mib * MIB
    assert not gpu.memory_bytes_derived


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.id)
def test_every_fact_has_a_source_and_is_plausible(gpu: Gpu) -> None:
    facts = {"memory_bytes", "memory_gb", *gpu.dense_flops_per_s}
    for field in ("architecture", "release", "memory_type", "bandwidth_bytes_per_s", "tdp_w", "form_factor"):
        if getattr(gpu, field) is not None:
            facts.add(field)
    if gpu.interconnect.nvlink_bytes_per_s:
        facts.add("nvlink")
    if gpu.supports_bf16 is not None:
        facts.add("supports_bf16")
    assert facts <= gpu.sources.keys()
    assert gpu.unverified <= gpu.sources.keys()
    assert 0.6 * gpu.memory_gb * GIB < gpu.memory_bytes <= gpu.memory_gb * GIB
    flops = gpu.dense_flops_per_s
    if "fp16" in flops and "bf16" in flops and gpu.vendor == "NVIDIA":
        assert flops["bf16"] == flops["fp16"]
    if gpu.is_cuda and gpu.compute_capability and "bf16" in flops:
        assert gpu.compute_capability >= (8, 0), "bf16 tensor rates begin with compute capability 8.0"
    if "fp8" in flops and gpu.vendor == "NVIDIA":
        assert (gpu.compute_capability or (0, 0)) >= (8, 9)


@pytest.mark.parametrize(
    ("name", "dtype", "dense_tflops", "sparse_tflops"),
    [
        ("H100 SXM5 80GB", "bf16", 989.5, 1979),
        ("H200 SXM", "tf32", 494.5, 989),
        ("A100 SXM4 80GB", "bf16", 312, 624),
        ("L4", "fp8", 242, 485),
        ("B200", "bf16", 2250, 4500),
    ],
)
def test_rates_are_dense(name: str, dtype: str, dense_tflops: float, sparse_tflops: float) -> None:
    rate = catalog.find_gpu(name).dense_flops_per_s[dtype]  # type: ignore[index]
    assert rate == pytest.approx(dense_tflops * TERA, rel=0.01)
    assert rate < 0.6 * sparse_tflops * TERA


def _memory_class(gpu: Gpu) -> str:
    kind = gpu.memory_type or ""
    return "HBM" if "HBM" in kind else "unified" if re.search("unified|LPDDR", kind) else "GDDR"


def _expected_derived_bytes(gpu: Gpu) -> int:
    """The rule of SOURCES.md: never promise memory that no comparable part was seen to report."""
    if gpu.vendor == "Apple":
        parts, of = (2, 3) if gpu.memory_gb <= 32 else (3, 4)
        return int(gpu.memory_gb) * GIB * parts // of // MIB * MIB
    read = [
        other
        for other in GPUS
        if not other.memory_bytes_derived
        and "memory_bytes" not in other.unverified
        and _memory_class(other) == _memory_class(gpu)
    ]
    same_vendor = [other for other in read if other.vendor == gpu.vendor]
    same_family = [other for other in same_vendor if other.architecture == gpu.architecture]
    group = same_family or same_vendor or read
    return int(gpu.memory_gb * min(other.memory_bytes / other.memory_gb for other in group)) // MIB * MIB


@pytest.mark.parametrize("gpu", [gpu for gpu in GPUS if gpu.memory_bytes_derived], ids=lambda gpu: gpu.id)
def test_derived_memory_follows_its_rule_and_says_so(gpu: Gpu) -> None:
    assert gpu.memory_bytes == pytest.approx(_expected_derived_bytes(gpu), abs=MIB)
    assert "derived" in gpu.sources["memory_bytes"]
