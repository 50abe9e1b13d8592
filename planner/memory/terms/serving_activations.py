"""What a forward pass without gradients holds at its highest moments, and the logits it ends in.

Letters: T tokens in the pass (sequences × new tokens), S keys they attend to, d hidden size, P query width,
K key/value width, H query heads, f MLP width, V vocabulary, e bytes of the compute dtype. Widths that tensor
parallelism cuts are divided by tp.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.citation import Citation
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int, ceil_div, maximum
from planner.model.architecture import (
    DenseMlp,
    GroupedQueryAttention,
    LatentAttention,
    LayerGroup,
    ModelArchitecture,
    MoeMlp,
    RecurrentMixer,
)

FP32_BYTES = 4
_COMPOSED = ("gelu_new", "gelu_fast")
"""Activations written out in several operations, each with a result of its own."""
_LAYER = Citation(
    title="transformers: order of operations in a decoder layer",
    url="https://github.com/huggingface/transformers/blob/main/src/transformers/models/llama/modeling_llama.py",
)
_LOGITS = Citation(
    title="transformers: only the last token's logits since num_logits_to_keep (4.45), in fp32 before",
    url="https://github.com/huggingface/transformers/pull/31292",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Attention that writes its score matrices out: bytes per score at the softmax."""

    bytes_each: int
    copies_keys: bool = False
    """Whether keys and values live beside the cache and are copied per query head in every case (AutoAWQ)."""
    streams: int = 4
    """Vectors of the hidden size held per token meanwhile."""


def mixer_widths(group: LayerGroup) -> tuple[int, int, int]:
    """Query width, key/value width (both sides) and number of query heads of one layer."""
    mixer = group.mixer
    if isinstance(mixer, GroupedQueryAttention):
        width = mixer.num_attention_heads * mixer.head_dim
        return width, mixer.num_key_value_heads * mixer.head_dim, mixer.num_attention_heads
    if isinstance(mixer, LatentAttention):
        head_dim = mixer.qk_nope_head_dim + mixer.qk_rope_head_dim
        return (
            mixer.num_attention_heads * head_dim,
            mixer.num_attention_heads * head_dim,
            mixer.num_attention_heads,
        )
    if isinstance(mixer, RecurrentMixer):
        return mixer.inner_size, mixer.inner_size, 0
    return 0, 0, 0


def mlp_width(group: LayerGroup) -> int:
    """Width of the activations of one token inside the MLP, all its active experts together."""
    if isinstance(group.mlp, DenseMlp):
        return group.mlp.intermediate_size
    if isinstance(group.mlp, MoeMlp):
        return group.mlp.num_experts_per_tok * group.mlp.moe_intermediate_size + group.mlp.shared_intermediate_size
    return 0


def _mlp_elements(group: LayerGroup, hidden: int, tp: Int, *, experts_at_once: bool) -> Int:
    """Elements of one token inside the MLP at its highest moment, beside the residual stream.

    Gated: activated gate, up projection and their product. Experts computed at once gather every token once per
    expert; their outputs, weighted and put back in order, are the higher moment where they are narrow.
    """
    mlp = group.mlp
    if isinstance(mlp, MoeMlp):
        branches = 3 if mlp.gated else 2
        shared = branches * ceil_div(mlp.shared_intermediate_size, tp)
        if not experts_at_once:
            return maximum(hidden + branches * ceil_div(mlp.moe_intermediate_size, tp), shared)
        chosen = mlp.num_experts_per_tok
        inside = hidden + branches * ceil_div(mlp.moe_intermediate_size, tp)
        return maximum(chosen * maximum(4 * hidden, inside), shared)
    if isinstance(mlp, DenseMlp):
        branches = 3 if mlp.gated else 2
        composed = 2 if mlp.activation in _COMPOSED else 0
        return (branches + composed) * ceil_div(mlp.intermediate_size, tp)
    return 0


def layer_peak_bytes(
    architecture: ModelArchitecture,
    tokens: Int,
    keys: Int,
    sequences: Int,
    *,
    element: int,
    scores: Scores | None,
    tp: Int,
    experts_at_once: bool,
) -> Int:
    """Highest moment of the largest layer: normalisation in fp32, attention, or the MLP.

    Beside each stand the embeddings, the layer's input, the residual and the normalised input.
    """
    d = architecture.hidden_size
    stream = 4 * element * tokens * d
    peak: Int = 0
    for group in architecture.groups:
        if group.stack == "encoder":
            continue
        norm = stream + 2 * (FP32_BYTES - element) * tokens * d
        query, key, heads = mixer_widths(group)
        mixing = stream + element * tokens * ceil_div(3 * query + 2 * key, tp)
        if scores is not None:
            repeats = scores.copies_keys or key < query
            repeated = 2 * element * sequences * keys * ceil_div(query, tp) if repeats else 0
            own = ceil_div(3 * query + (2 * key if scores.copies_keys else 0), tp)
            mixing = element * tokens * (scores.streams * d + own) + repeated
            mixing = mixing + tokens * ceil_div(heads, tp) * keys * scores.bytes_each
        mlp = _mlp_elements(group, d, tp, experts_at_once=experts_at_once)
        peak = maximum(peak, norm, mixing, stream + element * tokens * mlp)
    return peak


def logits_peak_bytes(
    architecture: ModelArchitecture,
    rows: Int,
    tokens: Int,
    *,
    element: int,
    upcast: bool,
    vocab: int | None = None,
) -> Int:
    """Logits of ``rows`` tokens, their fp32 copy where one is made, and the last hidden state."""
    if not architecture.has_lm_head:
        return element * tokens * architecture.hidden_size
    width = element + (FP32_BYTES if upcast else 0)
    return rows * (vocab or architecture.vocab_size) * width + element * tokens * architecture.hidden_size


def activation_terms(
    architecture: ModelArchitecture,
    *,
    tokens: Int,
    keys: Int,
    sequences: Int,
    logit_rows: Int,
    element: int,
    scores: Scores | None = None,
    tp: Int = 1,
    upcast: bool = True,
    experts_at_once: bool = True,
) -> tuple[MemoryTerm, ...]:
    """The higher of two moments that never meet: the largest layer, and the logits after the last."""
    layer = layer_peak_bytes(
        architecture,
        tokens,
        keys,
        sequences,
        element=element,
        scores=scores,
        tp=tp,
        experts_at_once=experts_at_once,
    )
    logits = logits_peak_bytes(architecture, logit_rows, tokens, element=element, upcast=upcast)
    peak = maximum(layer, logits)
    inputs = {
        "T": tokens,
        "S": keys,
        "d": architecture.hidden_size,
        "V": architecture.vocab_size,
        "logit rows": logit_rows,
        "e": element,
        "layer": layer,
        "logits": logits,
    }
    return (
        MemoryTerm(
            kind="logits" if isinstance(peak, int) and peak == logits else "activations",
            label="activations and logits",
            size_bytes=peak,
            formula="max(layer: e × T × (4 d + 3 f), logits: rows × V × (e + 4) + e × T × d)",
            inputs=inputs,
            source=_LOGITS if isinstance(peak, int) and peak == logits else _LAYER,
        ),
    )
