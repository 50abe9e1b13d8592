"""Floating-point work of one forward pass, from the matrices a model holds.

A multiply-add counts as two operations. Letters: S sequence length, P = heads × head_dim, d hidden size,
V vocabulary. Sources: Kaplan et al. 2020 (arXiv:2001.08361, 2N per token forward), Narayanan et al. 2021
(arXiv:2104.04473, the attention term), Dao 2023 (arXiv:2307.08691, causal halves it, backward is 2.5 × forward).
"""

from __future__ import annotations

from planner.memory.ops import minimum
from planner.model.architecture import (
    GroupedQueryAttention,
    LatentAttention,
    LayerGroup,
    Linear,
    ModelArchitecture,
    MoeMlp,
    RecurrentMixer,
)

ATTENTION_BACKWARD = 2.5
"""Flash attention recomputes the scores: five matrix products against two (Dao 2023, section 3.1)."""


def active_count(group: LayerGroup, linear: Linear) -> float:
    """Matrices of this kind one token passes through in one layer."""
    if linear.role == "expert" and isinstance(group.mlp, MoeMlp):
        return linear.count * group.mlp.num_experts_per_tok / group.mlp.num_experts
    return linear.count


def linear_flops_per_token(group: LayerGroup) -> float:
    """2 × active weights of one layer's matrices."""
    return sum(
        2.0 * active_count(group, linear) * linear.in_features * linear.out_features for linear in group.linears
    )


def attention_flops_per_token(group: LayerGroup, keys: float, cross_keys: float = 0.0) -> float:
    """Scores and weighted values of one layer, for a query that sees ``keys`` keys on average.

    2·keys·P for q·k and as much for the values (multiply-adds count twice).
    """
    mixer = group.mixer
    flops = 0.0
    if isinstance(mixer, GroupedQueryAttention):
        flops = 4.0 * keys * mixer.num_attention_heads * mixer.head_dim
    elif isinstance(mixer, LatentAttention):
        width = mixer.qk_nope_head_dim + mixer.qk_rope_head_dim + mixer.v_head_dim
        flops = 2.0 * keys * mixer.num_attention_heads * width
    elif isinstance(mixer, RecurrentMixer):
        flops = 6.0 * mixer.state_elements  # decay, outer-product update and read-out of the state
    cross = group.cross_attention
    if cross is not None:
        flops = flops + 4.0 * cross_keys * cross.num_attention_heads * cross.head_dim
    return flops


def average_keys(group: LayerGroup, seq_len: float) -> float:
    """Keys the average query of a sequence attends to: S/2 causal, S in an encoder, at most the window.

    With a window w the first w queries see w/2 on average and the others w: w·(1 − w/2S).
    """
    mixer = group.mixer
    if group.stack == "encoder":
        return seq_len
    window = mixer.window if isinstance(mixer, GroupedQueryAttention) else None
    if window is None:
        return seq_len / 2
    reach: float = minimum(seq_len, window)
    return reach * (1 - reach / (2 * seq_len))


def logits_flops_per_token(architecture: ModelArchitecture) -> float:
    """2·d·V, with or without tied weights; zero for a model without a language-model head."""
    if not architecture.has_lm_head:
        return 0.0
    return 2.0 * architecture.hidden_size * architecture.vocab_size


def forward_flops_per_token(architecture: ModelArchitecture, seq_len: float) -> float:
    """Matrices, attention and logits of one token in a sequence of ``seq_len`` tokens.

    For encoder-decoder models a token passes through its own stack only; the figure is for one encoder and
    one decoder token together, halved.
    """
    layers = 0.0
    for group in architecture.groups:
        keys = average_keys(group, seq_len)
        per_layer = linear_flops_per_token(group) + attention_flops_per_token(group, keys, seq_len)
        layers = layers + group.count * per_layer
    if architecture.kind == "encoder-decoder":
        return (layers + logits_flops_per_token(architecture)) / 2
    return layers + logits_flops_per_token(architecture)
