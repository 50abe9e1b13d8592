"""Programs on fake tensors: shapes, dtypes and lifetimes are real, data is not, memory is not used.

Uses the CPU device throughout: fake CUDA tensors need a CUDA build, and meta tensors fail where programs read
values or use autocast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

TESTED_TORCH = ("2.13",)
"""Releases whose allocator, policy and dispatch the suite was run against."""


@contextmanager
def fake_tensors() -> Iterator[FakeTensorMode]:
    """Every tensor made inside is fake, and modules can be moved and cast."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, _replaceable_parameters():
        yield mode


@contextmanager
def _replaceable_parameters() -> Iterator[None]:
    """``nn.Module.to`` swaps tensors in place, which fails for fake ones: replace the parameters."""
    original = torch.nn.Module._apply

    def apply(self: torch.nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        if recurse:
            for child in self.children():
                child._apply(fn)  # type: ignore[no-untyped-call]
        for name, parameter in self._parameters.items():
            if parameter is None:
                continue
            with torch.no_grad():
                converted = fn(parameter)
            if converted is not parameter:
                self._parameters[name] = torch.nn.Parameter(converted, parameter.requires_grad)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    torch.nn.Module._apply = apply  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module._apply = original  # type: ignore[method-assign]


def untested_torch_warning() -> str | None:
    """A line naming the installed torch where it lies outside the tested range."""
    version = torch.__version__.split("+")[0]
    if any(version.startswith(f"{tested}.") for tested in TESTED_TORCH):
        return None
    return f"traces are tested with torch {', '.join(TESTED_TORCH)}; this is {version}, whose kernels may differ"
