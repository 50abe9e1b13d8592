"""The GPUs of this machine, through NVML: name, total and free memory as the driver reports them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from hardware_db import catalog
from hardware_db.gpu import Gpu, Interconnect
from planner.units import GIB


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalGpus:
    """The GPUs here, and in words what is missing: a driver, a GPU, or what one of them does not tell."""

    gpus: tuple[LocalGpu, ...] = ()
    missing: str = ""

    @property
    def words(self) -> str:
        """One line: every GPU with its free and total memory, or why there is none."""
        found = [
            f"{gpu.name}, {gpu.free_bytes / GIB:,.1f} of {gpu.total_bytes / GIB:,.1f} GiB free"
            for gpu in self.gpus
        ]
        return " · ".join([*found, self.missing] if self.missing else found)


def local_gpus() -> LocalGpus:
    """What NVML tells. A machine without a driver or a GPU is a normal machine."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return LocalGpus(missing="no NVIDIA driver is installed")
    except pynvml.NVMLError as error:
        return LocalGpus(missing=f"the NVIDIA driver does not answer: {error}")
    try:
        read = [_read(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        return LocalGpus(missing=f"the NVIDIA driver does not answer: {error}")
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    missing = [why for why in read if isinstance(why, str)]
    return LocalGpus(
        gpus=tuple(gpu for gpu in read if isinstance(gpu, LocalGpu)),
        missing="; ".join(missing) if read else "the NVIDIA driver sees no GPU",
    )


def _read(index: int) -> LocalGpu | str:
    """One GPU, or why it is left out: without its memory nothing can be planned on it."""
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        name = pynvml.nvmlDeviceGetName(handle)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError as error:
        return f"GPU {index} does not tell its memory: {error}"
    try:
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        capability = (int(major), int(minor))
    except pynvml.NVMLError:
        capability = None
    return LocalGpu(
        index=index,
        name=name if isinstance(name, str) else name.decode(errors="replace"),
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        compute_capability=capability,
    )
