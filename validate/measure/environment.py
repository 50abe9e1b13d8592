"""Where a measurement was made: the card through NVML, the driver, and the libraries that decide memory."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from planner.errors import EnvironmentProblemError

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl", "deepspeed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Everything about a machine that a memory measurement depends on."""

    device: str
    """"cuda" or "cpu"."""
    gpu_name: str
    gpu_id: str | None
    """Id in the catalogue; None where the card is not in it. "cpu" without a GPU."""
    generation: str | None
    memory_bytes: int
    compute_capability: tuple[int, int] | None = None
    driver: str | None = None
    cuda: str | None = None
    allocator: str | None = None
    """``PYTORCH_ALLOC_CONF`` (``PYTORCH_CUDA_ALLOC_CONF`` before torch 2.9) of the run."""
    python: str
    platform: str
    libraries: tuple[tuple[str, str], ...]

    @property
    def fingerprint(self) -> str:
        """Equal for equal card, driver and libraries: sixteen hexadecimal digits."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def stack(self) -> str:
        """Key of the exact scope of calibration."""
        from planner.target import stack_key

        return stack_key(self.gpu_id or self.gpu_name, dict(self.libraries).get("torch"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    """Memory of a device as NVML sees it, in bytes."""

    total_bytes: int
    used_bytes: int
    processes: tuple[tuple[int, int], ...]
    """(pid, bytes) of each process on the device; bytes 0 where the driver does not tell."""

    @property
    def free_bytes(self) -> int:
        return self.total_bytes - self.used_bytes


@contextmanager
def nvml() -> Iterator[Any]:
    """The NVML library, initialised; raises EnvironmentProblemError where there is no NVIDIA driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise EnvironmentProblemError(
            "no NVIDIA GPU was found here",
            hint="plan trace runs the same step without one; plan validate --device cpu measures on the CPU",
        ) from error
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def libraries() -> tuple[tuple[str, str], ...]:
    """Installed versions of the libraries that decide memory, without importing them."""
    found = []
    for name in LIBRARIES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return tuple(found)


def missing_libraries() -> tuple[str, ...]:
    """Of what the extra ``validate`` brings, what is not installed."""
    present = dict(libraries())
    return tuple(name for name in ("torch", "transformers", "peft", "accelerate") if name not in present)


def detect(device: str, index: int = 0) -> Environment:
    """The environment of ``device`` ("cuda" or "cpu"); raises EnvironmentProblemError where it is not there."""
    common = {"python": platform.python_version(), "platform": platform.platform(), "libraries": libraries()}
    if device == "cpu":
        return Environment(
            device="cpu", gpu_name=platform.processor() or platform.machine(), gpu_id="cpu", generation=None,
            memory_bytes=_host_memory_bytes(), **common,  # type: ignore[arg-type]
        )  # fmt: skip
    with nvml() as library:
        handle = device_handle(library, index)
        name = str(library.nvmlDeviceGetName(handle))
        gpu_id, generation = _catalogue_entry(name)
        major, minor = library.nvmlDeviceGetCudaComputeCapability(handle)
        cuda = library.nvmlSystemGetCudaDriverVersion_v2()
        return Environment(
            device="cuda", gpu_name=name, gpu_id=gpu_id, generation=generation,
            memory_bytes=int(library.nvmlDeviceGetMemoryInfo(handle).total),
            compute_capability=(int(major), int(minor)), driver=str(library.nvmlSystemGetDriverVersion()),
            cuda=f"{cuda // 1000}.{cuda % 1000 // 10}",
            allocator=os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF"), **common,  # type: ignore[arg-type]
        )  # fmt: skip


def device_use(index: int = 0) -> DeviceUse:
    """What is used on a device now, and by whom."""
    with nvml() as library:
        handle = device_handle(library, index)
        memory = library.nvmlDeviceGetMemoryInfo(handle)
        processes = library.nvmlDeviceGetComputeRunningProcesses(handle)
        return DeviceUse(
            total_bytes=int(memory.total),
            used_bytes=int(memory.used),
            processes=tuple((int(one.pid), int(one.usedGpuMemory or 0)) for one in processes),
        )


def device_handle(library: Any, index: int) -> Any:
    """NVML's handle of CUDA device ``index``; NVML knows nothing of ``CUDA_VISIBLE_DEVICES``."""
    visible = [entry.strip() for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry.strip()]
    entry = visible[index] if index < len(visible) else str(index)
    if entry.isdigit():
        return library.nvmlDeviceGetHandleByIndex(int(entry))
    return library.nvmlDeviceGetHandleByUUID(entry)


def _catalogue_entry(name: str) -> tuple[str | None, str | None]:
    from hardware_db.catalog import UnknownGpuError, find_gpu

    try:
        gpu = find_gpu(name.removeprefix("NVIDIA "))
    except UnknownGpuError:
        return None, None
    return gpu.id, gpu.architecture


def _host_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
