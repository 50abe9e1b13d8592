"""What a reader should know before relying on an answer: old prices, derived sizes, kernels a card lacks."""

from __future__ import annotations

from collections.abc import Sequence

from hardware_db import catalog
from planner.fit import Fit, Verdict
from planner.quantity import Tier
from planner.rental import STALE_AFTER_DAYS, is_stale
from planner.request import PlanRequest


def of_names(names: Sequence[str]) -> tuple[str, ...]:
    """What an open GPU name was taken for: "A100 80GB" is SXM4 or PCIe."""
    notes = []
    for name in names:
        match = catalog.match_gpu(name)
        if match.others:
            others = ", ".join(other.name for other in match.others)
            notes.append(f"{name} is taken as {match.gpu.name}; the name also fits {others}")
    return tuple(notes)


def of_fits(requests: Sequence[PlanRequest], fits: Sequence[Fit]) -> tuple[str, ...]:
    """One line per kind of doubt, naming the cards it concerns."""
    own = [fit for fit in fits if fit.estimate.tier is not Tier.RULE and fit.verdict is not Verdict.DOES_NOT_FIT]
    bf16 = any(request.workload.compute_dtype == "bf16" for request in requests)
    doubts = (
        (
            "the driver's memory size is not known of {}: it is derived from the label",
            [fit for fit in own if fit.gpu.memory_bytes_derived],
        ),
        (
            "no bf16 on {}: compute in fp16 there (--compute-dtype fp16), the bytes are the same",
            [fit for fit in own if bf16 and fit.gpu.supports_bf16 is False],
        ),
        (
            f"prices undated or older than {STALE_AFTER_DAYS} days: {{}}",
            [fit for fit in own if fit.offer is not None and is_stale(fit.offer)],
        ),
        ("not a CUDA card, runtime overheads are not modelled: {}", [fit for fit in own if not fit.gpu.is_cuda]),
    )
    return tuple(text.format(_names(concerned)) for text, concerned in doubts if concerned)


def _names(fits: Sequence[Fit]) -> str:
    return ", ".join(dict.fromkeys(fit.gpu.name for fit in fits))
