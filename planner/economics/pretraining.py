"""Training a model from nothing: tokens for a size, compute, GPU-hours."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from hardware_db.gpu import Gpu
from planner.citation import Citation
from planner.economics import assumptions
from planner.errors import RequestError, UnsupportedError
from planner.units import SECONDS_PER_HOUR

CHINCHILLA = Citation(
    title="Hoffmann et al. (2022), approach 1: about 20 tokens per parameter",
    url="https://arxiv.org/abs/2203.15556",
)
COMPUTE = Citation(title="Kaplan et al. (2020): C = 6 N D", url="https://arxiv.org/abs/2001.08361")
TOKENS_PER_PARAM = 20
FLOPS_PER_PARAM_AND_TOKEN = 6
"""2 forward, 4 backward; attention over the context is left out, as in the source."""


def compute_optimal_tokens(num_params: int) -> int:
    """D = 20 N: tokens at which a fixed compute budget is spent best."""
    return TOKENS_PER_PARAM * num_params


def training_flops(num_params: int, num_tokens: int) -> int:
    """C = 6 N D in FLOP; N are the parameters a token meets (the active ones of a mixture of experts)."""
    return FLOPS_PER_PARAM_AND_TOKEN * num_params * num_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHours:
    """GPU-hours of a run on one kind of GPU, between the best and the worst MFU in print."""

    low: float
    expected: float
    high: float


def peak_flops_per_s(gpu: Gpu) -> int:
    """Dense 16-bit matrix rate: bf16 where the GPU has it, else fp16. Raises UnsupportedError where unknown."""
    rate = gpu.dense_flops_per_s.get("bf16") or gpu.dense_flops_per_s.get("fp16")
    if not rate:
        raise UnsupportedError(f"the 16-bit rate of {gpu.name} is not known", hint="name another GPU with --gpu")
    return rate


def gpu_hours(flops: int, gpu: Gpu, mfu: Decimal | None = None) -> GpuHours:
    """GPU-hours of ``flops`` at ``mfu`` of the peak; None takes the published range."""
    if mfu is not None and not 0 < mfu <= 1:
        raise RequestError("MFU is above 0 and at most 1", hint="--mfu 0.4")
    at_peak = flops / peak_flops_per_s(gpu) / SECONDS_PER_HOUR
    low, expected, high = (mfu, mfu, mfu) if mfu else (
        assumptions.MFU_HIGH, assumptions.MFU.value, assumptions.MFU_LOW
    )  # fmt: skip
    return GpuHours(low=at_peak / float(low), expected=at_peak / float(expected), high=at_peak / float(high))
