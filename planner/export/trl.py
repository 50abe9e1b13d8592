"""Configuration of ``trl sft``: https://huggingface.co/docs/trl/clis (fields of SFTConfig, ModelConfig)."""

from __future__ import annotations

from typing import Any

from planner.dtypes import weight_format
from planner.errors import UnsupportedError
from planner.export import accelerate
from planner.export.chosen import Chosen
from planner.export.yaml_text import dump
from planner.request import TrainingWorkload
from planner.request_text import comment

FILE = "sft.yaml"
OPTIMIZERS = {
    "adamw": "adamw_torch", "adamw-fused": "adamw_torch_fused", "adamw-8bit": "adamw_bnb_8bit",
    "paged-adamw": "paged_adamw_32bit", "paged-adamw-8bit": "paged_adamw_8bit", "sgd": "sgd",
    "adafactor": "adafactor",
    "lion": "lion_32bit", "lion-8bit": "lion_8bit",
}  # fmt: skip
"""Ours -> ``transformers.training_args.OptimizerNames``."""
ATTENTION = {"flash-attention-2": "flash_attention_2", "sdpa": "sdpa", "eager": "eager"}
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_ADAPTERS = ("lora", "qlora", "rslora", "dora", "qdora")


def files(chosen: Chosen) -> dict[str, str]:
    """``sft.yaml`` for ``trl sft --config``, and the accelerate configuration to launch it with."""
    return {FILE: f"{comment(chosen.request)}\n{dump(document(chosen))}\n", **accelerate.files(chosen)}


def document(chosen: Chosen) -> dict[str, Any]:
    """The configuration as plain values."""
    workload = chosen.training
    check_method(workload, "TRL")
    if workload.optimizer not in OPTIMIZERS:
        raise UnsupportedError(f"TRL's trainer has no optimizer {workload.optimizer}", hint="--optimizer adamw")
    checkpointing = workload.gradient_checkpointing != "none"
    values: dict[str, Any] = {
        "model_name_or_path": chosen.model_id,
        "dataset_name": "trl-lib/Capybara",
        "output_dir": "output",
        "dtype": DTYPES[workload.weight_dtype if workload.weight_dtype in DTYPES else workload.compute_dtype],
        "attn_implementation": ATTENTION[workload.attention],
        "per_device_train_batch_size": workload.batch_size,
        "gradient_accumulation_steps": workload.gradient_accumulation_steps,
        "max_length": workload.seq_len,
        "packing": not workload.padding_mask,
        "gradient_checkpointing": checkpointing,
        "optim": OPTIMIZERS[workload.optimizer],
        "use_liger_kernel": workload.loss == "fused",
        "bf16": workload.compute_dtype == "bf16",
        "fp16": workload.compute_dtype == "fp16",
        "torch_compile": workload.compile,
    }
    if workload.trained_tokens is not None:
        ranks = chosen.parallelism.dp_replicate * chosen.parallelism.dp_shard
        step = workload.batch_size * workload.gradient_accumulation_steps * ranks * workload.seq_len
        values["max_steps"] = -(-workload.trained_tokens // step)
    return values | _adapter(workload) | _quantisation(workload)


def check_method(workload: TrainingWorkload, trainer: str) -> None:
    """Refuse methods the trainer's plain configuration cannot express."""
    if workload.method != "full" and workload.method not in _ADAPTERS:
        raise UnsupportedError(
            f"{trainer} configurations are not written for {workload.method}", hint="--method lora"
        )
    if workload.objective not in ("sft", "pretrain"):
        raise UnsupportedError(f"{trainer} configurations are written for sft, not {workload.objective}")


def _adapter(workload: TrainingWorkload) -> dict[str, Any]:
    if workload.method == "full":
        return {}
    adapter = workload.adapter
    targets = [adapter.target_modules] if isinstance(adapter.target_modules, str) else list(adapter.target_modules)
    values: dict[str, Any] = {
        "use_peft": True,
        "lora_r": adapter.rank,
        "lora_alpha": 2 * adapter.rank,
        "lora_target_modules": targets,
        "use_rslora": workload.method == "rslora",
        "use_dora": workload.method in ("dora", "qdora"),
    }
    if adapter.dropout is not None:
        values["lora_dropout"] = adapter.dropout
    if adapter.modules_to_save:
        values["lora_modules_to_save"] = list(adapter.modules_to_save)
    return values


def _quantisation(workload: TrainingWorkload) -> dict[str, Any]:
    stored = weight_format(workload.weight_dtype)
    if not stored.is_quantised:
        return {}
    if stored.scheme != "bitsandbytes":
        return {}  # the checkpoint itself is quantised
    if stored.bits == 8:
        return {"load_in_8bit": True}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": stored.name[:3],
        "use_bnb_nested_quant": stored.double_quantised,
        "bnb_4bit_quant_storage": DTYPES[workload.compute_dtype],
    }
