"""Keeping the best of a stream of blocks: per row and count, the Pareto front, and the nearest misses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy

from planner.request import HardwareWish, ServingWorkload
from planner.search.evaluate import Block
from planner.units import MILLION, SECONDS_PER_HOUR

Objective = Literal["cost", "time", "headroom"]
OBJECTIVES: tuple[Objective, ...] = ("cost", "time", "headroom")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a candidate must meet beyond memory."""

    num_tokens: int | None
    """Tokens of the job; None: cost and time are per million tokens."""
    max_usd: float | None
    max_hours: float | None
    max_usd_per_hour: float | None
    needs_price: bool
    """False where a GPU was named that may have no price."""

    @classmethod
    def of(cls, wish: HardwareWish, num_tokens: int | None, *, needs_price: bool) -> Limits:
        return cls(
            num_tokens=num_tokens,
            max_usd=None if wish.max_usd is None else float(wish.max_usd),
            max_hours=wish.max_hours,
            max_usd_per_hour=None if wish.max_usd_per_hour is None else float(wish.max_usd_per_hour),
            needs_price=needs_price,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One cell of a block."""

    block: Block
    row: int
    layout: int
    hours: float
    """Of the job, of a million trained tokens, or of one answered token."""
    usd: float
    """Of the job, of a million trained tokens, or of an hour of serving."""
    headroom: float
    """Share of the GPU's memory left at the expected peak; negative: missing."""
    score: float
    """What it was picked by; smaller is better."""


@dataclass(slots=True)
class Ranking:
    """Best picks seen so far."""

    objective: Objective
    limits: Limits
    memory_bytes: Any
    num_candidates: int = 0
    num_feasible: int = 0
    num_too_big: int = 0
    best: dict[tuple[int, int], Pick] = field(default_factory=dict)
    """By row and number of GPUs."""
    front: list[Pick] = field(default_factory=list)
    misses: dict[str, Pick] = field(default_factory=dict)

    def add(self, block: Block) -> None:
        """Take a block into account."""
        if isinstance(block.workload, ServingWorkload):
            # Demand is given, so money is the rent that meets it, and time is that of a token.
            hours, usd = block.seconds / SECONDS_PER_HOUR, block.usd_per_hour
        else:
            hours = (self.limits.num_tokens or MILLION) / block.tokens_per_s / SECONDS_PER_HOUR
            usd = hours * block.usd_per_hour
        holds = block.high_bytes <= self.memory_bytes
        priced = numpy.isfinite(block.usd_per_hour)
        if not self.limits.needs_price:
            priced = numpy.ones_like(priced)
        headroom = 1 - block.expected_bytes / self.memory_bytes
        affordable = self._within(usd, self.limits.max_usd) & self._within(
            block.usd_per_hour, self.limits.max_usd_per_hour
        )
        quick = self._within(hours, self.limits.max_hours)
        feasible = holds & priced & affordable & quick
        self.num_candidates += block.num_candidates
        self.num_feasible += int(numpy.count_nonzero(feasible))
        self.num_too_big += int(numpy.count_nonzero(~holds))
        score = {"cost": usd, "time": hours, "headroom": -headroom}[self.objective]
        self._keep_best(block, numpy.where(feasible, score, numpy.inf), hours, usd, headroom)
        self._keep_front(block, feasible, hours, usd, headroom)
        if not feasible.any():
            self._keep_misses(block, holds, priced, affordable, quick, hours, usd, headroom)

    @staticmethod
    def _within(values: Any, limit: float | None) -> Any:
        return numpy.ones_like(values, dtype=bool) if limit is None else values <= limit

    def _pick(
        self, block: Block, row: int, layout: int, hours: Any, usd: Any, headroom: Any, score: float
    ) -> Pick:
        return Pick(
            block=block,
            row=int(row),
            layout=int(layout),
            hours=float(hours[row, layout]),
            usd=float(usd[row, layout]),
            headroom=float(headroom[row, layout]),
            score=float(score),
        )

    def _keep_best(self, block: Block, score: Any, hours: Any, usd: Any, headroom: Any) -> None:
        counts = block.layouts.num_gpus
        starts = numpy.flatnonzero(numpy.concatenate([[True], counts[1:] != counts[:-1]]))
        lowest = numpy.minimum.reduceat(score, starts, axis=1)
        ends = numpy.append(starts[1:], len(counts))
        for row, column in zip(*numpy.nonzero(numpy.isfinite(lowest)), strict=True):
            start, end = starts[column], ends[column]
            key = int(row), int(counts[start])
            value = lowest[row, column]
            known = self.best.get(key)
            if known is not None and known.score < value:
                continue
            layout = start + int(score[row, start:end].argmin())
            pick = self._pick(block, row, layout, hours, usd, headroom, value)
            if known is None or (pick.score, pick.hours) < (known.score, known.hours):
                self.best[key] = pick

    def _keep_front(self, block: Block, feasible: Any, hours: Any, usd: Any, headroom: Any) -> None:
        """Candidates that nothing beats in both hours and money."""
        rows, columns = numpy.nonzero(feasible & numpy.isfinite(usd))
        if not len(rows):
            return
        order = numpy.lexsort((hours[rows, columns], usd[rows, columns]))
        times = hours[rows, columns][order]
        falls = numpy.concatenate([[True], times[1:] < numpy.minimum.accumulate(times)[:-1]])
        picks = [
            self._pick(block, rows[at], columns[at], hours, usd, headroom, usd[rows[at], columns[at]])
            for at in order[falls]
        ]
        merged = sorted([*self.front, *picks], key=lambda pick: (pick.usd, pick.hours, -pick.headroom))
        self.front = []
        for pick in merged:
            if not self.front or pick.hours < self.front[-1].hours:
                self.front.append(pick)

    def _keep_misses(
        self,
        block: Block,
        holds: Any,
        priced: Any,
        affordable: Any,
        quick: Any,
        hours: Any,
        usd: Any,
        headroom: Any,
    ) -> None:
        """Of each kind of failure the candidate that fails by the least."""
        limits = self.limits
        dear = numpy.zeros_like(usd) if limits.max_usd is None else usd / limits.max_usd
        over = numpy.maximum(dear, hours / (limits.max_hours or numpy.inf))
        shortage = (block.high_bytes - self.memory_bytes) / self.memory_bytes
        kinds = {
            "memory": (~holds & priced & affordable & quick, shortage),
            "price": (holds & priced & ~affordable & quick, usd),
            "hours": (holds & priced & affordable & ~quick, hours),
            "price and hours": (holds & priced & ~affordable & ~quick, over),
        }
        for kind, (failed, distance) in kinds.items():
            distance = numpy.where(failed, distance, numpy.inf)
            at = int(distance.argmin())
            row, layout = divmod(at, distance.shape[1])
            value = float(distance[row, layout])
            known = self.misses.get(kind)
            if numpy.isfinite(value) and (known is None or value < known.score):
                self.misses[kind] = self._pick(block, row, layout, hours, usd, headroom, value)

    def ordered(self) -> list[Pick]:
        """The best pick of every row and count, best first."""
        return sorted(self.best.values(), key=lambda pick: (pick.score, pick.hours, -pick.headroom))
