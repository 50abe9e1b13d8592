"""Configuration of ``accelerate launch``: https://huggingface.co/docs/accelerate/package_reference/cli."""

from __future__ import annotations

from typing import Any

from planner.dtypes import weight_format
from planner.errors import UnsupportedError
from planner.export.chosen import Chosen
from planner.export.yaml_text import dump
from planner.request_text import comment

FILE = "accelerate.yaml"


def files(chosen: Chosen) -> dict[str, str]:
    """``accelerate.yaml``: plain, DDP, or FSDP2; ZeRO-1 and 2 through the DeepSpeed plugin."""
    return {FILE: f"{comment(chosen.request)}\n{dump(document(chosen))}\n"}


def document(chosen: Chosen) -> dict[str, Any]:
    """The configuration as plain values."""
    workload, spread = chosen.training, chosen.parallelism
    if spread.tp > 1 or spread.pp > 1 or spread.cp > 1:
        raise UnsupportedError(
            "Trainer configurations are written for data-parallel and fully sharded plans",
            hint="leave --tp, --pp and --cp at 1, or export to slurm with a trainer that cuts models",
        )
    precision = workload.compute_dtype if workload.compute_dtype in ("bf16", "fp16") else "no"
    base: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": _kind(chosen),
        "mixed_precision": precision,
        "num_machines": chosen.num_machines,
        "num_processes": chosen.num_gpus,
        "machine_rank": 0,
        "main_training_function": "main",
        "rdzv_backend": "static",
        "same_network": True,
        "use_cpu": False,
    }
    if base["distributed_type"] == "FSDP":
        base["fsdp_config"] = _fsdp(chosen)
    elif base["distributed_type"] == "DEEPSPEED":
        base["deepspeed_config"] = _deepspeed(chosen)
    return base


def _kind(chosen: Chosen) -> str:
    spread = chosen.parallelism
    if spread.dp_shard > 1:
        return "FSDP" if spread.zero_stage == 3 else "DEEPSPEED"
    return "MULTI_GPU" if spread.dp_replicate > 1 else "NO"


def _fsdp(chosen: Chosen) -> dict[str, Any]:
    return {
        "fsdp_version": 2,
        "fsdp_reshard_after_forward": True,
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_offload_params": chosen.parallelism.cpu_offload in ("parameters", "nvme"),
        "fsdp_cpu_ram_efficient_loading": not weight_format(chosen.training.weight_dtype).is_quantised,
        "fsdp_state_dict_type": "SHARDED_STATE_DICT",
        "fsdp_activation_checkpointing": False,
    }


def _deepspeed(chosen: Chosen) -> dict[str, Any]:
    offload = "cpu" if chosen.parallelism.cpu_offload != "none" else "none"
    return {
        "zero_stage": chosen.parallelism.zero_stage,
        "gradient_accumulation_steps": chosen.training.gradient_accumulation_steps,
        "gradient_clipping": 1.0,
        "offload_optimizer_device": offload,
        "offload_param_device": "none",
        "zero3_init_flag": False,
    }
