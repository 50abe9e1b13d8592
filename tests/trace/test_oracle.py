"""The trace judges the formulas: small models of several families, methods and optimizers, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.request import AdapterSpec, PlanRequest, TrainingWorkload
from validate.trace.oracle import judge
from validate.trace.run import make_job, result_of
from validate.trace.worker import run_job

SIZES: dict[str, Any] = {
    "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 4, "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "full, sgd": {"method": "full", "optimizer": "sgd"},
    "full, fused": {"method": "full", "optimizer": "adamw-fused"},
    "full, 8-bit": {"method": "full", "optimizer": "adamw-8bit"},
    "lora": {"method": "lora"},
    "lora on q and v": {"method": "lora", "adapter": AdapterSpec(rank=8, target_modules=("q_proj", "v_proj"))},
    "qlora": {"method": "qlora", "weight_dtype": "nf4-dq"},
}


@pytest.mark.parametrize("checkpointing", ["none", "full"])
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize("method", METHODS)
def test_formulas_stay_near_the_trace(model_type: str, method: str, checkpointing: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SIZES | {"model_type": model_type}))
    workload = TrainingWorkload(batch_size=2, seq_len=512, gradient_checkpointing=checkpointing, **METHODS[method])
    request = PlanRequest(model=str(tmp_path), workload=workload)
    verdict = judge(result_of(run_job(make_job(request, None))), request, None)
    assert verdict is not None
    off = verdict.analytic_bytes / verdict.traced_bytes - 1
    assert abs(off) < 0.025, (off, verdict.kind, verdict.kind_difference_bytes)
