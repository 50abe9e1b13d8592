"""The real model of a run: from its config with random weights, quantised and adapted by the real libraries."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

from planner.errors import UnsupportedError
from planner.request import TrainingWorkload
from validate.measure.spec import RunSpec
from validate.trace.adapters import adapted

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ATTENTION = {"eager": "eager", "sdpa": None, "flash-attention-2": "flash_attention_2"}
"""sdpa is the default of ``transformers``; named, it is refused by the few models that only have eager."""
QUANTISED = ("nf4", "nf4-dq", "fp4", "fp4-dq", "int8")


def build(spec: RunSpec) -> nn.Module:
    """The model on ``spec.device`` in its storage format, adapters included, ready to train or to generate."""
    workload = spec.workload
    compute = DTYPES[workload.compute_dtype]
    base = workload.weight_dtype
    if base in QUANTISED:
        model = _quantised(spec, base, compute)
    elif base in DTYPES:
        model = _loaded(spec, DTYPES[base]) if spec.checkpoint else _plain(spec, DTYPES[base])
    else:
        raise UnsupportedError(
            f"{base} weights cannot be made here", hint=f"choose {', '.join((*DTYPES, *QUANTISED))}"
        )
    model.config.use_cache = not isinstance(workload, TrainingWorkload) or workload.use_cache
    if isinstance(workload, TrainingWorkload):
        model.train()
        if workload.gradient_checkpointing == "full":
            model.gradient_checkpointing_enable()
        return _trainable(model, workload)
    return model.eval()  # type: ignore[no-any-return]


def config_object(spec: RunSpec) -> Any:
    """``transformers`` config of a run."""
    values = dict(spec.config)
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    needed = {
        "sequence-classification": ("pad_token_id",),
        "seq2seq-lm": ("pad_token_id", "decoder_start_token_id"),
    }
    for name in needed.get(spec.head, ()):
        if getattr(config, name, None) is None:
            setattr(config, name, 0)
    return config


_AUTO_CLASSES = {
    "causal-lm": transformers.AutoModelForCausalLM,
    "seq2seq-lm": transformers.AutoModelForSeq2SeqLM,
    "masked-lm": transformers.AutoModelForMaskedLM,
    "sequence-classification": transformers.AutoModelForSequenceClassification,
}


def _loaded(spec: RunSpec, dtype: torch.dtype) -> Any:
    return _AUTO_CLASSES[spec.head].from_pretrained(
        spec.checkpoint, dtype=dtype, device_map={"": spec.device}, attn_implementation=_attention(spec)
    )


def _attention(spec: RunSpec) -> str | None:
    return ATTENTION[spec.workload.attention]


def _skeleton(spec: RunSpec, dtype: torch.dtype) -> Any:
    """The module tree with parameters on the meta device and real buffers (rotary tables)."""
    from accelerate import init_empty_weights

    config = config_object(spec)
    with init_empty_weights(include_buffers=False):
        model = _AUTO_CLASSES[spec.head].from_config(config, dtype=dtype, attn_implementation=_attention(spec))
    model.tie_weights()
    return model


def _plain(spec: RunSpec, dtype: torch.dtype) -> Any:
    return _materialised(_skeleton(spec, dtype), torch.device(spec.device))


def _materialised(model: Any, device: torch.device) -> Any:
    """Give every parameter still on meta random values on ``device``, tied ones once, and move the buffers.

    Modules that ``transformers`` keeps in fp32 beside fp16 weights (T5's ``wo``) are made so here too.
    """
    made: dict[int, nn.Parameter] = {}
    in_fp32 = tuple(model._keep_in_fp32_modules or ()) if model.dtype == torch.float16 else ()
    for path, module in model.named_modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None or parameter.device.type != "meta":
                continue
            if id(parameter) not in made:
                kept = any(part in in_fp32 for part in path.split("."))
                dtype = torch.float32 if kept else parameter.dtype
                values = torch.empty(parameter.shape, dtype=dtype, device=device).normal_(std=0.02)
                made[id(parameter)] = nn.Parameter(values, requires_grad=parameter.requires_grad)
            module._parameters[name] = made[id(parameter)]
    return model.to(device)


def _quantised(spec: RunSpec, weight_format: str, compute: torch.dtype) -> Any:
    """As ``from_pretrained`` with a ``BitsAndBytesConfig``: matrix by matrix, from random ``compute`` weights."""
    settings = transformers.BitsAndBytesConfig(
        load_in_8bit=weight_format == "int8",
        load_in_4bit=weight_format != "int8",
        bnb_4bit_quant_type=weight_format.removesuffix("-dq"),
        bnb_4bit_use_double_quant=weight_format.endswith("-dq"),
        bnb_4bit_compute_dtype=compute,
    )
    if spec.checkpoint:
        return _AUTO_CLASSES[spec.head].from_pretrained(
            spec.checkpoint, dtype=compute, quantization_config=settings, device_map={"": spec.device},
            attn_implementation=_attention(spec),
        )  # fmt: skip
    import bitsandbytes as bnb
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    device = torch.device(spec.device)
    model = _skeleton(spec, compute)
    keep = [*get_keys_to_not_convert(model), *(model._keep_in_fp32_modules or ())]
    model = replace_with_bnb_linear(model, modules_to_not_convert=keep, quantization_config=settings)
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
            shape = (module.out_features, module.in_features)
            values = torch.empty(shape, dtype=compute, device=device).normal_(std=0.02)
            made: Any = (
                bnb.nn.Int8Params(values, requires_grad=False, has_fp16_weights=False)
                if weight_format == "int8"
                else bnb.nn.Params4bit(
                    values, requires_grad=False, quant_type=settings.bnb_4bit_quant_type,
                    compress_statistics=settings.bnb_4bit_use_double_quant, module=module,
                )
            )  # fmt: skip
            module.weight = made.to(device)
            if module.bias is not None:
                zeros = torch.zeros(module.bias.shape, dtype=compute, device=device)
                module.bias = nn.Parameter(zeros, requires_grad=False)
    model.is_loaded_in_4bit = weight_format != "int8"
    model.is_loaded_in_8bit = weight_format == "int8"
    model.is_quantized = True
    return _materialised(model, device)


def _trainable(model: Any, workload: TrainingWorkload) -> nn.Module:
    method = workload.method
    if method == "full":
        for layer in _layers(model)[: workload.frozen_layers]:
            layer.requires_grad_(False)
        return model  # type: ignore[no-any-return]
    checkpointed = workload.gradient_checkpointing != "none"
    if workload.weight_dtype in QUANTISED:
        import peft

        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointed)
    elif checkpointed:
        model.enable_input_require_grads()
    return adapted(model, method, workload.adapter, _task_type(model))  # type: ignore[no-any-return]


def _task_type(model: Any) -> str | None:
    head = type(model).__name__
    if head.endswith("ForSequenceClassification"):
        return "SEQ_CLS"
    if head.endswith("ForMaskedLM"):
        return None
    return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"


def _layers(model: Any) -> Any:
    return max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len)
