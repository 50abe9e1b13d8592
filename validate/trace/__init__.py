"""The trace tier: a real step on fake tensors, replayed through PyTorch's allocator, without a GPU."""

from validate.trace.run import TraceResult, trace

__all__ = ["TraceResult", "trace"]
