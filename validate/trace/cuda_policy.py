"""What a CUDA device does where the CPU build of torch does something else. Version 2.13 of torch.

Two kinds of knowledge: kernels that the CPU build would not choose (attention, fused dropout, autocast's fp32
list), put in their place by ``cuda_kernels``; and buffers that no operator shows (library workspaces, scratch
memory of kernels), which ``CudaPolicy`` tells the tracer. ``validate.trace.buffers`` says where their sizes come
from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import torch

from planner.units import KIB, MIB
from validate.trace.attention import attention
from validate.trace.fake import replaced

VERSION = "torch-2.13"
AMPERE = (8, 0)
CUBLAS_WORKSPACE_BYTES = 2 * 4096 * KIB + 8 * 16 * KIB
"""``:4096:2:16:8``, per cuBLAS handle (one per thread) and stream."""
CUBLAS_WORKSPACE_HOPPER_BYTES = 32 * MIB
CUBLASLT_WORKSPACE_BYTES = 1 * MIB
EMBEDDING_WITHOUT_SORT = 3072
"""Up to so many indices the gradient of an embedding is added without sorting them."""
FOUR_BIT_WITHOUT_COPY = 64
"""Rows up to which the kernel without a dequantised copy is taken; the library's bound varies by GPU and shape."""

_aten = torch.ops.aten
_MATMULS = frozenset({_aten.mm.default, _aten.bmm.default, _aten.baddbmm.default, _aten.addmm.default})

AUTOCAST_FP32 = frozenset(
    {
        "acos", "asin", "cosh", "cumprod", "cumsum", "dist", "erfinv", "exp", "expm1", "group_norm", "layer_norm",
        "log", "log10", "log1p", "log2", "log_softmax", "logsumexp", "norm", "pow", "prod", "reciprocal", "rsqrt",
        "sinh", "softmax", "softmin", "softplus", "sum", "tan",
    }
)  # fmt: skip
"""What CUDA autocast runs in fp32 and CPU autocast does not (AT_FORALL_FP32, ATen/autocast_mode.h)."""


class CudaPolicy:
    """Buffers of one device that the traced operators do not show."""

    def __init__(self, compute_capability: tuple[int, int] | None) -> None:
        self.compute_capability = compute_capability or AMPERE
        hopper = self.compute_capability == (9, 0)
        self._cublas_bytes = CUBLAS_WORKSPACE_HOPPER_BYTES if hopper else CUBLAS_WORKSPACE_BYTES

    def persistent(self, func: Any, *, backward: bool) -> Sequence[tuple[str, int]]:
        """Workspaces of the cuBLAS handle of the calling thread; backward runs on a thread of its own."""
        if func not in _MATMULS:
            return ()
        thread = "backward" if backward else "forward"
        cublas = (f"cuBLAS workspace ({thread} thread)", self._cublas_bytes)
        if func is _aten.addmm.default:
            return (cublas, (f"cuBLASLt workspace ({thread} thread)", CUBLASLT_WORKSPACE_BYTES))
        return (cublas,)

    def temporaries(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Sequence[int]:
        """Scratch buffers of one kernel, in bytes."""
        scratch = _SCRATCH.get(func)
        if scratch is None and func.namespace == "bitsandbytes":
            scratch = _BITSANDBYTES_SCRATCH.get(func.name())
        return scratch(args) if scratch is not None else ()


def _embedding_backward(args: Sequence[Any]) -> Sequence[int]:
    num_indices = args[1].numel()
    if num_indices <= EMBEDDING_WITHOUT_SORT:
        return ()
    # Sorted indices, their origins, and as much again as alternate buffers of the radix sort.
    return (num_indices * 8,) * 4


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _flash_backward(args: Sequence[Any]) -> Sequence[int]:
    query, key = args[1], args[2]
    batch, heads, length, head_dim = query.shape
    rounded = _round_up(length, 128)
    scratch = [batch * heads * rounded * 4, batch * heads * rounded * _round_up(head_dim, 32) * 4]
    if key.shape[1] != heads:
        scratch += [batch * key.shape[2] * heads * head_dim * key.element_size()] * 2
    return scratch


def _efficient_backward(args: Sequence[Any]) -> Sequence[int]:
    query = args[1]
    batch, heads, length, head_dim = query.shape
    delta = batch * heads * _round_up(length, 32) * 4
    if query.dtype is torch.float32:
        return (delta,)
    return (delta, batch * heads * _round_up(length, 64) * head_dim * 4)


def _four_bit_matmul(args: Sequence[Any]) -> Sequence[int]:
    """The weight in the input's dtype, unless few enough rows are multiplied for the kernel without a copy."""
    inputs, (out_features, in_features) = args[0], args[2]
    num_rows = inputs.numel() // in_features
    if num_rows <= FOUR_BIT_WITHOUT_COPY:
        return ()
    return (out_features * in_features * inputs.element_size(),)


_BITSANDBYTES_SCRATCH = {"bitsandbytes::gemm_4bit": _four_bit_matmul}
_SCRATCH: dict[Any, Callable[[Sequence[Any]], Sequence[int]]] = {
    _aten.embedding_dense_backward.default: _embedding_backward,
    _aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    _aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
}


@contextmanager
def cuda_kernels(compute_capability: tuple[int, int] | None) -> Iterator[None]:
    """Calls inside take the kernels a CUDA device would run in place of those of the CPU build."""
    functional = torch.nn.functional
    substitutes: list[tuple[Any, str, Any]] = [
        (functional, "scaled_dot_product_attention", partial(attention, compute_capability or AMPERE)),
        (functional, "dropout", _dropout),
        (functional, "rms_norm", _rms_norm),
    ]
    for owner in (torch, torch.Tensor, functional):
        for name in AUTOCAST_FP32:
            original = getattr(owner, name, None)
            if callable(original):
                substitutes.append((owner, name, _in_fp32_under_autocast(original)))
    with replaced(*substitutes):
        yield


def _in_fp32_under_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            args = tuple(_to_fp32(arg) for arg in args)
        return function(*args, **kwargs)

    return call


def _to_fp32(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16):
        return value.float()
    return value


def _dropout(
    input: torch.Tensor,  # noqa: A002 - torch's own name
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> torch.Tensor:
    """The fused kernel keeps a mask of one byte per element; the CPU build keeps one of the input's dtype."""
    if not training or p == 0.0:
        return input
    if not 0.0 < p < 1.0 or inplace:
        return torch.dropout_(input, p, training) if inplace else torch.dropout(input, p, training)
    output: torch.Tensor = torch.native_dropout(input, p, training)[0]
    return output


def _rms_norm(
    input: torch.Tensor,  # noqa: A002 - torch's own name
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    eps: float | None = None,
) -> torch.Tensor:
    output: torch.Tensor = _aten._fused_rms_norm(input, list(normalized_shape), weight, eps)[0]
    return output
