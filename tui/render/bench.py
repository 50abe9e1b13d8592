"""A benchmark result as text: scoreboard, refusals, worst cases."""

from __future__ import annotations

import json
from dataclasses import asdict

from planner.units import format_gib
from validate.published.bench import BenchResult, GroupScore, Scored

SCHEMA_VERSION = 1
_HEADINGS = (
    "group", "n", "miss", "median", "mean", "P90", "worst", "bias", "<=5%", "<=10%", "<=20%", "under5",
    "inside", "width",
)  # fmt: skip


def scoreboard(result: BenchResult) -> list[tuple[str, ...]]:
    """Headings and one row of text per group, totals last."""
    return [_HEADINGS, *(_cells(group) for group in (*result.groups, *result.totals))]


def _cells(group: GroupScore) -> tuple[str, ...]:
    def percent(value: float | None, spec: str = ".1%") -> str:
        return "" if value is None else format(value, spec)

    return (
        group.group,
        str(group.num_scored),
        str(group.num_missing),
        percent(group.median_absolute),
        percent(group.mean_absolute),
        percent(group.p90_absolute),
        percent(group.worst, "+.0%"),
        percent(group.bias, "+.1%"),
        percent(group.within_5, ".0%"),
        percent(group.within_10, ".0%"),
        percent(group.within_20, ".0%"),
        percent(group.under_by_5, ".0%"),
        percent(group.inside, ".0%"),
        percent(group.width, ".0%"),
    )


def as_table(result: BenchResult, *, worst: int = 0) -> str:
    """The scoreboard in aligned columns, then what was refused and the worst cases."""
    rows = scoreboard(result)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(
            cell.ljust(width) if not index else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    if result.refused:
        lines += ["", f"not predicted ({len(result.refused)}):"]
        lines += [f"  {row.case.id}: {row.prediction.reason}" for row in result.refused]
    if worst:
        lines += ["", "worst:", *(_worst_line(row) for row in result.worst(worst))]
    return "\n".join(lines)


def _worst_line(row: Scored) -> str:
    measured, predicted = row.case.measured, row.prediction.predicted or 0
    shown = (
        (format_gib(int(measured.value)), format_gib(int(predicted)))
        if measured.unit == "bytes"
        else (f"{measured.value:,.4g} {measured.unit}", f"{predicted:,.4g}")
    )
    model = row.case.request.get("model")
    return f"  {row.error:+7.1%} {row.case.id:34} measured {shown[0]:>12} predicted {shown[1]:>12}  {model}"


def predictions(result: BenchResult) -> str:
    """JSON lines: id, predicted, low, high, and the reason where there is no prediction."""
    return "".join(json.dumps(asdict(row.prediction)) + "\n" for row in result.rows)


def as_json(result: BenchResult) -> str:
    """The whole result: scoreboard, refusals and every prediction with its error."""
    return json.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "tier": result.tier.value,
            "groups": [asdict(group) for group in result.groups],
            "totals": [asdict(total) for total in result.totals],
            "refused": [{"id": row.case.id, "reason": row.prediction.reason} for row in result.refused],
            "predictions": [
                asdict(row.prediction) | {"measured": row.case.measured.value, "error": row.error}
                for row in result.rows
            ],
        },
        indent=1,
    )
