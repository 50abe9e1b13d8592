"""Parameters of peft's less common methods, per matrix of n inputs and m outputs, with peft's default blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

from planner.citation import Citation
from planner.memory.ops import Int, where

_OFT_BLOCK, _C3A_BLOCK = 32, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RareMethod:
    """How many parameters a method trains for one matrix: ``count(n, m, rank)``."""

    count: Callable[[int, int, Int], Int]
    formula: str
    source: Citation


def _kronecker(inputs: int, outputs: int, rank: Int) -> Int:
    """LoKr: a small full factor, and a large one that is low-rank where that is smaller."""
    small_in, large_in = _factors(inputs)
    small_out, large_out = _factors(outputs)
    low = rank * (large_out + large_in)
    return small_out * small_in + where(2 * rank < max(large_out, large_in), low, large_out * large_in)


def _factors(size: int) -> tuple[int, int]:
    """The two whole factors of ``size`` nearest to each other, smaller first."""
    small = next(divisor for divisor in range(isqrt(size), 0, -1) if size % divisor == 0)
    return small, size // small


RARE = {
    "loha": RareMethod(
        count=lambda n, m, r: 2 * r * (n + m), formula="Σ 2 r (n + m)",
        source=Citation(title="LoHa (FedPara)", url="https://arxiv.org/abs/2108.06098"),
    ),
    "lokr": RareMethod(
        count=_kronecker, formula="Σ Kronecker factors",
        source=Citation(title="LoKr (LyCORIS)", url="https://arxiv.org/abs/2309.14859"),
    ),
    "hira": RareMethod(
        count=lambda n, m, r: r * (n + m), formula="Σ r (n + m)",
        source=Citation(title="HiRA", url="https://openreview.net/forum?id=TwJrTz9cRS"),
    ),
    "miss": RareMethod(
        count=lambda n, m, r: r * m, formula="Σ r m",
        source=Citation(title="MiSS", url="https://arxiv.org/abs/2409.15371"),
    ),
    "oft": RareMethod(
        count=lambda n, m, r: n // _OFT_BLOCK * (_OFT_BLOCK * (_OFT_BLOCK - 1) // 2),
        formula="Σ n / 32 × 32 × 31 / 2",
        source=Citation(title="OFT", url="https://arxiv.org/abs/2306.07280"),
    ),
    "road": RareMethod(
        count=lambda n, m, r: m, formula="Σ m",
        source=Citation(title="RoAd", url="https://arxiv.org/abs/2409.00119"),
    ),
    "c3a": RareMethod(
        count=lambda n, m, r: n * m // _C3A_BLOCK, formula="Σ n m / 256",
        source=Citation(title="C3A", url="https://arxiv.org/abs/2407.19342"),
    ),
    "delora": RareMethod(
        count=lambda n, m, r: r * (n + m) + 1, formula="Σ r (n + m) + 1",
        source=Citation(title="DeLoRA", url="https://arxiv.org/abs/2503.18225"),
    ),
}  # fmt: skip
