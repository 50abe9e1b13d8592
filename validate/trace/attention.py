"""Which scaled-dot-product kernel a CUDA device takes, and the tensors around its call."""

from __future__ import annotations

from typing import Any

import torch

MASK_ALIGNMENT = 8
HEAD_ALIGNMENT = 8
FLASH_HEAD_DIM = 256
CUDNN_HEAD_DIM = 128
CUDNN_PREFERRED = ((9, 0), (10, 0), (10, 3))
"""Devices on which cuDNN (9.15.1 and newer, shipped with CUDA 13 builds) comes first."""
_HALF = (torch.float16, torch.bfloat16)
_aten = torch.ops.aten


def choose(
    compute_capability: tuple[int, int],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    masked: bool,
    is_causal: bool,
) -> str:
    """ "cudnn", "flash", "efficient" or "math" for tensors of shape [batch, heads, length, head_dim].

    Source: ``priority_order``, ``use_flash_attention`` and ``use_mem_efficient_attention`` of
    https://github.com/pytorch/pytorch/blob/v2.13.0/aten/src/ATen/native/transformers/cuda/sdp_utils.cpp
    """
    half = query.dtype in _HALF
    supported = compute_capability >= (8, 0) or query.dtype is not torch.bfloat16
    if query.dim() != 4 or not supported or query.shape[-1] != key.shape[-1]:
        return "math"
    same_head_dim = query.shape[-1] == value.shape[-1]
    square = query.shape[-2] == key.shape[-2]
    if half and not masked and same_head_dim and compute_capability >= (8, 0):
        head_dim = query.shape[-1]
        if compute_capability in CUDNN_PREFERRED and head_dim <= CUDNN_HEAD_DIM and head_dim % 8 == 0:
            return "cudnn"
        if head_dim <= FLASH_HEAD_DIM and (square or not is_causal):
            return "flash"
    grouped = query.shape[1] != key.shape[1]
    alignment = HEAD_ALIGNMENT if half else 4
    aligned = query.shape[-1] % alignment == 0 and value.shape[-1] % alignment == 0
    return "efficient" if aligned and not grouped else "math"


def attention(
    compute_capability: tuple[int, int],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """``torch.nn.functional.scaled_dot_product_attention`` as a CUDA device runs it.

    Masks are converted and head sizes padded as in
    https://github.com/pytorch/pytorch/blob/v2.13.0/aten/src/ATen/native/transformers/attention.cpp
    """
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
        if attn_mask is not None and attn_mask.is_floating_point():
            attn_mask = attn_mask.to(dtype)
    kernel = choose(compute_capability, query, key, value, masked=attn_mask is not None, is_causal=is_causal)
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        attn_mask = torch.where(attn_mask, 0.0, torch.scalar_tensor(float("-inf"), dtype=query.dtype))
    needs_grad = any(tensor.requires_grad for tensor in (query, key, value)) and torch.is_grad_enabled()
    out: Any
    if kernel == "cudnn":
        out = _aten._scaled_dot_product_cudnn_attention(
            query, key, value, None, needs_grad, dropout_p, is_causal, scale=scale
        )
    elif kernel == "flash":
        head_dim = query.shape[-1]
        scale = head_dim**-0.5 if scale is None else scale
        padded = [_pad_last(tensor, HEAD_ALIGNMENT) for tensor in (query, key, value)]
        out = _aten._scaled_dot_product_flash_attention(*padded, dropout_p, is_causal, scale=scale)
        return out[0][..., :head_dim] if padded[0] is not query else out[0]  # type: ignore[no-any-return]
    elif kernel == "efficient":
        if attn_mask is not None:
            attn_mask = _aligned_mask(attn_mask).expand(*query.shape[:-1], key.shape[-2])
        out = _aten._scaled_dot_product_efficient_attention(
            query, key, value, attn_mask, needs_grad, dropout_p, is_causal, scale=scale
        )
    else:
        out = _aten._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    return out[0]  # type: ignore[no-any-return]


def _pad_last(tensor: torch.Tensor, alignment: int) -> torch.Tensor:
    rest = tensor.shape[-1] % alignment
    return torch.nn.functional.pad(tensor, (0, alignment - rest)) if rest else tensor


def _aligned_mask(mask: torch.Tensor) -> torch.Tensor:
    """The memory-efficient kernel reads rows of the mask at multiples of eight elements."""
    if mask.stride(-1) == 1 and all(mask.stride(axis) % MASK_ALIGNMENT == 0 for axis in range(mask.dim() - 1)):
        return mask
    length = mask.shape[-1]
    padded = torch.nn.functional.pad(mask, (0, MASK_ALIGNMENT - length % MASK_ALIGNMENT))
    return padded[..., :length]
