"""DeepSpeed's JSON configuration: https://www.deepspeed.ai/docs/config-json/."""

from __future__ import annotations

import json
from typing import Any

from planner.errors import UnsupportedError
from planner.export.chosen import Chosen
from planner.request import Parallelism, TrainingWorkload
from planner.request_text import JSON_KEY, row

FILE = "ds_config.json"


def files(chosen: Chosen) -> dict[str, str]:
    """``ds_config.json``: the ZeRO stage, offload, precision and batch of the plan."""
    return {FILE: json.dumps(document(chosen), indent=2) + "\n"}


def document(chosen: Chosen) -> dict[str, Any]:
    """The configuration as plain values; the request rides along under a key DeepSpeed ignores."""
    return configuration(chosen.training, chosen.parallelism) | {JSON_KEY: row(chosen.request, brief=True)}


def configuration(workload: TrainingWorkload, spread: Parallelism) -> dict[str, Any]:
    """What DeepSpeed reads: the ZeRO stage, offload, precision and batch of a workload spread so."""
    if spread.tp > 1 or spread.pp > 1 or spread.cp > 1:
        raise UnsupportedError(
            "DeepSpeed configurations are written for ZeRO plans", hint="leave --tp and --pp at 1"
        )
    stage = spread.zero_stage if spread.dp_shard > 1 else 0
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True}
    host: dict[str, Any] = {"device": "cpu", "pin_memory": True}
    if spread.cpu_offload == "nvme":
        host = {"device": "nvme", "nvme_path": "/local_nvme", "pin_memory": True}
    if spread.cpu_offload != "none" and stage:
        zero["offload_optimizer"] = host
    if spread.cpu_offload in ("parameters", "nvme") and stage == 3:
        zero["offload_param"] = host
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    ranks = spread.dp_shard * spread.dp_replicate
    return {
        "train_micro_batch_size_per_gpu": workload.batch_size,
        "gradient_accumulation_steps": workload.gradient_accumulation_steps,
        "train_batch_size": workload.batch_size * workload.gradient_accumulation_steps * ranks,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": workload.compute_dtype == "bf16"},
        "fp16": {"enabled": workload.compute_dtype == "fp16"},
        "zero_optimization": zero,
    }
