"""The trace judges the formulas: small models of several families, methods and optimizers, in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
from accelerate.state import AcceleratorState

from planner.request import AdapterSpec, EvaluationSpec, PlanRequest, TrainingWorkload
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


STACKS = {
    "trl": ("full", "full, fused", "full, 8-bit", "lora", "qlora"),
    "accelerate": ("full", "lora", "qlora"),
    "peft": ("full", "lora", "qlora"),
}
"""Whose loop, besides Trainer's, is held against the formulas, and with which methods."""


@pytest.fixture(autouse=True)
def fresh_libraries() -> Iterator[None]:
    """accelerate keeps the settings of a process's first loop, bitsandbytes what Trainer said of embeddings."""
    yield
    bitsandbytes.optim.GlobalOptimManager.get_instance().initialize()
    AcceleratorState._reset_state(reset_partial_state=True)


def off(folder: Path, model_type: str, workload: TrainingWorkload) -> tuple[float, str]:
    """By how much the formula differs from the trace, and the kind of memory it differs most in."""
    (folder / "config.json").write_text(json.dumps(SIZES | {"model_type": model_type}))
    request = PlanRequest(model=str(folder), workload=workload)
    verdict = judge(result_of(run_job(make_job(request, None))), request, None)
    assert verdict is not None
    return verdict.analytic_bytes / verdict.traced_bytes - 1, verdict.kind


@pytest.mark.parametrize("checkpointing", ["none", "full"])
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize("method", METHODS)
def test_formulas_stay_near_the_trace(model_type: str, method: str, checkpointing: str, tmp_path: Path) -> None:
    workload = TrainingWorkload(batch_size=2, seq_len=512, gradient_checkpointing=checkpointing, **METHODS[method])
    difference, kind = off(tmp_path, model_type, workload)
    assert abs(difference) < 0.025, (difference, kind)


@pytest.mark.parametrize("checkpointing", ["none", "full"])
@pytest.mark.parametrize(
    ("framework", "method"), [(framework, method) for framework, methods in STACKS.items() for method in methods]
)
def test_formulas_know_the_loops_of_other_libraries(
    framework: str, method: str, checkpointing: str, tmp_path: Path
) -> None:
    workload = TrainingWorkload(
        batch_size=2, seq_len=512, gradient_checkpointing=checkpointing, framework=framework, **METHODS[method]
    )
    difference, kind = off(tmp_path, "llama", workload)
    assert abs(difference) < 0.03, (difference, kind)


LOSS_ONLY = EvaluationSpec(batch_size=8, num_samples=32)
GATHERED = EvaluationSpec(batch_size=8, num_samples=32, gathers_logits=True)
MOVED = EvaluationSpec(batch_size=8, num_samples=32, gathers_logits=True, accumulation_steps=2)
WIDE: dict[str, Any] = {"weight_dtype": "fp32", "autocast": True}


@pytest.mark.parametrize(
    ("framework", "method", "evaluation", "changes"),
    [
        *(
            pytest.param(framework, method, asked, {}, id=f"{framework}, {method}, {name}")
            for framework in ("transformers", "trl")
            for method in ("full", "lora")
            for name, asked in (("loss only", LOSS_ONLY), ("gathered", GATHERED))
        ),
        pytest.param("transformers", "lora", MOVED, {}, id="transformers, moved to the host"),
        pytest.param("transformers", "full", LOSS_ONLY, WIDE, id="transformers, casts of autocast"),
        pytest.param("transformers", "lora", GATHERED, WIDE, id="transformers, gathered in fp32"),
        pytest.param("trl", "full", GATHERED, WIDE, id="trl, gathered in fp32"),
    ],
)
def test_formulas_know_evaluation_inside_training(
    framework: str, method: str, evaluation: EvaluationSpec, changes: dict[str, Any], tmp_path: Path
) -> None:
    workload = TrainingWorkload(
        batch_size=2, seq_len=512, gradient_checkpointing="none", framework=framework, evaluation=evaluation,
        **(METHODS[method] | changes),
    )  # fmt: skip
    difference, kind = off(tmp_path, "llama", workload)
    assert abs(difference) < 0.02, (difference, kind)


@pytest.mark.parametrize("checkpointing", ["none", "full"])
@pytest.mark.parametrize(
    ("method", "changes"),
    [
        pytest.param("full", {}, id="full"),
        pytest.param("full", WIDE, id="full, autocast"),
        pytest.param("lora", {}, id="lora"),
        pytest.param("qlora", {}, id="qlora"),
    ],
)
def test_formulas_know_preferences_as_trl_trains_them(
    method: str, changes: dict[str, Any], checkpointing: str, tmp_path: Path
) -> None:
    """The reference pass beside what the trained pass keeps: a second model, or the same without its adapters."""
    asked: dict[str, Any] = {"batch_size": 2, "seq_len": 512, **METHODS[method], **changes}
    workload = TrainingWorkload(framework="trl", objective="dpo", gradient_checkpointing=checkpointing, **asked)
    difference, kind = off(tmp_path, "llama", workload)
    assert abs(difference) < 0.03, (difference, kind)
