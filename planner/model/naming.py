"""What the name of a model says: its size, and which words only tell a copy from its original."""

from __future__ import annotations

import re

from planner.units import BILLION, MILLION

_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:[._]\d+)?)([bm])(\d?)(?![A-Za-z0-9])", re.IGNORECASE)
_COPY_FORMATS = {
    "unsloth-bnb-4bit": "nf4-dq",
    "bnb-4bit": "nf4-dq",
    "awq-int4": "awq-int4",
    "gptq-int4": "gptq-int4",
    "gptq-int8": "gptq-int8",
    "gptq": "gptq-int4",
    "int4": "gptq-int4",
    "int8": "gptq-int8",
    "awq": "awq-int4",
    "fp8-dynamic": "fp8",
    "fp8": "fp8",
    "nvfp4": "nvfp4",
    "fp4": "nvfp4",
    "bf16": "bf16",
}
"""Endings under which quantised copies are uploaded, and the weight format they stand for."""
_GGUF = re.compile(r"(.*?)(?:[-.](i?q\d\w*|tq\d\w*|f16|bf16|mxfp4))?-gguf")
"""Repositories of one GGUF mixture or of several: "…-Q4_K_M-GGUF", "…-GGUF"."""
_TUNING = ("instruct-2507", "thinking-2507", "instruct", "thinking", "chat", "base", "hf", "it", "pt")
"""Endings of tuned variants that keep the shape of their base model."""


def named_params(names: tuple[str, ...], params_total: int) -> int:
    """The size in the first of ``names`` that states one close to the truth, else the count to three digits.

    A stated size further than 1.5x from the count is not the size of the whole model (Llama-4-Scout-17B names the
    active parameters, Gemma-3n-E4B the effective ones), and a product such as 8x7B is not a size.
    """
    for name in names:
        for whole, unit, decimal in _SIZE.findall(name.rpartition("/")[2]):
            number = whole.replace("_", ".") + (f".{decimal}" if decimal else "")
            size = round(float(number) * (BILLION if unit.lower() == "b" else MILLION))
            if 2 * params_total <= 3 * size and 2 * size <= 3 * params_total:
                return size
    rounding = int(10 ** max(len(str(params_total)) - 3, 0))
    return (params_total + rounding // 2) // rounding * rounding


def original_name(name: str) -> tuple[str, str | None]:
    """``name`` in lower case without its owner and copy ending, and the weight format the ending stands for.

    A colon before the size, as Ollama writes it, is read as a dash.

    >>> original_name("unsloth/Llama-3.2-3B-Instruct-bnb-4bit")
    ('llama-3.2-3b-instruct', 'nf4-dq')
    >>> original_name("someone/Qwen2.5-7B-Instruct-Q4_K_M-GGUF")
    ('qwen2.5-7b-instruct', 'gguf-q4_k_m')
    """
    stem = name.rpartition("/")[2].lower().replace(":", "-")
    if gguf := _GGUF.fullmatch(stem):
        return gguf[1], gguf[2] and f"gguf-{gguf[2]}"
    for ending, weight_format in _COPY_FORMATS.items():
        if stem.endswith(f"-{ending}"):
            return stem.removesuffix(f"-{ending}"), weight_format
    return stem, None


def untuned_name(name: str) -> str:
    """``name`` in lower case without its owner and its tuning endings: "Qwen2.5-7B-Instruct" is "qwen2.5-7b"."""
    stem = name.rpartition("/")[2].lower()
    for ending in _TUNING:
        stem = stem.removesuffix(f"-{ending}")
    return stem
