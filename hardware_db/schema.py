"""The data files as pydantic models: what a row must hold. Used by the tests and by ``hardware_db.live``."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Vendor = Literal["NVIDIA", "AMD", "Intel", "Apple", "Google", "AWS"]
Dtype = Literal["fp32", "tf32", "fp16", "fp16_acc16", "bf16", "fp8", "int8", "fp4"]
FactGroup = Literal[
    "spec", "tensor", "memory_bytes", "nvlink", "supports_bf16",
    "architecture", "compute_capability", "release", "memory_gb", "memory_type",
    "bandwidth_bytes_per_s", "fp32", "pcie", "tdp_w", "form_factor",
]  # fmt: skip
Fact = FactGroup | Dtype
SourceIndexes = Annotated[list[int], Field(min_length=1)]
Positive = Annotated[int, Field(gt=0)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BuyPriceRow(Strict):
    low_usd: Annotated[str, Field(pattern=r"^\d+(\.\d+)?$")]
    high_usd: Annotated[str, Field(pattern=r"^\d+(\.\d+)?$")]
    date: Annotated[str, Field(min_length=4)]
    condition: Annotated[str, Field(min_length=3)]
    unit: Literal["card", "unclear"]
    source: SourceIndexes

    @model_validator(mode="after")
    def _ordered(self) -> BuyPriceRow:
        if not 0 < Decimal(self.low_usd) <= Decimal(self.high_usd):
            raise ValueError("low_usd is above high_usd or zero")
        return self


class GpuRow(Strict):
    """One line of ``gpus.json``; absent means unknown (or, for NVLink, not there)."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    name: Annotated[str, Field(min_length=2)]
    aliases: list[str] = []
    vendor: Vendor
    architecture: str | None = None
    compute_capability: tuple[int, int] | None = Field(default=None, strict=False)
    is_cuda: bool
    release: Annotated[str, Field(pattern=r"^20\d\d-(0[1-9]|1[0-2])$")] | None = None
    memory_gb: Annotated[float, Field(gt=0, le=1024, strict=False)]
    memory_bytes: Positive
    memory_bytes_derived: bool = False
    memory_type: str | None = None
    bandwidth_bytes_per_s: Positive | None = None
    dense_flops_per_s: dict[Dtype, Positive]
    supports_bf16: bool | None = None
    nvlink_bytes_per_s: Positive | None = None
    pcie_generation: float | None = None
    pcie_lanes: Literal[1, 4, 8, 16] | None = None
    tdp_w: Positive | None = None
    form_factor: str | None = None
    buy_prices: list[BuyPriceRow] = []
    sources: dict[Fact, SourceIndexes]
    unverified: list[Fact] = []
    notes: str = ""


class GpuFile(Strict):
    """``gpus.json``: rows refer by index to ``sources``, each a title and, where one is known, an address."""

    sources: list[Annotated[list[Annotated[str, Field(min_length=3)]], Field(min_length=1, max_length=2)]]
    gpus: list[GpuRow]

    @model_validator(mode="after")
    def _sources_exist(self) -> GpuFile:
        count = len(self.sources)
        for gpu in self.gpus:
            used = [*gpu.sources.values(), *(price.source for price in gpu.buy_prices)]
            if any(not 0 <= index < count for indexes in used for index in indexes):
                raise ValueError(f"{gpu.id} names a source that is not in the table")
        return self
