"""4-bit and 8-bit models of bitsandbytes on fake tensors: the library's modules over hand-placed weights.

``Params4bit`` and ``Int8Params`` cannot hold fake tensors, so plain parameters of the packed size carry the
attributes the library reads; every operator that runs is bitsandbytes' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from validate.trace.fake import replaced

BLOCK_SIZE = 64
FOUR_BIT = ("nf4", "nf4-dq", "fp4", "fp4-dq")
FORMATS = (*FOUR_BIT, "int8")


def quantise(
    model: Any, weight_format: str, compute_dtype: torch.dtype, *, storage: torch.dtype = torch.uint8
) -> None:
    """Replace the matrices that transformers' ``BitsAndBytesConfig`` replaces, in the order it visits them.

    ``storage`` is the dtype that packed 4-bit weights are kept as (``bnb_4bit_quant_storage``).
    """
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.quantizers.quantizers_utils import should_convert_module

    keep = [*get_keys_to_not_convert(model), *(model._keep_in_fp32_modules or ())]
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and should_convert_module(name, keep):
            made = (
                _int8(module)
                if weight_format == "int8"
                else _four_bit(module, weight_format, compute_dtype, storage)
            )
            made.requires_grad_(False)
            model.set_submodule(name, made)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.hf_quantizer = _quantizer(weight_format)
    model.is_loaded_in_4bit = weight_format != "int8"
    model.is_loaded_in_8bit = weight_format == "int8"
    model.is_quantized = True


@contextmanager
def sharded_weights() -> Iterator[None]:
    """Weights that FSDP2 gathered get the state their module keeps; bitsandbytes would wrap them in its class."""
    from bitsandbytes.nn import modules

    def fix(module: Any) -> None:
        module.weight.quant_state = module.quant_state

    with replaced((modules, "fix_4bit_weight_quant_state_from_module", fix)):
        yield


def _quantizer(weight_format: str) -> Any:
    """What transformers leaves on a model it has quantised; trainers ask it whether the model can be trained."""
    from transformers import BitsAndBytesConfig
    from transformers.quantizers.auto import AutoHfQuantizer

    asked = BitsAndBytesConfig(
        load_in_8bit=weight_format == "int8",
        load_in_4bit=weight_format != "int8",
        bnb_4bit_quant_type=weight_format.removesuffix("-dq") if weight_format != "int8" else "nf4",
        bnb_4bit_use_double_quant=weight_format.endswith("-dq"),
    )
    return AutoHfQuantizer.from_config(asked, pre_quantized=False)


def state_tensors_of(parameter: torch.Tensor) -> list[torch.Tensor]:
    """Scales and code books that belong to a weight without being parameters or buffers."""
    scales = getattr(parameter, "SCB", None)
    return _tensors_of(getattr(parameter, "quant_state", None)) + ([] if scales is None else [scales])


def _tensors_of(state: Any) -> list[torch.Tensor]:
    if state is None:
        return []
    own = [tensor for tensor in (state.absmax, state.code, state.offset) if isinstance(tensor, torch.Tensor)]
    return own + _tensors_of(state.state2)


def _module(kind: Any, source: nn.Linear) -> Any:
    """A bitsandbytes module without its constructor, which would wrap the weight in its parameter class."""
    module: Any = kind.__new__(kind)
    nn.Module.__init__(module)
    module.in_features, module.out_features = source.in_features, source.out_features
    module.bias = source.bias
    return module


def _four_bit(
    source: nn.Linear, weight_format: str, compute_dtype: torch.dtype, storage: torch.dtype
) -> nn.Module:
    import bitsandbytes as bnb
    from bitsandbytes.functional import quantize_4bit

    quant_type, double = weight_format.removesuffix("-dq"), weight_format.endswith("-dq")
    packed, state = quantize_4bit(
        source.weight.detach(), blocksize=BLOCK_SIZE, compress_statistics=double, quant_type=quant_type,
        quant_storage=storage,
    )  # fmt: skip
    weight: Any = nn.Parameter(packed, requires_grad=False)
    weight.quant_state, weight.quant_type, weight.compress_statistics = state, quant_type, double
    weight.quant_storage, weight.bnb_quantized, weight.blocksize = storage, True, BLOCK_SIZE
    module = _module(bnb.nn.Linear4bit, source)
    module.weight = weight
    module.compute_dtype, module.compute_type_is_set = compute_dtype, True
    module.quant_state, module.quant_storage = state, storage
    module.support_avx512bf16_for_cpu = False
    return module  # type: ignore[no-any-return]


def _int8(source: nn.Linear) -> nn.Module:
    import bitsandbytes as bnb

    weight: Any = nn.Parameter(torch.empty_like(source.weight, dtype=torch.int8), requires_grad=False)
    weight.CB, weight.SCB = weight.data, torch.empty(source.out_features, dtype=torch.float32)
    weight.has_fp16_weights = False
    module = _module(bnb.nn.Linear8bitLt, source)
    module.weight = weight
    module.state = bnb.MatmulLtState()
    # With a threshold the columns of outliers are split off, and their number depends on data.
    module.state.threshold, module.state.has_fp16_weights = 0.0, False
    module.index = None
    return module  # type: ignore[no-any-return]
