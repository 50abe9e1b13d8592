"""What preference and reinforcement objectives add to a step: pairs, reference and reward models, rollouts.

Letters: B samples of the micro-batch, P parameters, G completions per prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.citation import Citation
from planner.errors import UnsupportedError
from planner.memory.frameworks import LossKernel
from planner.request import TrainingWorkload

_SFT = Citation(title="supervised fine-tuning", url="https://huggingface.co/docs/trl/sft_trainer")
_DPO = Citation(
    title="TRL: DPO runs chosen and rejected as one batch; adapters are switched off for the reference",
    url="https://huggingface.co/docs/trl/dpo_trainer",
)
_ORPO = Citation(
    title="TRL: ORPO, pairs without a reference model", url="https://huggingface.co/docs/trl/orpo_trainer"
)
_KTO = Citation(
    title="TRL: KTO, a second batch for the KL term", url="https://huggingface.co/docs/trl/kto_trainer"
)
_PPO = Citation(
    title="TRL: PPO holds policy, value, reference and reward models",
    url="https://huggingface.co/docs/trl/ppo_trainer",
)
_GRPO = Citation(
    title="TRL: GRPO, groups of completions, logits of completions only, no reference while beta is 0",
    url="https://huggingface.co/docs/trl/grpo_trainer",
)
_REWARD = Citation(title="TRL: reward model on pairs", url="https://huggingface.co/docs/trl/reward_trainer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """How an objective changes one training step."""

    sequences_per_sample: int = 1
    """Sequences that one sample of the batch brings to the model."""
    frozen_copies: int = 0
    """Whole frozen models beside the trained one when every parameter is trained (reference, reward)."""
    frozen_copies_with_adapters: int = 0
    """The same when adapters are trained: the base with adapters off is its own reference."""
    trained_copies: int = 0
    """Further trained models of the same size: PPO's value model."""
    reference_pass: bool = False
    """A forward pass without gradients while the trained pass's activations are alive."""
    rollouts: bool = False
    """Completions are generated inside the process."""
    completion_logits_only: bool = False
    labels: int | None = None
    """Outputs of a classification head; None: the vocabulary."""
    loss_kernel: LossKernel | None = None
    """None: the framework's."""
    source: Citation


_OBJECTIVES = {
    "sft": Objective(source=_SFT),
    "pretrain": Objective(source=_SFT),
    "sequence-classification": Objective(labels=2, source=_SFT),
    "reward": Objective(sequences_per_sample=2, labels=1, source=_REWARD),
    "dpo": Objective(
        sequences_per_sample=2, frozen_copies=1, reference_pass=True, loss_kernel="same-dtype", source=_DPO
    ),
    "orpo": Objective(sequences_per_sample=2, loss_kernel="same-dtype", source=_ORPO),
    "kto": Objective(frozen_copies=1, reference_pass=True, loss_kernel="same-dtype", source=_KTO),
    "ppo": Objective(
        frozen_copies=2, frozen_copies_with_adapters=1, trained_copies=1, rollouts=True,
        completion_logits_only=True, loss_kernel="same-dtype", source=_PPO,
    ),
    "grpo": Objective(rollouts=True, completion_logits_only=True, loss_kernel="same-dtype", source=_GRPO),
}  # fmt: skip


def objective_rule(workload: TrainingWorkload) -> Objective:
    """What the workload's objective changes; raises UnsupportedError for one that is not modelled."""
    found = _OBJECTIVES.get(workload.objective)
    if found is None:
        raise UnsupportedError(
            f"the objective {workload.objective[:40]!r} is not modelled", hint=f"known: {', '.join(_OBJECTIVES)}"
        )
    return found


def frozen_copies(workload: TrainingWorkload, rule: Objective) -> int:
    """Frozen models of the trained model's size kept beside it."""
    return rule.frozen_copies if workload.method == "full" else rule.frozen_copies_with_adapters


def with_objective(workload: TrainingWorkload, rule: Objective) -> TrainingWorkload:
    """The workload as the model sees it: pairs double the batch."""
    if rule.sequences_per_sample == 1:
        return workload
    return replace(workload, batch_size=workload.batch_size * rule.sequences_per_sample)
