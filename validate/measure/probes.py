"""Constants of this card and software, measured one by one: ``python -m validate.measure.probes REPORT [DEVICE]``.

Runs in a process of its own, because the first of them is what a process costs. What a CPU cannot show is left
out.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from planner.errors import UnsupportedError
from planner.units import GIB, KIB, MIB

ALLOCATOR_SIZES = (
    1, 512, 513, 100 * KIB, MIB - 512, MIB, MIB + 1, 3 * MIB, 5 * MIB, 10 * MIB - 1, 10 * MIB, 11 * MIB, 19 * MIB,
    21 * MIB, 100 * MIB + 1,
)  # fmt: skip
"""Requests around every threshold of the caching allocator."""
HEAD_DIMS = (64, 80, 128, 256)
_TIMED_S = 0.5


def main(report_path: str, device: str = "cuda") -> int:
    """Write one JSON object; every probe that fails leaves its reason in its place."""
    report: dict[str, Any] = {}
    for name, probe in _probes(device):
        try:
            report[name] = probe()
        except Exception as error:
            report[name] = {"failed": f"{type(error).__name__}: {error}"}
        Path(report_path).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _probes(device: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    if device == "cuda":
        yield "context_bytes", context_bytes
        yield "cublas_workspace_bytes", cublas_workspace_bytes
        yield "allocator", allocator_rules
        yield "nccl_bytes", nccl_bytes
        yield "dequantisation", lambda: dequantisation_bytes(device)
    yield "attention", lambda: attention_kernels(device)
    yield "flops_per_s", lambda: attainable_flops_per_s(device)
    yield "bandwidth_bytes_per_s", lambda: attainable_bandwidth(device)


def context_bytes() -> dict[str, int]:
    """Device bytes of a process before and after its first kernel and its first matrix product."""
    from validate.measure.environment import device_use

    before = device_use().used_bytes
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    with_context = device_use().used_bytes - before - torch.cuda.memory_reserved()
    square = torch.ones(256, 256, device="cuda", dtype=torch.bfloat16)
    (square @ square).sum().item()
    with_libraries = device_use().used_bytes - before - torch.cuda.memory_reserved()
    return {"context": with_context, "with_libraries": with_libraries}


def cublas_workspace_bytes() -> dict[str, int]:
    """What the first product of each dtype leaves allocated, on the default and on another stream."""
    found = {}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for stream in (torch.cuda.default_stream(), torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            torch._C._cuda_clearCublasWorkspaces()
            torch.cuda.synchronize()
            with torch.cuda.stream(stream):
                left = torch.ones(512, 512, device="cuda", dtype=dtype)
                before = torch.cuda.memory_allocated()
                product = left @ left
                torch.cuda.synchronize()
                kind = "default" if stream == torch.cuda.default_stream() else "other"
                found[f"{dtype} {kind}"] = torch.cuda.memory_allocated() - before - product.nbytes
    return found


def allocator_rules() -> list[dict[str, int]]:
    """For requests of many sizes: the block handed out and the segment taken from the driver."""
    rows = []
    for size in ALLOCATOR_SIZES:
        torch.cuda.empty_cache()
        allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        block = torch.empty(size, dtype=torch.uint8, device="cuda")
        rows.append(
            {
                "requested_bytes": size, "block_bytes": torch.cuda.memory_allocated() - allocated,
                "segment_bytes": torch.cuda.memory_reserved() - reserved,
            }
        )  # fmt: skip
        del block
    return rows


def nccl_bytes() -> dict[str, int]:
    """Device bytes outside the allocator that a communicator over all GPUs takes, and its first ``all_reduce``.

    A single GPU gets a communicator of one rank. Raises UnsupportedError where torch has no NCCL.
    """
    if not dist.is_nccl_available():
        raise UnsupportedError("torch was built without NCCL", hint=None)
    from torch.multiprocessing.spawn import spawn

    num_ranks = torch.cuda.device_count()
    with tempfile.TemporaryDirectory(prefix="plan-nccl-") as folder:
        spawn(_nccl_rank, args=(num_ranks, folder), nprocs=num_ranks)  # type: ignore[no-untyped-call]
        found: dict[str, int] = json.loads(Path(folder, "rank-0").read_text(encoding="utf-8"))
        return found


def _nccl_rank(rank: int, num_ranks: int, folder: str) -> None:
    """One rank of the communicator; writes what was taken on its device."""
    from validate.measure.environment import device_use

    def outside() -> int:
        torch.cuda.synchronize()
        return device_use(rank).used_bytes - torch.cuda.memory_reserved()

    torch.cuda.set_device(rank)
    numbers = torch.ones(MIB, device="cuda")
    before = outside()
    dist.init_process_group(
        "nccl", init_method=f"file://{folder}/meeting", rank=rank, world_size=num_ranks,
        device_id=torch.device("cuda", rank),
    )  # fmt: skip
    after_init = outside()
    dist.all_reduce(numbers)
    found = {"ranks": num_ranks, "init": after_init - before, "all_reduce": outside() - after_init}
    Path(folder, f"rank-{rank}").write_text(json.dumps(found), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


class _AttentionSeen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Names of the attention operators that run inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "attention" in str(func) and "backward" not in str(func):
            self.names.append(str(func).removeprefix("aten."))
        return func(*args, **(kwargs or {}))


def attention_kernels(device: str) -> list[dict[str, Any]]:
    """The kernel ``scaled_dot_product_attention`` takes, by dtype, head size, mask and grouping."""
    rows = []
    for dtype in (torch.bfloat16, torch.float32):
        for head_dim in HEAD_DIMS:
            for masked in (False, True):
                for grouped in (False, True):
                    query = torch.randn(2, 8, 128, head_dim, dtype=dtype, device=device, requires_grad=True)
                    key = torch.randn(2, 2 if grouped else 8, 128, head_dim, dtype=dtype, device=device)
                    mask = torch.ones(2, 1, 128, 128, dtype=torch.bool, device=device) if masked else None
                    with _AttentionSeen() as seen:
                        torch.nn.functional.scaled_dot_product_attention(
                            query, key, key, attn_mask=mask, is_causal=not masked, enable_gqa=grouped
                        )
                    rows.append(
                        {
                            "dtype": str(dtype), "head_dim": head_dim, "mask": masked, "grouped": grouped,
                            "kernel": seen.names[0] if seen.names else "math",
                        }
                    )  # fmt: skip
    return rows


def dequantisation_bytes(device: str) -> list[dict[str, int]]:
    """Temporary memory of a 4-bit matrix product, forward and backward, beyond its inputs and outputs."""
    import bitsandbytes as bnb

    rows = []
    for in_features, out_features in ((2048, 2048), (4096, 11008), (11008, 4096)):
        linear = bnb.nn.Linear4bit(in_features, out_features, bias=False, compute_dtype=torch.bfloat16).to(device)
        inputs = torch.randn(64, in_features, dtype=torch.bfloat16, device=device, requires_grad=True)
        linear(inputs).sum().backward()
        inputs.grad = None
        torch.cuda.synchronize()
        start = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        output = linear(inputs)
        forward = torch.cuda.max_memory_allocated() - start - output.nbytes
        start = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        output.backward(torch.ones_like(output))
        backward = torch.cuda.max_memory_allocated() - start - output.nbytes - inputs.nbytes
        rows.append(
            {
                "in_features": in_features, "out_features": out_features,
                "matrix_bytes": in_features * out_features * 2,
                "forward_bytes": forward, "backward_bytes": backward,
            }
        )  # fmt: skip
    return rows


def attainable_flops_per_s(device: str) -> dict[str, float]:
    """The rate of large square matrix products, by dtype."""
    size = 8192 if device == "cuda" else 512
    rates = {}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        with suppress(RuntimeError):
            left = torch.randn(size, size, dtype=dtype, device=device)
            rates[str(dtype)] = 2 * size**3 * _repeats_per_s(device, lambda left=left: left @ left)  # type: ignore[misc]
    return rates


def attainable_bandwidth(device: str) -> float:
    """Bytes read and written per second by a copy within the device."""
    size = min(4 * GIB, torch.cuda.mem_get_info()[0] // 4) if device == "cuda" else 64 * MIB
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size * _repeats_per_s(device, lambda: target.copy_(source))


def _repeats_per_s(device: str, work: Callable[[], object]) -> float:
    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    work()
    wait()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < _TIMED_S:
        work()
        wait()
        count += 1
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
