"""One accelerator and the facts known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

FlopsDtype = Literal["fp32", "tf32", "fp16", "fp16_acc16", "bf16", "fp8", "int8", "fp4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interconnect:
    """Links of one GPU. ``nvlink_bytes_per_s`` is the bidirectional total a vendor quotes; None: no NVLink."""

    nvlink_bytes_per_s: int | None
    pcie_generation: float | None
    pcie_lanes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyPrice:
    """A dated price to buy one ``unit``."""

    low_usd: Decimal
    high_usd: Decimal
    date: str
    """As the source words it: a day, a month, a year or "undated"."""
    condition: str
    unit: Literal["card", "unclear"]
    """"unclear": one card or a whole system, the source does not say; never used in a calculation."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One accelerator. Unknown facts are None, never zero; ``sources`` says where each known fact is from."""

    id: str
    name: str
    aliases: tuple[str, ...]
    vendor: str
    architecture: str | None
    compute_capability: tuple[int, int] | None
    is_cuda: bool
    release: str | None
    """Year and month, ``YYYY-MM``."""
    memory_gb: float
    """The marketing size: a label, never an input to a formula."""
    memory_bytes: int
    """Total memory as the driver reports it (nvidia-smi ``memory.total``)."""
    memory_bytes_derived: bool
    """True where no driver reading is known and ``memory_bytes`` is inferred from the marketing size."""
    memory_type: str | None
    bandwidth_bytes_per_s: int | None
    dense_flops_per_s: Mapping[FlopsDtype, int] = field(hash=False)
    """Dense (never 2:4 sparse) peak rate per dtype at boost clock; fp16 accumulates in fp32."""
    supports_bf16: bool | None
    interconnect: Interconnect
    tdp_w: int | None
    form_factor: str | None
    buy_prices: tuple[BuyPrice, ...]
    sources: Mapping[str, str] = field(hash=False)
    """Source of each known fact, by field name; rates by dtype ("bf16"), links as "nvlink" and "pcie"."""
    unverified: frozenset[str]
    """Names, as in ``sources``, of facts that no source confirms."""
    notes: str
    """Doubts and disagreements between sources."""
