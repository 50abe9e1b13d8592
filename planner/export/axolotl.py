"""Configuration of Axolotl: https://docs.axolotl.ai/docs/config-reference.html."""

from __future__ import annotations

from typing import Any

from planner.dtypes import weight_format
from planner.errors import UnsupportedError
from planner.export import deepspeed
from planner.export.chosen import Chosen
from planner.export.trl import ATTENTION, OPTIMIZERS, check_method
from planner.export.yaml_text import dump
from planner.request_text import comment

FILE = "axolotl.yaml"


def files(chosen: Chosen) -> dict[str, str]:
    """``axolotl.yaml``, with ``ds_config.json`` beside it where the plan shards optimizer states only."""
    written = {FILE: f"{comment(chosen.request)}\n{dump(document(chosen))}\n"}
    if "deepspeed" in document(chosen):
        written |= deepspeed.files(chosen)
    return written


def document(chosen: Chosen) -> dict[str, Any]:
    """The configuration as plain values."""
    workload, spread = chosen.training, chosen.parallelism
    check_method(workload, "Axolotl")
    if spread.tp > 1 or spread.pp > 1:
        raise UnsupportedError(
            "Axolotl configurations are written for data-parallel plans", hint="leave --tp at 1"
        )
    stored = weight_format(workload.weight_dtype)
    adapter = workload.adapter
    values: dict[str, Any] = {
        "base_model": chosen.model_id,
        "load_in_8bit": stored.scheme == "bitsandbytes" and stored.bits == 8,
        "load_in_4bit": stored.scheme == "bitsandbytes" and stored.bits == 4,
        "datasets": [{"path": "mlabonne/FineTome-100k", "type": "chat_template"}],
        "output_dir": "./output",
        "sequence_len": workload.seq_len,
        "sample_packing": not workload.padding_mask,
        "micro_batch_size": workload.batch_size,
        "gradient_accumulation_steps": workload.gradient_accumulation_steps,
        "gradient_checkpointing": "offload" if workload.gradient_checkpointing == "offload" else
        workload.gradient_checkpointing != "none",
        "optimizer": OPTIMIZERS.get(workload.optimizer, "adamw_torch"),
        "learning_rate": 0.0002 if workload.method != "full" else 0.00002,
        "num_epochs": workload.num_epochs,
        "bf16": workload.compute_dtype == "bf16",
        "fp16": workload.compute_dtype == "fp16",
        "attn_implementation": ATTENTION[workload.attention],
    }  # fmt: skip
    if workload.method != "full":
        targets = adapter.target_modules
        values |= {
            "adapter": "qlora" if values["load_in_4bit"] else "lora",
            "lora_r": adapter.rank,
            "lora_alpha": 2 * adapter.rank,
        }
        values |= (
            {"lora_target_linear": True} if isinstance(targets, str) else {"lora_target_modules": list(targets)}
        )
    if workload.method != "full" and adapter.dropout is not None:
        values["lora_dropout"] = adapter.dropout
    if workload.loss == "fused":
        values |= {"plugins": ["axolotl.integrations.liger.LigerPlugin"], "liger_fused_linear_cross_entropy": True}
    if spread.dp_shard > 1 and spread.zero_stage == 3:
        values |= {
            "fsdp_version": 2,
            "fsdp_config": {
                "offload_params": spread.cpu_offload in ("parameters", "nvme"),
                "cpu_ram_efficient_loading": not stored.is_quantised,
                "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "state_dict_type": "SHARDED_STATE_DICT",
                "reshard_after_forward": True,
            },
        }
    elif spread.dp_shard > 1:
        values["deepspeed"] = deepspeed.FILE
    return values
