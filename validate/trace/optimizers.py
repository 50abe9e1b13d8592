"""The optimizer of a request over the trainable parameters, as torch, bitsandbytes or transformers make it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from planner.errors import EnvironmentProblemError, UnsupportedError

PAGED_FROM_ELEMENTS = 100_000
"""bitsandbytes keeps smaller states on the device even in a paged optimizer."""
_LR = 1e-4
Parameters = list[torch.nn.Parameter]


def build_optimizer(model: torch.nn.Module, name: str) -> torch.optim.Optimizer:
    """The optimizer ``name`` of a request, with the implementation a GPU would get."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    make = _MAKERS.get(name)
    if make is None:
        raise UnsupportedError(f"the optimizer {name} cannot be traced", hint="the analytic tier covers it")
    return make(parameters)


def _bitsandbytes(kind: str, **options: Any) -> Callable[[Parameters], torch.optim.Optimizer]:
    def make(parameters: Parameters) -> torch.optim.Optimizer:
        try:
            import bitsandbytes
        except ImportError:
            raise EnvironmentProblemError(
                f"{kind} needs bitsandbytes", hint="pip install 'gpu-planner[validate]'"
            ) from None
        optimizer: torch.optim.Optimizer = getattr(bitsandbytes.optim, kind)(parameters, lr=_LR, **options)
        return optimizer

    return make


def _adafactor(parameters: Parameters) -> torch.optim.Optimizer:
    from transformers.optimization import Adafactor

    optimizer: torch.optim.Optimizer = Adafactor(
        parameters, lr=_LR, scale_parameter=False, relative_step=False
    )  # as Trainer sets it up
    return optimizer


_MAKERS: dict[str, Callable[[Parameters], torch.optim.Optimizer]] = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=_LR, foreach=True),
    "adamw-fused": lambda parameters: torch.optim.AdamW(parameters, lr=_LR, fused=True),
    "adamw-forloop": lambda parameters: torch.optim.AdamW(parameters, lr=_LR, foreach=False),
    "adamw-8bit": _bitsandbytes("AdamW8bit"),
    "paged-adamw": _bitsandbytes("PagedAdamW"),
    "paged-adamw-8bit": _bitsandbytes("PagedAdamW8bit"),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=_LR, foreach=True),
    "sgd-momentum": lambda parameters: torch.optim.SGD(parameters, lr=_LR, momentum=0.9, foreach=True),
    "adafactor": _adafactor,
    "lion": _bitsandbytes("Lion"),
    "lion-8bit": _bitsandbytes("Lion8bit"),
    "paged-lion-8bit": _bitsandbytes("PagedLion8bit"),
    "muon": lambda parameters: torch.optim.Muon([p for p in parameters if p.ndim == 2], lr=_LR),
}


def as_on_cuda(optimizer: torch.optim.Optimizer) -> None:
    """Give torch's optimizers the foreach implementation they choose by themselves on a GPU."""
    for group in optimizer.param_groups:
        if "foreach" in group and group["foreach"] is None and not group.get("fused"):
            group["foreach"] = True


def state_tensors(optimizer: torch.optim.Optimizer) -> Iterable[tuple[torch.Tensor, bool]]:
    """Tensors of the optimizer's state, and whether a CUDA run keeps them outside the caching allocator.

    Step counters stay on the host unless capturable or fused; paged states live in managed memory.
    """
    paged = bool(getattr(optimizer, "is_paged", False))
    for group in optimizer.param_groups:
        on_device = group.get("capturable") or group.get("fused")
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    counter = name == "step" and not on_device
                    is_paged = paged and name in ("state1", "state2") and value.numel() >= PAGED_FROM_ELEMENTS
                    yield value, bool(counter or is_paged)
