"""What ``--bits`` means: the weight format of a width, by task and engine."""

from __future__ import annotations

from dataclasses import dataclass

from planner.dtypes import WeightFormat, weight_format
from planner.errors import RequestError, UnsupportedError


@dataclass(frozen=True, slots=True, kw_only=True)
class BitsChoice:
    """A weight format to serve with, and one to fine-tune adapters on (None: refused)."""

    serve: str
    train: str | None


BITS: dict[str, BitsChoice] = {
    "32": BitsChoice(serve="fp32", train="fp32"),
    "16": BitsChoice(serve="bf16", train="bf16"),
    "8": BitsChoice(serve="int8", train="int8"),
    "4": BitsChoice(serve="nf4", train="nf4-dq"),
    "1.58": BitsChoice(serve="bitnet", train=None),
}
"""At 4 bits serving takes NF4, which any checkpoint loads in, rather than AWQ or GPTQ, which need a checkpoint
quantised beforehand (name those as weight dtype); training takes QLoRA's double quantisation."""

ENGINE_BITS: dict[str, dict[str, str]] = {
    "llama.cpp": {"32": "gguf-f32", "16": "gguf-f16", "8": "gguf-q8_0", "4": "gguf-q4_k_m"},
    "autoawq": {"4": "awq-int4"},
}
"""What ``--bits`` means to engines that serve from files of their own format."""


def bits_choice(bits: str) -> BitsChoice:
    """The formats of ``--bits``; raises RequestError for anything but 32, 16, 8, 4 and 1.58."""
    choice = BITS.get(bits.strip())
    if choice is None:
        raise RequestError(f"--bits {bits[:20]} is not a known width", hint=f"choose one of {', '.join(BITS)}")
    return choice


def training_format(bits: str) -> WeightFormat:
    """The weight format to fine-tune adapters on at ``--bits``."""
    choice = bits_choice(bits)
    if choice.train is None:
        raise UnsupportedError(f"{bits}-bit weights are for inference", hint="train at --bits 16, or 4 for QLoRA")
    return weight_format(choice.train)
