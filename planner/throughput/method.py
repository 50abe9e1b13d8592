"""What a training method computes: passes over the layers, adapted matrices, trainable parameters."""

from __future__ import annotations

from dataclasses import dataclass

from planner.model.architecture import Linear, ModelArchitecture
from planner.request import TrainingWorkload
from planner.throughput.layer import implementation_of
from planner.vocabulary import FULL_METHODS, PROMPT_METHODS

UNTRAINED_PASSES = {"dpo": 1.0, "kto": 3.0}
"""DPO runs its reference over the pairs. KTO runs it too, and model and reference over mismatched completions for
the KL term: https://huggingface.co/docs/trl/dpo_trainer, https://huggingface.co/docs/trl/kto_trainer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """How often the layers run, in units of one forward pass."""

    recompute_linear: float
    recompute_attention: float
    weight_gradients: float
    """1 where base weights train, 0 behind adapters."""
    input_gradients: float
    untrained: float = 0.0
    """Further forward passes without gradients: of a reference model, of KTO's mismatched pairs."""

    @property
    def forward(self) -> float:
        """Every forward pass but recomputation."""
        return 1 + self.untrained


def passes_of(workload: TrainingWorkload) -> Passes:
    """Recomputation and gradients of a method and a checkpointing mode."""
    mode = workload.gradient_checkpointing
    fused = implementation_of(workload.framework, compiled=workload.compile) == "fused"
    if mode in ("full", "offload"):
        linear, attention = 1.0, 1.0
    elif mode == "selective":
        # Megatron's selective mode recomputes attention, torchtitan's every second matrix product.
        linear, attention = (0.0, 1.0) if fused else (0.5, 0.0)
    else:
        linear, attention = 0.0, 0.0
    untrained = UNTRAINED_PASSES.get(workload.objective, 0.0)
    trains_base = workload.method in FULL_METHODS and workload.method != "layernorm"
    if workload.method == "mezo":
        return Passes(recompute_linear=1, recompute_attention=1, weight_gradients=0, input_gradients=0)
    return Passes(
        recompute_linear=linear,
        recompute_attention=attention,
        weight_gradients=float(trains_base),
        input_gradients=1.0,
        untrained=untrained,
    )


def adapted(workload: TrainingWorkload, linear: Linear) -> bool:
    """Whether a low-rank adapter sits on this matrix."""
    if workload.method in FULL_METHODS or workload.method in PROMPT_METHODS or not linear.is_module:
        return False
    targets = workload.adapter.target_modules
    if isinstance(targets, str):
        return targets == "all-linear" and linear.role != "router"
    return linear.name in {target.rsplit(".", 1)[-1] for target in targets}


def trainable_params(architecture: ModelArchitecture, workload: TrainingWorkload) -> float:
    """Parameters the optimizer updates, low-rank adapters as r·(K + N) per matrix."""
    if workload.method in FULL_METHODS and workload.method != "layernorm":
        return architecture.params_total
    total = 0.0
    for group in architecture.groups:
        for linear in group.linears:
            if adapted(workload, linear):
                width = linear.in_features + linear.out_features
                total = total + group.count * linear.count * workload.adapter.rank * width
    if workload.method in PROMPT_METHODS:
        total = workload.adapter.num_virtual_tokens * architecture.hidden_size
    saved = workload.adapter.modules_to_save
    if any(name in ("embed_tokens", "wte", "word_embeddings") for name in saved):
        total = total + architecture.vocab_size * architecture.hidden_size
    if any(name in ("lm_head", "embed_out") for name in saved):
        total = total + architecture.vocab_size * architecture.hidden_size
    return total
