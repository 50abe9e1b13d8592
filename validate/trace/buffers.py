"""Where the sizes of the buffers come from that no operator shows. Free of torch, so that saved traces explain."""

from __future__ import annotations

from planner.citation import Citation

WORKSPACE = "workspace"
"""Category of these buffers in an event log."""
_CUBLAS = Citation(
    title="PyTorch CublasHandlePool: parseChosenWorkspaceSize, parseCUDABlasLtWorkspaceSize",
    url="https://github.com/pytorch/pytorch/blob/v2.13.0/aten/src/ATen/cuda/CublasHandlePool.cpp",
)
_EMBEDDING = Citation(
    title="PyTorch embedding_dense_backward_cuda",
    url="https://github.com/pytorch/pytorch/blob/v2.13.0/aten/src/ATen/native/cuda/Embedding.cu",
)
_FLASH = Citation(
    title="PyTorch mha_bwd: dq_accum, softmax_d and expanded key and value gradients",
    url="https://github.com/pytorch/pytorch/blob/v2.13.0/aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp",
)
_EFFICIENT = Citation(
    title="PyTorch _efficient_attention_backward: delta and the fp32 accumulator of the query gradient",
    url="https://github.com/pytorch/pytorch/blob/v2.13.0/aten/src/ATen/native/transformers/cuda/attention_backward.cu",
)
_FOUR_BIT = Citation(
    title="bitsandbytes gemm_4bit: custom kernel for few rows, else dequantise and F.linear",
    url="https://github.com/bitsandbytes-foundation/bitsandbytes/blob/0.50.2/bitsandbytes/backends/cuda/ops.py",
)
_SOURCES = (
    ("cuBLAS", _CUBLAS), ("embedding_dense_backward", _EMBEDDING), ("flash_attention_backward", _FLASH),
    ("efficient_attention_backward", _EFFICIENT), ("gemm_4bit", _FOUR_BIT),
)  # fmt: skip


def buffer_source(op: str) -> Citation:
    """The source behind a buffer of the operator, or the library workspace, named ``op``."""
    return next((source for part, source in _SOURCES if part in op), _CUBLAS)
