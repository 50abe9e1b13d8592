"""How the modelling code of a model family departs from the common block, where memory notices.

Every entry was read in ``transformers`` and is held against saved tensors of the real module by
``tests/unit/test_saved_tensors.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.citation import Citation

MODELLING = Citation(
    title="transformers: modelling code of each family",
    url="https://github.com/huggingface/transformers/tree/main/src/transformers/models",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """Facts about one family's modelling code."""

    weighs_norm_in_fp32: bool = False
    """The norm's weight multiplies before the cast back, so a trained norm keeps its input in fp32."""
    joins_heads_by_copy: bool = False
    """Rotary ends in ``cat``, which orders memory by head; fused attention keeps that order and joining copies."""
    caps_attention: bool = False
    """Scores pass a tanh, which no fused kernel of PyTorch offers."""
    inner_dropout: bool = False
    """Dropout also stands inside the MLP."""
    norm_keeps_input: bool = False
    """The norm multiplies its input by the rsqrt before any cast, so the input stays beside its fp32 copy."""
    writes_out_attention: bool = False
    """The family's code knows no fused kernel, whatever is asked for."""
    biases_attention: bool = False
    """A position bias per head reaches fused attention as a mask, made anew in every layer."""
    scales_logits: bool = False
    """The model multiplies its logits by a number, which makes a second copy of them."""
    loses_in_logits_dtype: bool = False
    """Logits go to cross entropy as they are instead of through transformers' common loss, which is in fp32."""
    dropout: float = 0.0
    """Dropout of residual branches and attention in the published configurations."""


_QUIRKS = {
    "gemma": Quirks(weighs_norm_in_fp32=True),
    "gemma2": Quirks(weighs_norm_in_fp32=True, caps_attention=True),
    "olmo2": Quirks(weighs_norm_in_fp32=True),
    "olmo3": Quirks(weighs_norm_in_fp32=True),
    "phi3": Quirks(joins_heads_by_copy=True),
    "phi": Quirks(joins_heads_by_copy=True),
    "gpt_neox": Quirks(joins_heads_by_copy=True),
    "stablelm": Quirks(joins_heads_by_copy=True),
    "glm": Quirks(joins_heads_by_copy=True),
    "glm4": Quirks(joins_heads_by_copy=True),
    "qwen": Quirks(joins_heads_by_copy=True),
    "cohere": Quirks(scales_logits=True),
    "cohere2": Quirks(scales_logits=True),
    "granite": Quirks(scales_logits=True),
    "granitemoe": Quirks(scales_logits=True),
    "granitemoehybrid": Quirks(scales_logits=True),
    "bloom": Quirks(writes_out_attention=True),
    "gptj": Quirks(writes_out_attention=True),
    "mpt": Quirks(writes_out_attention=True),
    "gpt2": Quirks(dropout=0.1),
    "opt": Quirks(dropout=0.1),
    **dict.fromkeys(
        ("t5", "mt5", "umt5"),
        Quirks(
            dropout=0.1,
            loses_in_logits_dtype=True,
            inner_dropout=True,
            norm_keeps_input=True,
            biases_attention=True,
        ),
    ),
    **dict.fromkeys(
        ("bert", "roberta", "xlm-roberta", "distilbert", "bart"), Quirks(dropout=0.1, loses_in_logits_dtype=True)
    ),
}
_COMMON = Quirks()


def departs(model_type: str) -> bool:
    """Whether the family's code is not the common block's."""
    return quirks(model_type) is not _COMMON


def quirks(model_type: str) -> Quirks:
    """Those of ``model_type``; Gemma 3 and later follow the first Gemma's norm."""
    if model_type.startswith(("gemma3", "gemma4")):
        return _QUIRKS["gemma"]
    return _QUIRKS.get(model_type, _COMMON)
