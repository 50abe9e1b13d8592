"""What a user relies on in the training engine: objectives, evaluation, frameworks, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.errors import UnsupportedError
from planner.memory.engine import breakdown, estimate
from planner.model.architecture import ModelArchitecture
from planner.model.registry import resolve
from planner.quantity import Quantity
from planner.request import AdapterSpec, EvaluationSpec, Parallelism, TrainingWorkload
from planner.units import GIB

ALONE = Parallelism()
BASE = TrainingWorkload(batch_size=4, seq_len=1024, gradient_checkpointing="none")


@pytest.fixture(scope="module")
def llama() -> ModelArchitecture:
    architecture = resolve("meta-llama/Llama-3.2-1B").architecture
    assert architecture is not None
    return architecture


def _phase(architecture: ModelArchitecture, workload: TrainingWorkload, name: str) -> dict[str, int]:
    phases = {each.phase: each for each in breakdown(architecture, workload, ALONE, None).phases}
    return {term.label: term.size_bytes for term in phases[name].terms}


def _peak(architecture: ModelArchitecture, workload: TrainingWorkload) -> int:
    return estimate(architecture, workload, ALONE, None, Quantity.ALLOCATED).expected_bytes


def test_dpo_holds_a_reference_only_where_the_whole_model_is_trained(llama: ModelArchitecture) -> None:
    whole = _phase(llama, replace(BASE, method="full", objective="dpo"), "load")
    assert whole["reference and reward models"] == llama.params_total * 2
    assert "reference and reward models" not in _phase(llama, replace(BASE, objective="dpo"), "load")


def test_pairs_cost_as_much_as_twice_the_batch(llama: ModelArchitecture) -> None:
    pairs = _phase(llama, replace(BASE, objective="orpo"), "backward")
    doubled = _phase(llama, replace(BASE, batch_size=8), "backward")
    assert pairs["activations: mlp"] == doubled["activations: mlp"]


def test_a_reward_head_has_no_vocabulary(llama: ModelArchitecture) -> None:
    assert _peak(llama, replace(BASE, objective="reward")) < _peak(llama, replace(BASE, batch_size=8)) - GIB


def test_grpo_takes_the_worse_of_rollout_and_step_never_their_sum(llama: ModelArchitecture) -> None:
    grpo = replace(BASE, objective="grpo", completion_len=512, gradient_checkpointing="full")
    memory = breakdown(llama, grpo, ALONE, None)
    sizes = {phase.phase: phase.size_bytes(Quantity.ALLOCATED) for phase in memory.phases}
    assert memory.peak_bytes(Quantity.ALLOCATED) == max(sizes.values())
    rollout = _phase(llama, grpo, "rollout")
    assert rollout["KV cache of generations"] == 4 * 1024 * 16 * 2 * 8 * 64 * 2
    assert "layer inputs" not in " ".join(rollout)


def test_ppo_trains_a_second_model(llama: ModelArchitecture) -> None:
    ppo = _phase(llama, replace(BASE, method="full", objective="ppo"), "optimizer step")
    sft = _phase(llama, replace(BASE, method="full"), "optimizer step")
    assert ppo["optimizer states"] == 2 * sft["optimizer states"]
    assert ppo["gradients"] == 2 * sft["gradients"]


def test_dpo_builds_whole_logits_before_trl_tiled_them(llama: ModelArchitecture) -> None:
    """https://github.com/huggingface/trl/pull/7243"""
    dpo = replace(BASE, objective="dpo", framework="trl")
    before, after = (_peak(llama, replace(dpo, framework_version=version)) for version in ("1.14.0", "1.15.0"))
    assert before - after > 2 * BASE.batch_size * BASE.seq_len * llama.vocab_size * 2
    assert _peak(llama, dpo) == after


def test_logits_gathered_in_evaluation_can_be_the_peak(llama: ModelArchitecture) -> None:
    """https://huggingface.co/docs/transformers/main_classes/trainer: eval_accumulation_steps"""
    gathering = EvaluationSpec(batch_size=8, seq_len=1024, num_samples=200, gathers_logits=True)
    answer = estimate(llama, replace(BASE, evaluation=gathering), ALONE, None, Quantity.ALLOCATED)
    assert answer.phase == "evaluation, joining logits"
    logits = next(term for term in answer.terms if term.kind == "logits")
    assert logits.size_bytes == 2 * 200 * 1024 * llama.vocab_size * 2
    moved = replace(gathering, accumulation_steps=1)
    assert _peak(llama, replace(BASE, evaluation=moved)) < answer.expected_bytes / 4


def test_generation_inside_training_counts_its_cache(llama: ModelArchitecture) -> None:
    generating = EvaluationSpec(batch_size=50, seq_len=800, generate_max_new_tokens=300)
    terms = _phase(llama, replace(BASE, evaluation=generating), "evaluation")
    assert terms["KV cache of generations"] == 50 * 800 * 16 * 2 * 8 * 64 * 2


def test_checkpointing_trades_activations_for_one_layer(llama: ModelArchitecture) -> None:
    plain, full = (_peak(llama, replace(BASE, gradient_checkpointing=kind)) for kind in ("none", "full"))
    selective = _peak(llama, replace(BASE, gradient_checkpointing="selective"))
    assert full < selective < plain


def test_fused_loss_removes_the_logits(llama: ModelArchitecture) -> None:
    logits = 4 * 1024 * llama.vocab_size
    assert _peak(llama, BASE) - _peak(llama, replace(BASE, loss="fused")) > 8 * logits


def test_optimizers_differ_by_their_states_and_temporaries(llama: ModelArchitecture) -> None:
    params = llama.params_total

    def states(optimizer: str) -> int:
        labels = _phase(llama, replace(BASE, method="full", optimizer=optimizer), "optimizer step")
        return labels.get("optimizer states", 0)

    assert states("adamw") == states("adamw-fused") == 4 * params
    assert states("sgd") == states("paged-adamw-8bit") == 0
    embedding = llama.vocab_size * llama.hidden_size  # Trainer keeps its states in fp32
    assert 2 * (params - embedding) < states("adamw-8bit") - 8 * embedding < 2.1 * (params - embedding)
    foreach = _phase(llama, replace(BASE, method="full", optimizer="adamw"), "optimizer step")
    assert foreach["optimizer temporaries"] == 2 * params


def test_trl_scores_in_tiles_and_keeps_no_logits_unless_it_is_old(llama: ModelArchitecture) -> None:
    new = replace(BASE, framework="trl", batch_size=8)
    old = replace(new, framework_version="0.15.2")
    logits = 8 * new.seq_len * llama.vocab_size * 4
    assert _peak(llama, old) - _peak(llama, new) > logits


def test_qlora_of_trl_trains_bf16_adapters_on_a_base_that_is_not_upcast(llama: ModelArchitecture) -> None:
    asked = replace(BASE, method="qlora", weight_dtype="nf4-dq")
    kinds = {}
    for framework in ("transformers", "trl"):
        memory = breakdown(llama, replace(asked, framework=framework), ALONE, None)
        kinds[framework] = {term.kind: term.size_bytes for term in memory.phases[0].terms}
    assert kinds["transformers"]["adapter"] == 2 * kinds["trl"]["adapter"]
    assert kinds["transformers"]["weights"] > kinds["trl"]["weights"]


def test_mezo_keeps_nothing_for_a_backward_pass(llama: ModelArchitecture) -> None:
    memory = breakdown(llama, replace(BASE, method="mezo"), ALONE, None)
    kinds = {term.kind for phase in memory.phases for term in phase.terms}
    assert not kinds & {"gradients", "optimizer"}


def test_autocast_keeps_half_precision_casts_of_wide_weights(llama: ModelArchitecture) -> None:
    wide = replace(BASE, weight_dtype="fp32")
    extra = _peak(llama, replace(wide, autocast=True, batch_size=1, seq_len=64))
    plain = _peak(llama, replace(wide, compute_dtype="fp32", batch_size=1, seq_len=64))
    in_layers = sum(group.count * group.params_per_layer for group in llama.groups)
    after_the_first = in_layers * 15 // 16  # nothing before the first layer is trained, so its casts are freed
    head = llama.vocab_size * llama.hidden_size
    assert extra - plain == pytest.approx(2 * (after_the_first + head), rel=0.03)


def test_old_bitsandbytes_kept_what_new_ones_do_not(llama: ModelArchitecture) -> None:
    """https://github.com/bitsandbytes-foundation/bitsandbytes/pull/1270"""
    qlora = replace(BASE, method="qlora", weight_dtype="nf4", framework="litgpt")
    old, new = (_peak(llama, replace(qlora, torch_version=version)) for version in ("2.1.0", "2.6.0"))
    assert old > new


def test_unknown_frameworks_and_optimizers_are_refused_by_name(llama: ModelArchitecture) -> None:
    with pytest.raises(UnsupportedError, match="paxml"):
        breakdown(llama, replace(BASE, framework="paxml"), ALONE, None)
    with pytest.raises(UnsupportedError, match="shampoo"):
        breakdown(llama, replace(BASE, method="full", optimizer="shampoo"), ALONE, None)


def test_litgpt_unties_the_head_it_loads(llama: ModelArchitecture) -> None:
    lora = replace(BASE, adapter=AdapterSpec(rank=8, target_modules=("q_proj", "v_proj")))
    tied = _phase(llama, lora, "load")["weights"]
    untied = _phase(llama, replace(lora, framework="litgpt"), "load")["weights"]
    assert untied - tied == llama.vocab_size * llama.hidden_size * 2


def test_trl_leaves_quantised_models_as_they_are(llama: ModelArchitecture) -> None:
    """https://github.com/huggingface/trl/blob/v0.27.0/trl/trainer/sft_trainer.py"""
    job = replace(BASE, method="qlora", weight_dtype="nf4", framework="trl")
    now = _phase(llama, job, "load")
    before = _phase(llama, replace(job, framework_version="0.25.1"), "load")
    assert 2 * now["unquantised weights"] == before["unquantised weights"]
    assert 2 * now["adapter weights"] == before["adapter weights"]


def test_lit_gpt_of_2023_kept_the_scores_of_its_attention(llama: ModelArchitecture) -> None:
    job = replace(BASE, framework="litgpt", gradient_checkpointing="none", seq_len=2048)
    heads = llama.groups[0].mixer.num_attention_heads  # type: ignore[union-attr]
    scores = llama.num_layers * BASE.batch_size * heads * 2048**2 * 2
    more = _peak(llama, replace(job, framework_version="2023")) - _peak(llama, job)
    assert more == pytest.approx(scores, rel=0.15)


def test_reduced_gradients_stay_on_the_stream_of_fsdp(llama: ModelArchitecture) -> None:
    """FSDP2 reduces on a stream of its own, whose freed blocks the next forward pass cannot use."""
    job = replace(BASE, method="full", framework="torchtitan", weight_dtype="fp32")
    spread = Parallelism(dp_shard=8)
    memory = breakdown(llama, job, spread, None)
    phases = {phase.phase: {term.label: term.size_bytes for term in phase.terms} for phase in memory.phases}
    gradients = phases["optimizer step"]["gradients"]
    assert phases["loss backward"]["allocator slack"] - phases["optimizer step"]["allocator slack"] >= gradients
