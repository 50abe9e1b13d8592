"""What the policy says a GPU does, held against the library's own rules and shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from planner.units import MIB
from validate.trace.attention import attention, choose
from validate.trace.cuda_policy import CudaPolicy, cuda_kernels
from validate.trace.events import EventLog, Kind
from validate.trace.fake import fake_tensors
from validate.trace.tracer import Tracer

A100, H100, T4, L40S = (8, 0), (9, 0), (7, 5), (8, 9)


def qkv(
    dtype: torch.dtype, *, heads: int = 8, kv_heads: int = 8, length: int = 100, dim: int = 64
) -> list[torch.Tensor]:
    return [
        torch.empty(2, count, length, dim, dtype=dtype, requires_grad=True)
        for count in (heads, kv_heads, kv_heads)
    ]


@pytest.mark.parametrize(
    ("device", "dtype", "masked", "dim", "kernel"),
    [
        (A100, torch.bfloat16, False, 64, "flash"),
        (A100, torch.bfloat16, True, 64, "efficient"),
        (A100, torch.float16, False, 256, "flash"),
        (A100, torch.float16, False, 288, "efficient"),
        (A100, torch.float32, False, 64, "efficient"),
        (A100, torch.float32, False, 66, "math"),
        (H100, torch.bfloat16, False, 128, "cudnn"),
        (H100, torch.bfloat16, False, 192, "flash"),
        (H100, torch.bfloat16, True, 128, "efficient"),
        (T4, torch.float16, False, 64, "efficient"),
        (T4, torch.bfloat16, False, 64, "math"),
    ],
)
def test_kernel_by_device_dtype_mask_and_head(
    device: tuple[int, int], dtype: torch.dtype, masked: bool, dim: int, kernel: str
) -> None:
    with fake_tensors():
        assert choose(device, *qkv(dtype, dim=dim), masked=masked, is_causal=not masked) == kernel


def test_grouped_heads_are_shared_by_flash_alone() -> None:
    with fake_tensors():
        grouped = qkv(torch.bfloat16, kv_heads=2)
        assert choose(A100, *grouped, masked=False, is_causal=True) == "flash"
        assert choose(A100, *grouped, masked=True, is_causal=False) == "math"


def allocations(policy: CudaPolicy | None, run: Any) -> EventLog:
    with fake_tensors():
        tracer = Tracer(policy)
        with tracer:
            run(tracer)
    return tracer.log


def sizes_of(log: EventLog, op: str) -> list[int]:
    return [size for kind, size, name, _ in log.rows if kind is Kind.ALLOC and op in log.names[name]]


def test_a_mask_is_widened_to_eight_elements_and_kept_per_call() -> None:
    def run(tracer: Tracer) -> None:
        mask = torch.ones(2, 1, 100, 100, dtype=torch.bool)
        attention(A100, *qkv(torch.bfloat16), attn_mask=mask)

    log = allocations(None, run)
    assert sizes_of(log, "where") == [2 * 100 * 100 * 2]
    assert sizes_of(log, "constant_pad_nd") == [2 * 100 * 104 * 2]


def test_flash_keeps_its_output_and_one_float_per_row() -> None:
    log = allocations(None, lambda tracer: attention(A100, *qkv(torch.bfloat16), is_causal=True))
    output, lse, *rest = sizes_of(log, "flash_attention")
    assert (output, lse) == (2 * 8 * 100 * 64 * 2, 2 * 8 * 100 * 4)
    assert sum(rest) < 512


def test_flash_backward_accumulates_queries_in_fp32() -> None:
    def run(tracer: Tracer) -> None:
        out = attention(A100, *qkv(torch.bfloat16, kv_heads=2), is_causal=True)
        tracer.phase("backward")
        out.sum().backward()

    log = allocations(CudaPolicy(A100), run)
    scratch = [
        size
        for number, size in enumerate(size for kind, size, *_ in log.rows if kind is Kind.ALLOC)
        if log.category_of(number) == "workspace"
    ]
    assert 2 * 8 * 128 * 64 * 4 in scratch  # dq accumulator, 100 rows rounded to 128
    assert scratch.count(2 * 100 * 8 * 64 * 2) == 2  # dk and dv for every query head


@pytest.mark.parametrize(("device", "workspace"), [(A100, 8320 * 1024), (L40S, 8320 * 1024), (H100, 32 * MIB)])
def test_each_thread_holds_one_cublas_workspace(device: tuple[int, int], workspace: int) -> None:
    def run(tracer: Tracer) -> None:
        weight = torch.empty(8, 8, requires_grad=True)
        for _ in range(2):
            tracer.phase("forward")
            out = torch.empty(4, 8) @ weight
            tracer.phase("backward")
            out.sum().backward()

    log = allocations(CudaPolicy(device), run)
    assert sizes_of(log, "cuBLAS workspace") == [workspace, workspace]


def test_fused_dropout_keeps_a_byte_per_element() -> None:
    def run(tracer: Tracer) -> None:
        with cuda_kernels(A100):
            torch.nn.functional.dropout(torch.empty(1000, dtype=torch.bfloat16), 0.1)

    assert sizes_of(allocations(None, run), "native_dropout") == [2000, 1000]


def test_autocast_normalises_in_fp32_as_cuda_does() -> None:
    def run(tracer: Tracer) -> None:
        with cuda_kernels(A100), torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = torch.empty(4, 8) @ torch.empty(8, 8)
            assert hidden.dtype is torch.bfloat16
            assert torch.nn.functional.layer_norm(hidden, (8,)).dtype is torch.float32
            assert torch.softmax(hidden, -1).dtype is torch.float32

    allocations(None, run)


def test_kernels_are_put_back() -> None:
    before = torch.nn.functional.scaled_dot_product_attention, torch.nn.Module._apply
    with fake_tensors(), cuda_kernels(None):
        assert torch.nn.functional.scaled_dot_product_attention is not before[0]
    assert (torch.nn.functional.scaled_dot_product_attention, torch.nn.Module._apply) == before
