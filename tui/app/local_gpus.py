"""The GPUs of this machine, through NVML: name, total and free memory as the driver reports them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hardware_db import catalog
from hardware_db.gpu import Gpu, Interconnect


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalGpu:
    """One GPU here. ``free_bytes`` is what other processes leave."""

    index: int
    name: str
    total_bytes: int
    free_bytes: int
    compute_capability: tuple[int, int] | None

    @property
    def id(self) -> str:
        return f"local-{self.index}"

    def as_catalogued(self) -> Gpu:
        """The catalogue's facts of this kind of GPU, with the memory that is really here."""
        try:
            known = catalog.find_gpu(self.name)
        except catalog.UnknownGpuError:
            known = _unknown(self)
        return replace(
            known, id=self.id, name=self.name, memory_bytes=self.total_bytes, memory_bytes_derived=False
        )


def _unknown(gpu: LocalGpu) -> Gpu:
    return Gpu(
        id=gpu.id, name=gpu.name, aliases=(), vendor="NVIDIA", architecture=None,
        compute_capability=gpu.compute_capability, is_cuda=True, release=None, memory_gb=0.0,
        memory_bytes=gpu.total_bytes, memory_bytes_derived=False, memory_type=None, bandwidth_bytes_per_s=None,
        dense_flops_per_s={}, supports_bf16=None,
        interconnect=Interconnect(nvlink_bytes_per_s=None, pcie_generation=None, pcie_lanes=None),
        tdp_w=None, form_factor=None, buy_prices=(), sources={}, unverified=frozenset(),
        notes="not in the catalogue; memory read from the driver",
    )  # fmt: skip


def local_gpus() -> tuple[LocalGpu, ...]:
    """Empty where there is no NVIDIA driver: a machine without a GPU is a normal machine."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_read(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _read(index: int) -> LocalGpu:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name = pynvml.nvmlDeviceGetName(handle)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return LocalGpu(
        index=index,
        name=name.decode() if isinstance(name, bytes) else name,
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        compute_capability=(int(major), int(minor)),
    )
