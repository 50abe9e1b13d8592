"""The trace judges the formulas of one rank: FSDP2, hybrid shards and DDP, in several precisions and methods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.request import Parallelism, PlanRequest, TrainingWorkload
from validate.trace.oracle import judge
from validate.trace.run import make_job, result_of
from validate.trace.worker import run_job

SIZES: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4,
}  # fmt: skip
WIDE, DEEP = {"vocab_size": 32000}, {"vocab_size": 4000, "num_hidden_layers": 10}
SPREADS = {
    "fsdp": Parallelism(dp_shard=4),
    "hsdp": Parallelism(dp_replicate=2, dp_shard=2),
    "ddp": Parallelism(dp_replicate=4),
}
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "full, checkpointed": {"method": "full", "gradient_checkpointing": "full"},
    "mixed precision": {"method": "full", "weight_dtype": "fp32", "autocast": True},
    "accumulated": {"method": "full", "gradient_accumulation_steps": 2},
    "lora": {"method": "lora"},
    "lora, checkpointed": {"method": "lora", "gradient_checkpointing": "full"},
}


def off(folder: Path, config: dict[str, Any], spread: Parallelism, method: dict[str, Any]) -> float:
    """Relative error of the formulas' peak allocated."""
    (folder / "config.json").write_text(json.dumps(SIZES | config))
    workload = TrainingWorkload(**({"batch_size": 2, "seq_len": 256, "gradient_checkpointing": "none"} | method))
    request = PlanRequest(model=str(folder), workload=workload, parallelism=spread)
    verdict = judge(result_of(run_job(make_job(request, None))), request, None)
    assert verdict is not None
    return verdict.analytic_bytes / verdict.traced_bytes - 1


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("method", METHODS)
def test_formulas_stay_near_the_trace_of_a_rank(method: str, spread: str, tmp_path: Path) -> None:
    config = WIDE | {"tie_word_embeddings": False}
    assert abs(off(tmp_path, config, SPREADS[spread], METHODS[method])) < 0.03


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("method", ["full", "full, checkpointed", "mixed precision", "lora"])
def test_they_stay_near_where_layers_outweigh_logits(method: str, tied: bool, tmp_path: Path) -> None:
    config = DEEP | {"tie_word_embeddings": tied}
    assert abs(off(tmp_path, config, SPREADS["fsdp"], METHODS[method])) < 0.06
