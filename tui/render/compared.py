"""A comparison as text, and as JSON."""

from __future__ import annotations

import json

from planner.jsonable import jsonable
from planner.units import format_bytes, format_gib
from tui.comparison import AnswerEstimate, AnswerFit, Comparison, Pair, Row
from tui.render.columns import columns

SCHEMA_VERSION = 1


def render_text(comparison: Comparison) -> str:
    first, second = comparison.first, comparison.second
    lines = [f"A  {first.name}: {first.model}", f"B  {second.name}: {second.model}"]
    for pair in comparison.pairs:
        lines += ["", _heading(pair.first, pair.second), *(f"  {line}" for line in _table(pair))]
    if comparison.unpaired:
        lines += ["", *comparison.unpaired]
    return "\n".join(lines)


def render_json(comparison: Comparison) -> str:
    return json.dumps({"schema_version": SCHEMA_VERSION, **jsonable(comparison)}, indent=2, ensure_ascii=False)


def _heading(first: AnswerEstimate, second: AnswerEstimate) -> str:
    methods = " against ".join(dict.fromkeys(filter(None, (first.method, second.method))))
    return " ".join(filter(None, (first.task, methods, f"({first.tier})", first.label)))


def _table(pair: Pair) -> list[str]:
    rows = [("", "A", "B", "B − A"), *(_row(row) for row in pair.rows)]
    rows.append(
        _row(Row(label="peak", first_bytes=pair.first.expected_bytes, second_bytes=pair.second.expected_bytes))
    )
    rows.append(("interval", _interval(pair.first), _interval(pair.second), ""))
    rows.append(("peak in", pair.first.phase, pair.second.phase, ""))
    if pair.first_fit or pair.second_fit:
        rows.append(("cheapest", _rental(pair.first_fit), _rental(pair.second_fit), _saving(pair)))
    return columns(rows, right={1, 2, 3})


def _row(row: Row) -> tuple[str, str, str, str]:
    difference = f"{'+' if row.difference_bytes > 0 else ''}{format_bytes(row.difference_bytes)}"
    return row.label, _size(row.first_bytes), _size(row.second_bytes), difference if row.difference_bytes else "="


def _size(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else format_bytes(size_bytes)


def _interval(estimate: AnswerEstimate) -> str:
    return f"{format_gib(estimate.low_bytes)} to {format_gib(estimate.high_bytes)}"


def _rental(fit: AnswerFit | None) -> str:
    return "-" if fit is None else f"{fit.num_gpus} x {fit.gpu}, {fit.usd_per_hour:,.2f} USD/h"


def _saving(pair: Pair) -> str:
    if pair.first_fit is None or pair.second_fit is None:
        return ""
    return f"{(pair.second_fit.usd_per_hour or 0.0) - (pair.first_fit.usd_per_hour or 0.0):+,.2f} USD/h"
