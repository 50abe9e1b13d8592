"""The trace as a judge of the formulas: where they leave their own interval, and by which kind of memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from hardware_db.gpu import Gpu
from planner.errors import PlannerError
from planner.memory import engine
from planner.memory.breakdown import MemoryTerm
from planner.model import registry
from planner.quantity import Quantity
from planner.request import Parallelism, PlanRequest
from validate.trace.estimate import estimate_of
from validate.trace.run import TraceResult

_STATES = ("weights", "adapter", "gradients", "optimizer", "workspace")
_REST = "activations and temporaries"
TOLERANCE_PERMILLE = 5
"""What an exact formula may be off by before it counts as a disagreement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Allocated memory by formula and by trace. Bytes."""

    analytic_low_bytes: int
    analytic_bytes: int
    analytic_high_bytes: int
    traced_bytes: int
    kind: str
    """The kind of memory they differ most in, each at its own peak."""
    kind_difference_bytes: int
    """Formula less trace, of that kind."""

    @property
    def agrees(self) -> bool:
        slack = self.traced_bytes * TOLERANCE_PERMILLE // 1000
        return self.analytic_low_bytes - slack <= self.traced_bytes <= self.analytic_high_bytes + slack


def judge(result: TraceResult, request: PlanRequest, gpu: Gpu | None) -> Verdict | None:
    """Hold the analytic tier against a trace; None where the formulas refuse the request."""
    try:
        architecture = registry.resolve(request.model).architecture
        if architecture is None:
            return None
        spread = request.parallelism or Parallelism()
        formula = engine.estimate(architecture, request.workload, spread, gpu, Quantity.ALLOCATED)
    except PlannerError:
        return None
    traced = estimate_of(result, request, Quantity.ALLOCATED, gpu)
    by_formula = _by_kind(formula.terms)
    by_trace = _by_kind(traced.terms)
    differences = {kind: by_formula[kind] - by_trace[kind] for kind in (*_STATES, _REST)}
    kind = max(differences, key=lambda name: abs(differences[name]))
    return Verdict(
        analytic_low_bytes=formula.low_bytes,
        analytic_bytes=formula.expected_bytes,
        analytic_high_bytes=formula.high_bytes,
        traced_bytes=traced.expected_bytes,
        kind=kind,
        kind_difference_bytes=differences[kind],
    )


def _by_kind(terms: Iterable[MemoryTerm]) -> dict[str, int]:
    sizes: dict[str, int] = defaultdict(int)
    for term in terms:
        sizes[term.kind if term.kind in _STATES else _REST] += term.size_bytes
    return sizes
