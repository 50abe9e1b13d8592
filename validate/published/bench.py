"""Published measurements against predictions: one row per family, nothing dropped.

Relative error = predicted / measured - 1. A case that cannot be expressed or is not supported is refused with its
reason and counted as missing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from planner.errors import PlannerError, RequestError
from planner.quantity import Tier
from validate.published.cases import Case, Prediction

UNDER_PREDICTED = -0.05
_ROUNDING = 1e-12
HEADLINE_EXCLUDES = ("serve-engine:small", "serve-engine:profile")
"""Rows whose absolute error matters, left out of the second total."""

GROUPINGS = ("family", "quantity", "phase", "method", "framework", "source", "grade")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A case with its prediction and relative error."""

    case: Case
    prediction: Prediction
    error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScore:
    """Accuracy of one group; shares and errors are fractions, None where nothing was scored."""

    group: str
    num_scored: int
    num_missing: int
    median_absolute: float | None = None
    mean_absolute: float | None = None
    p90_absolute: float | None = None
    worst: float | None = None
    """Signed error of the worst case."""
    bias: float | None = None
    """Median signed error."""
    within_5: float | None = None
    within_10: float | None = None
    within_20: float | None = None
    under_by_5: float | None = None
    """Share predicted more than 5% too low."""
    inside: float | None = None
    """Share of measurements inside low-high, of those that carry an interval."""
    width: float | None = None
    """Median of (high - low) / predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """Every case, scored or refused, and the scoreboard."""

    tier: Tier
    rows: tuple[Scored, ...]
    groups: tuple[GroupScore, ...]
    totals: tuple[GroupScore, ...]

    @property
    def refused(self) -> tuple[Scored, ...]:
        return tuple(row for row in self.rows if row.error is None)

    def worst(self, count: int) -> tuple[Scored, ...]:
        """The ``count`` cases with the largest absolute error."""
        scored = [row for row in self.rows if row.error is not None]
        return tuple(sorted(scored, key=lambda row: abs(row.error or 0.0), reverse=True)[:count])


def run_bench(
    cases: Iterable[Case],
    *,
    tier: Tier = Tier.ANALYTIC,
    core: bool = False,
    strong: bool = False,
    by: str = "family",
    within_resolution: bool = False,
    families: Collection[str] = (),
    predictor: Callable[[Case], Prediction] | None = None,
    progress: Callable[[str], None] | None = None,
) -> BenchResult:
    """Predict and score ``cases``: only core ones, without the weak, or of some families, where asked.

    ``predictor`` takes the place of ``predict``, as a recording does.
    """
    chosen = [
        case
        for case in cases
        if (case.core or not core) and not (strong and case.weak) and (not families or case.family in families)
    ]
    rows: list[Scored] = []
    for case in chosen:
        prediction = predictor(case) if predictor else predict(case, tier)
        rows.append(
            Scored(case=case, prediction=prediction, error=relative_error(case, prediction, within_resolution))
        )
        if progress:
            progress(case.id)
    groups: dict[str, list[Scored]] = defaultdict(list)
    for row in rows:
        groups[_key(row.case, by)].append(row)
    scores = tuple(score(name, groups[name]) for name in sorted(groups))
    totals = [score("ALL", rows)]
    if by == "family" and any(name in groups for name in HEADLINE_EXCLUDES):
        kept = [row for name, members in groups.items() if name not in HEADLINE_EXCLUDES for row in members]
        totals.append(score("ALL w/o small, profile", kept))
    return BenchResult(tier=tier, rows=tuple(rows), groups=scores, totals=tuple(totals))


def predict(case: Case, tier: Tier, *, timeout_s: float | None = None) -> Prediction:
    """The prediction of one case, or why there is none; ``timeout_s`` bounds a trace."""
    try:
        if case.is_memory:
            from validate.published.memory_predicted import predict_memory

            return predict_memory(case, tier, timeout_s=timeout_s)
        from validate.published.speed_predicted import predict_speed

        return predict_speed(case)
    except PlannerError as error:
        return Prediction(id=case.id, predicted=None, reason=error.message)
    except Exception as error:
        # A defect of the engine must not cost the other cases their score; it is shown as what it is.
        return Prediction(id=case.id, predicted=None, reason=f"internal error: {type(error).__name__}: {error}")


def relative_error(case: Case, prediction: Prediction, within_resolution: bool = False) -> float | None:
    """predicted / measured - 1; with ``within_resolution`` zero inside the printed resolution or value range."""
    predicted, measured = prediction.predicted, case.measured
    if predicted is None or not math.isfinite(predicted):
        return None
    if not within_resolution:
        return predicted / measured.value - 1
    half = measured.resolution
    low, high = measured.value_range or (measured.value - half, measured.value + half)
    if low <= predicted <= high:
        return 0.0
    return predicted / (high if predicted > high else low) - 1


def _key(case: Case, by: str) -> str:
    if by not in GROUPINGS:
        raise RequestError(f"cannot group by {by!r}", hint=f"one of {', '.join(GROUPINGS)}")
    if by == "family":
        return case.group
    if by in ("quantity", "phase"):
        return f"{case.family}/{getattr(case.measured, by)}"
    if by in ("source", "grade"):
        text: str = getattr(case, by)
        return text.split("@")[0]
    return str(case.request.get(by))


def score(group: str, rows: Sequence[Scored]) -> GroupScore:
    """The scoreboard line of ``rows``."""
    errors = [row.error for row in rows if row.error is not None]
    missing = len(rows) - len(errors)
    if not errors:
        return GroupScore(group=group, num_scored=0, num_missing=missing)
    absolute = [abs(error) for error in errors]

    def within(limit: float) -> float:
        return sum(error <= limit + _ROUNDING for error in absolute) / len(absolute)

    held, widths = _intervals(rows)
    return GroupScore(
        group=group,
        num_scored=len(errors),
        num_missing=missing,
        median_absolute=quantile(absolute, 0.5),
        mean_absolute=sum(absolute) / len(absolute),
        p90_absolute=quantile(absolute, 0.9),
        worst=max(errors, key=abs),
        bias=quantile(errors, 0.5),
        within_5=within(0.05),
        within_10=within(0.10),
        within_20=within(0.20),
        under_by_5=sum(error < UNDER_PREDICTED for error in errors) / len(errors),
        inside=sum(held) / len(held) if held else None,
        width=quantile(widths, 0.5) if widths else None,
    )


def _intervals(rows: Sequence[Scored]) -> tuple[list[bool], list[float]]:
    held: list[bool] = []
    widths: list[float] = []
    for row in rows:
        answer = row.prediction
        if not answer.predicted or answer.low is None or answer.high is None:
            continue
        held.append(answer.low <= row.case.measured.value <= answer.high)
        widths.append((answer.high - answer.low) / answer.predicted)
    return held, widths


def quantile(values: Sequence[float], fraction: float) -> float:
    """Linear interpolation between order statistics, as numpy's default."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * fraction
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
