"""The analytic tier against traces of real steps: peak allocated of the same request, method by method."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from planner.memory.engine import estimate
from planner.model.registry import resolve
from planner.quantity import Quantity
from planner.request import AdapterSpec, Parallelism, PlanRequest, TrainingWorkload
from validate.trace.run import trace

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 1024, "intermediate_size": 2816,
    "num_hidden_layers": 6, "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 32000,
    "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip
BASE = TrainingWorkload(
    method="lora", batch_size=4, seq_len=512, gradient_checkpointing="none", framework="peft", padding_mask=True,
    keep_outputs=True, use_cache=True, adapter=AdapterSpec(rank=16, target_modules=("q_proj", "v_proj")),
)  # fmt: skip
TRAINER = replace(BASE, framework="transformers", padding_mask=False, keep_outputs=False, use_cache=False)
IA3 = AdapterSpec(target_modules=("k_proj", "v_proj", "down_proj"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("llama")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return str(folder)


@pytest.mark.parametrize(
    "workload",
    [
        pytest.param(replace(BASE, method="full"), id="full"),
        pytest.param(BASE, id="lora"),
        pytest.param(replace(BASE, method="dora"), id="dora"),
        pytest.param(replace(BASE, method="ia3", adapter=IA3), id="ia3"),
        pytest.param(
            replace(BASE, method="prefix-tuning", adapter=AdapterSpec(num_virtual_tokens=64)), id="prefix"
        ),
        *(pytest.param(replace(BASE, method=method), id=method) for method in ("lokr", "oft", "road", "delora")),
        pytest.param(replace(TRAINER, gradient_checkpointing="full"), id="checkpointed"),
        pytest.param(replace(TRAINER, method="qlora", weight_dtype="nf4-dq"), id="qlora"),
    ],
)
def test_the_formulas_and_the_traced_step_agree(model: str, workload: TrainingWorkload) -> None:
    architecture = resolve(model).architecture
    assert architecture is not None
    traced = trace(PlanRequest(model=model, workload=workload)).peak_bytes(Quantity.ALLOCATED)
    answer = estimate(architecture, workload, Parallelism(), None, Quantity.ALLOCATED)
    assert answer.expected_bytes == pytest.approx(traced, rel=0.02)


@pytest.mark.parametrize(
    "workload",
    [
        pytest.param(TRAINER, id="lora"),
        pytest.param(replace(TRAINER, gradient_checkpointing="full"), id="checkpointed"),
        pytest.param(replace(TRAINER, gradient_checkpointing="full", seq_len=2048), id="long"),
        pytest.param(replace(TRAINER, method="full"), id="full"),
    ],
)
def test_the_formulas_and_the_replayed_allocator_agree(model: str, workload: TrainingWorkload) -> None:
    architecture = resolve(model).architecture
    assert architecture is not None
    replayed = trace(PlanRequest(model=model, workload=workload)).peak_bytes(Quantity.RESERVED)
    answer = estimate(architecture, workload, Parallelism(), None, Quantity.RESERVED)
    assert answer.expected_bytes == pytest.approx(replayed, rel=0.06)


_SIZES = {"num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 8000}
FAMILIES = {
    "t5": {
        "model_type": "t5", "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_decoder_layers": 4,
        "num_heads": 8, "vocab_size": 8000, "feed_forward_proj": "gated-gelu",
    },
    "bert": {
        **_SIZES, "model_type": "bert", "hidden_size": 512, "intermediate_size": 2048,
        "max_position_embeddings": 512,
    },
    "bloom": {"model_type": "bloom", "hidden_size": 512, "n_layer": 4, "n_head": 8, "vocab_size": 8000},
    "qwen2_moe": {
        **_SIZES, "model_type": "qwen2_moe", "hidden_size": 512, "intermediate_size": 1024,
        "num_key_value_heads": 8, "max_position_embeddings": 2048, "moe_intermediate_size": 512,
        "num_experts": 8, "num_experts_per_tok": 2,
        "shared_expert_intermediate_size": 1024, "decoder_sparse_step": 1, "mlp_only_layers": [],
    },
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_families_with_code_of_their_own_agree_too(tmp_path: Path, family: str) -> None:
    """Position biases and inner dropout (T5), losses in half precision (BERT), attention written out (BLOOM),
    experts that "all-linear" does not reach (Qwen2-MoE).
    """
    (tmp_path / "config.json").write_text(json.dumps(FAMILIES[family]))
    workload = replace(TRAINER, batch_size=2, adapter=AdapterSpec(rank=16))
    architecture = resolve(str(tmp_path)).architecture
    assert architecture is not None
    traced = trace(PlanRequest(model=str(tmp_path), workload=workload)).peak_bytes(Quantity.ALLOCATED)
    answer = estimate(architecture, workload, Parallelism(), None, Quantity.ALLOCATED)
    assert answer.expected_bytes == pytest.approx(traced, rel=0.05)
