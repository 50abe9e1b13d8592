"""Programs on fake tensors: shapes, dtypes and lifetimes are real, data is not, memory is not used.

Uses the CPU device throughout: fake CUDA tensors need a CUDA build, and meta tensors fail where programs read
values or use autocast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.fx.immutable_collections import immutable_dict
from torch.utils import _foreach_utils

from planner.errors import UnsupportedError

TESTED_TORCH = ("2.13",)
"""Releases whose allocator, policy and dispatch the suite was run against."""


ITEM_PLACEHOLDER = 1
"""What ``.item()`` returns where its value would depend on data that does not exist."""


@contextmanager
def fake_tensors(*, full_masks: bool = False) -> Iterator[FakeTensorMode]:
    """Every tensor made inside is fake, and modules can be moved and cast.

    With ``full_masks`` what is picked by a mask is all there is, as in batches without padding.
    """
    # What torch does for many tensors at once (clipping) it does for fake ones too.
    many = [*_foreach_utils._foreach_supported_types, FakeTensor]
    with (
        _FakeTensors(full_masks) as mode,
        _replaceable_parameters(),
        replaced((_foreach_utils, "_foreach_supported_types", many)),
    ):
        yield mode


@contextmanager
def _replaceable_parameters() -> Iterator[None]:
    """``nn.Module.to`` swaps tensors in place, which fails for fake ones: replace the parameters."""

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

    with replaced((torch.nn.Module, "_apply", apply)):
        yield


@contextmanager
def replaced(*substitutes: tuple[Any, str, Any]) -> Iterator[None]:
    """Put substitutes in place of attributes (owner, name, substitute) for a while."""
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in substitutes]
    for owner, name, substitute in substitutes:
        setattr(owner, name, substitute)
    try:
        yield
    finally:
        for owner, name, original in reversed(originals):
            setattr(owner, name, original)


@contextmanager
def as_with_data(*, padded: bool) -> Iterator[None]:
    """transformers takes the paths of a real batch, not those it keeps for compilers when it meets a fake tensor.

    ``padded`` is what the batch would say: whether any of its padding masks hides a token.
    """
    try:
        from transformers import masking_utils
        from transformers.utils import import_utils
    except ImportError:
        yield
        return

    def all_true(mask: torch.Tensor) -> bool:
        _ = mask.sum() == mask.numel()
        return not padded

    ignore = getattr(masking_utils, "_ignore_bidirectional_mask_sdpa", None)

    def ignore_bidirectional(padding_mask: torch.Tensor | None, *args: Any, **kwargs: Any) -> bool:
        if padding_mask is not None and padded:
            padding_mask.all()
            return False
        return bool(ignore(padding_mask, *args, **kwargs)) if ignore else False

    wanted = (
        (import_utils, "is_fake_tensor", lambda _tensor: False),
        (masking_utils, "fast_all", all_true),
        (masking_utils, "_ignore_bidirectional_mask_sdpa", ignore_bidirectional),
    )
    with replaced(*(entry for entry in wanted if hasattr(entry[0], entry[1]))):
        yield


class _FakeTensors(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Answers ``.item()`` with a placeholder and names the operators that need data."""

    def __init__(self, full_masks: bool) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self._full_masks = full_masks
        self._depth = 0

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = immutable_dict()) -> Any:  # noqa: B008
        self._depth += 1
        try:
            return super().dispatch(func, types, args, kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            if self._depth > 1:
                raise  # the operator that was called is named, not one it is made of
            answer = self._without_data(func, args)
            if answer is None:
                raise refusal(func) from error
            return answer
        finally:
            self._depth -= 1

    def _without_data(self, func: Any, args: Any) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return float(ITEM_PLACEHOLDER) if args[0].dtype.is_floating_point else ITEM_PLACEHOLDER
        if self._full_masks and func is torch.ops.aten.index.Tensor:
            tensor, masks = args[0], args[1]
            if len(masks) == 1 and masks[0].dtype is torch.bool:
                with self:
                    return tensor.new_empty((masks[0].numel(), *tensor.shape[masks[0].dim() :]))
        return None


def refusal(func: Any) -> UnsupportedError:
    """An operator whose output shape depends on data that a trace does not have."""
    return UnsupportedError(
        f"the operator {func} needs real data, so this step cannot be traced without running it",
        hint="plan estimates it by formula; plan validate measures it on a GPU",
    )


def untested_torch_warning() -> str | None:
    """A line naming the installed torch where it lies outside the tested range."""
    version = torch.__version__.split("+")[0]
    if any(version.startswith(f"{tested}.") for tested in TESTED_TORCH):
        return None
    return f"traces are tested with torch {', '.join(TESTED_TORCH)}; this is {version}, whose kernels may differ"
