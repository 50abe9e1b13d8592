"""Parameter counts as sums over the description, so that the two cannot disagree."""

from __future__ import annotations

from typing import Literal

from planner.model.architecture import LayerGroup, ModelArchitecture, MoeMlp
from planner.model.blocks import Norm


def count_total(
    *,
    groups: tuple[LayerGroup, ...],
    embedding_params: int,
    other_params: int,
    lm_head_params: int,
    vision_params: int,
) -> int:
    """Unique parameters at run time: layers, embeddings, what is outside both, an untied head, a vision tower."""
    layers = sum(group.count * group.params_per_layer for group in groups)
    return layers + embedding_params + other_params + lm_head_params + vision_params


def idle_expert_params(groups: tuple[LayerGroup, ...]) -> int:
    """Parameters of the routed experts one token does not meet: per layer (E - k) / E of all experts."""
    idle = 0
    for group in groups:
        if not isinstance(group.mlp, MoeMlp):
            continue
        experts = sum(linear.num_params for linear in group.linears if linear.role == "expert")
        skipped = group.mlp.num_experts - group.mlp.num_experts_per_tok
        idle += group.count * (experts // group.mlp.num_experts) * skipped
    return idle


def assemble(
    *,
    model_type: str,
    kind: Literal["decoder", "encoder", "encoder-decoder"] = "decoder",
    hidden_size: int,
    vocab_size: int,
    tie_word_embeddings: bool,
    has_lm_head: bool = True,
    lm_head_bias: bool = False,
    norm: Norm,
    max_position_embeddings: int | None,
    groups: tuple[LayerGroup, ...],
    embedding_params: int,
    other_params: int,
    vision_params: int = 0,
    parallel_blocks: bool = False,
    scale_embeddings: bool = False,
    logit_softcap: float | None = None,
) -> ModelArchitecture:
    """The architecture of a description, with its totals counted. Name and provenance are stamped on later."""
    head = vocab_size * hidden_size if has_lm_head and not tie_word_embeddings else 0
    head += vocab_size if has_lm_head and lm_head_bias else 0
    total = count_total(
        groups=groups,
        embedding_params=embedding_params,
        other_params=other_params,
        lm_head_params=head,
        vision_params=vision_params,
    )
    return ModelArchitecture(
        name=model_type,
        model_type=model_type,
        kind=kind,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        tie_word_embeddings=tie_word_embeddings,
        has_lm_head=has_lm_head,
        lm_head_bias=lm_head_bias,
        norm=norm,
        max_position_embeddings=max_position_embeddings,
        groups=groups,
        embedding_params=embedding_params,
        other_params=other_params,
        vision_params=vision_params,
        params_total=total,
        params_active=total - idle_expert_params(groups),
        parallel_blocks=parallel_blocks,
        scale_embeddings=scale_embeddings,
        logit_softcap=logit_softcap,
        confidence="B",
        source="",
    )


def closed_form(architecture: ModelArchitecture) -> str:
    """The sum that gives ``params_total``, in numbers: layers, embeddings, head, what is outside them, towers."""
    parts = [f"{group.count} x {group.params_per_layer:,}" for group in architecture.groups]
    parts.append(f"{architecture.embedding_params:,} embeddings")
    if architecture.lm_head_params:
        parts.append(f"{architecture.lm_head_params:,} head")
    if architecture.other_params:
        parts.append(f"{architecture.other_params:,} outside the layers")
    if architecture.vision_params:
        parts.append(f"{architecture.vision_params:,} vision and audio")
    return f"{' + '.join(parts)} = {architecture.params_total:,}"
