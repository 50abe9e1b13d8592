"""What the versions a request names say about the libraries it does not name."""

from __future__ import annotations

import re

from planner.request import TrainingWorkload

_TRIPLE = r"(\d+)\.(\d+)(?:\.(\d+))?"


def release(text: str | None) -> tuple[int, int, int] | None:
    """First version number of ``text`` as (major, minor, patch)."""
    match = re.search(_TRIPLE, text or "")
    return _numbers(match) if match else None


def torch_before(workload: TrainingWorkload, major: int, minor: int) -> bool:
    """True only where the request names an older torch."""
    found = release(workload.torch_version)
    return found is not None and found[:2] < (major, minor)


def year(workload: TrainingWorkload) -> int | None:
    """A year the framework version mentions."""
    match = re.search(r"\b(20\d\d)\b", workload.framework_version or "")
    return int(match.group(1)) if match else None


def saves_quantised_inputs(workload: TrainingWorkload) -> bool:
    """bitsandbytes before 0.43.2 (July 2024) kept the input of every frozen 4-bit matmul.

    Source: https://github.com/bitsandbytes-foundation/bitsandbytes/pull/1270
    """
    return _bitsandbytes_before(workload, (0, 43, 2), torch=(2, 4))


def dequantises_to_fp16(workload: TrainingWorkload) -> bool:
    """bitsandbytes before 0.43 (March 2024) cast weights to fp16 before quantising, whatever the compute dtype.

    Source: https://github.com/bitsandbytes-foundation/bitsandbytes/blob/0.42.0/bitsandbytes/nn/modules.py
    """
    return _bitsandbytes_before(workload, (0, 43, 0), torch=(2, 2))


def separates_experts(workload: TrainingWorkload) -> bool:
    """transformers before 5 (December 2025) held experts as modules of their own, as Unsloth's 4-bit uploads do.

    Source: https://github.com/huggingface/transformers/blob/main/MIGRATION_GUIDE_V5.md
    """
    found = release(workload.framework_version)
    if found is None:
        return False
    if workload.framework == "unsloth":
        return found[0] < 2026
    return workload.framework in ("transformers", "trl", "peft") and found[0] == 4


def before_dynamic_uploads(workload: TrainingWorkload) -> bool:
    """unsloth before December 2024 loaded plain 4-bit uploads; its versions are dates such as 2024.8."""
    found = release(workload.framework_version)
    return found is not None and found[:2] < (2024, 12)


def before_cut_cross_entropy(workload: TrainingWorkload) -> bool:
    """unsloth before November 2024 kept whole logits and wrote their gradient over them.

    Source: https://unsloth.ai/blog/gradient
    """
    found = release(workload.framework_version)
    return found is not None and found[:2] < (2024, 11)


def t5_is_eager(workload: TrainingWorkload) -> bool:
    """T5 wrote its attention out until transformers 5.15 (July 2026).

    Source: https://github.com/huggingface/transformers/pull/47014
    """
    found = release(workload.framework_version) if workload.framework == "transformers" else None
    return torch_before(workload, 2, 13) if found is None else found < (5, 15, 0)


def litgpt_masks_attention(workload: TrainingWorkload) -> bool:
    """Lit-GPT of 2023 on torch 2.0 gave attention a mask, which no fused kernel of that torch took.

    Source: https://github.com/pytorch/pytorch/blob/v2.0.0/aten/src/ATen/native/transformers/cuda/sdp_utils.h
    """
    if workload.framework not in ("litgpt", "lit-gpt"):
        return False
    if workload.torch_version:
        return torch_before(workload, 2, 1)
    return year(workload) == 2023


def peft_follows_base(workload: TrainingWorkload) -> bool:
    """A stack older than peft 0.12 (August 2024), judged by its torch or the year of its framework."""
    if workload.torch_version:
        return torch_before(workload, 2, 4)
    named = year(workload)
    return named is not None and named < 2024


def _bitsandbytes_before(
    workload: TrainingWorkload, bound: tuple[int, int, int], *, torch: tuple[int, int]
) -> bool:
    """By the version the request names, else by the age of its torch, else by the year of its framework."""
    match = re.search(rf"(?:bnb|bitsandbytes)\s*v?{_TRIPLE}", workload.framework_version or "")
    if match:
        return _numbers(match) < bound
    if workload.torch_version:
        return torch_before(workload, *torch)
    named = year(workload)
    return named is not None and named < 2024


def _numbers(match: re.Match[str]) -> tuple[int, int, int]:
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch or 0)
