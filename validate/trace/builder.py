"""The model, adapter and optimizer of a request, built from its config alone: no weights, no hub."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from planner.errors import UnsupportedError
from planner.request import ServingWorkload, TrainingWorkload
from validate.trace.adapters import adapted
from validate.trace.quantised import FORMATS, quantise

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(slots=True)
class Built:
    """A model ready to train, as the user's script holds it before the first step."""

    model: Any
    config: Any
    kind: str
    """"decoder", "encoder" or "encoder-decoder"."""

    @property
    def num_trainable(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)


def build_model(
    config: Mapping[str, Any],
    workload: TrainingWorkload,
    *,
    initialise: bool = False,
    upcast_quantised: bool = True,
    sharded: bool = False,
) -> Built:
    """The transformers model of ``config`` with the workload's method applied; fake inside ``fake_tensors()``.

    ``initialise`` gives real weights values; memory does not depend on them. ``upcast_quantised`` is the QLoRA
    recipe, which TRL follows: everything a quantised model leaves unquantised becomes fp32. ``sharded`` packs
    4-bit weights into the compute dtype (``bnb_4bit_quant_storage``), without which FSDP2 leaves them whole.
    """
    built = _base_model(config, workload, objective=workload.objective, initialise=initialise, sharded=sharded)
    model = built.model
    model.train()
    checkpointed = workload.gradient_checkpointing == "full"
    if checkpointed:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    elif workload.gradient_checkpointing != "none":
        raise UnsupportedError(f"{workload.gradient_checkpointing} checkpointing cannot be traced", hint=None)
    if workload.method != "full":
        if workload.weight_dtype in FORMATS and upcast_quantised:
            import peft

            model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointed)
        elif checkpointed:
            model.enable_input_require_grads()
        model = adapted(model, workload.method, workload.adapter, _task_type(workload, built.kind))
    return Built(model=model, config=built.config, kind=built.kind)


def build_for_generation(config: Mapping[str, Any], workload: ServingWorkload) -> Built:
    """The model of ``config`` in evaluation mode; fake inside ``fake_tensors()``."""
    built = _base_model(config, workload, objective="sft", initialise=False, sharded=False)
    built.model.eval()
    return built


def _base_model(
    config: Mapping[str, Any],
    workload: TrainingWorkload | ServingWorkload,
    *,
    objective: str,
    initialise: bool,
    sharded: bool,
) -> Built:
    hf_config, kind, auto_class = _auto_class(config, objective)
    _choose_attention(hf_config, workload)
    quantised = workload.weight_dtype in FORMATS
    dtype = DTYPES.get(workload.compute_dtype if quantised else workload.weight_dtype)
    if dtype is None:
        raise UnsupportedError(
            f"weights in {workload.weight_dtype} cannot be traced", hint="the analytic tier covers them"
        )
    with nullcontext() if initialise else _no_init():
        model = auto_class.from_config(hf_config, dtype=dtype)
    model.tie_weights()
    if quantised:
        quantise(model, workload.weight_dtype, dtype, storage=dtype if sharded else torch.uint8)
    return Built(model=model, config=hf_config, kind=kind)


def make_batch(built: Built, workload: TrainingWorkload, *, seq_len: int | None = None) -> dict[str, torch.Tensor]:
    """One micro-batch of token ids with labels, shape [batch_size, seq_len]."""
    length = seq_len or workload.seq_len
    shape = (workload.batch_size, length)
    batch = {"input_ids": torch.ones(shape, dtype=torch.long)}
    if workload.padding_mask:
        batch["attention_mask"] = torch.ones(shape, dtype=torch.long)
        batch["attention_mask"][:, -1] = 0
    if workload.objective == "sequence-classification":
        batch["labels"] = torch.ones(shape[:1], dtype=torch.long)
    elif built.kind == "encoder-decoder":
        target = (workload.batch_size, workload.target_seq_len or length)
        batch["labels"] = torch.ones(target, dtype=torch.long)
    else:
        batch["labels"] = torch.ones(shape, dtype=torch.long)
    return batch


def _auto_class(config: Mapping[str, Any], objective: str) -> tuple[Any, str, Any]:
    import transformers
    from transformers.models.auto import modeling_auto as auto

    values = dict(config)
    model_type = values.pop("model_type")
    try:
        hf_config = transformers.AutoConfig.for_model(model_type, **values)
    except ValueError as error:
        raise UnsupportedError(
            f"the installed transformers {transformers.__version__} does not know {model_type!r}",
            hint="the analytic tier needs no transformers",
        ) from error
    for name in ("pad_token_id", "decoder_start_token_id"):
        if getattr(hf_config, name, None) is None and (hf_config.is_encoder_decoder or objective != "sft"):
            setattr(hf_config, name, 0)
    mappings = (
        ("encoder-decoder", auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, transformers.AutoModelForSeq2SeqLM),
        ("encoder", auto.MODEL_FOR_MASKED_LM_MAPPING, transformers.AutoModelForMaskedLM),
        ("decoder", auto.MODEL_FOR_CAUSAL_LM_MAPPING, transformers.AutoModelForCausalLM),
    )
    for kind, mapping, auto_class in mappings:
        if type(hf_config) in mapping:
            if objective == "sequence-classification":
                return hf_config, kind, transformers.AutoModelForSequenceClassification
            return hf_config, kind, auto_class
    raise UnsupportedError(f"transformers has no language model for {model_type!r}", hint=None)


def _choose_attention(hf_config: Any, workload: TrainingWorkload | ServingWorkload) -> None:
    """Eager, or sdpa; without a mask the flash-attn package and sdpa run the same kernel on the same tensors."""
    if workload.attention == "eager":
        hf_config._attn_implementation = "eager"  # else transformers' choice: sdpa where the model has it
    elif workload.attention == "flash-attention-2":
        if isinstance(workload, TrainingWorkload) and workload.padding_mask:
            raise UnsupportedError(
                "the flash-attn package takes padding out by its values, which a trace lacks",
                hint="--attention sdpa",
            )
        hf_config._attn_implementation = "sdpa"


def _no_init() -> Any:
    """transformers' own switch that leaves new weights uninitialised."""
    try:
        from transformers.initialization import no_init_weights
    except ImportError:  # transformers < 5
        from transformers.modeling_utils import no_init_weights
    return no_init_weights()


def _task_type(workload: TrainingWorkload, kind: str) -> str | None:
    if workload.objective == "sequence-classification":
        return "SEQ_CLS"
    return {"decoder": "CAUSAL_LM", "encoder-decoder": "SEQ_2_SEQ_LM"}.get(kind)
