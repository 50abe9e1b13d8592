"""Write docs/accuracy/traced.md: the trace tier on the published cases.

Predictions are kept in benchmarks/predictions/memory_trace.jsonl with their date and software; what the file lacks
is traced first, which takes seconds per case. Delete the file to trace everything anew.

python scripts/trace_accuracy.py
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from update_accuracy import COLUMNS, bench

from planner.units import format_gib

ROOT = Path(__file__).parent.parent
CASES = "benchmarks/cases/memory.jsonl"
RECORDED = "benchmarks/predictions/memory_trace.jsonl"
SECTION = ROOT / "docs" / "accuracy" / "traced.md"


def main() -> int:
    result = bench(CASES, "--tier", "trace", "--by", "framework", "--resume", RECORDED)
    lines = (ROOT / RECORDED).read_text(encoding="utf-8").splitlines()
    header = json.loads(lines[0])
    seconds = [row["seconds"] for row in map(json.loads, lines[1:]) if row["predicted"] is not None]
    cases = {case["id"]: case for case in map(json.loads, (ROOT / CASES).read_text(encoding="utf-8").splitlines())}
    SECTION.write_text(section(result, header, seconds, cases), encoding="utf-8")
    return 0


def section(
    result: dict[str, Any], header: dict[str, Any], seconds: list[float], cases: dict[str, dict[str, Any]]
) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in header["versions"].items())
    reasons = Counter(row["reason"] for row in result["refused"])
    scored = [row for row in result["predictions"] if row["error"] is not None]
    num_cases, middle_s = len(result["predictions"]), statistics.median(seconds)
    return f"""## Memory, trace tier

    plan bench {CASES} --tier trace --resume {RECORDED}

Recorded {header["recorded"]} with {versions}: {len(scored)} of {num_cases} cases traced, in {middle_s:.0f} s each
(median, two shared cores). Computed by `scripts/trace_accuracy.py`. A trace runs the installed libraries; cases of
other programs, of older releases that differ, and of shapes that depend on data are refused by name.

{table(result)}

Every traced case, by how much is known of it. *Not printed* names what the publication leaves open.

| case | model | counter | measured | traced | error | not printed |
|---|---|---|---:|---:|---:|---|
{rows(scored, cases)}

Refused:

{chr(10).join(f"- {count} × {reason}" for reason, count in reasons.most_common())}
"""


def table(result: dict[str, Any]) -> str:
    """The scoreboard of the groups that were traced."""
    lines = [
        "| framework | " + " | ".join(title for _, title, _ in COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for row in (*result["groups"], *result["totals"]):
        if row["num_scored"]:
            cells = ["" if row[key] is None else format(row[key], spec) for key, _, spec in COLUMNS]
            lines.append(f"| {row['group']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rows(scored: list[dict[str, Any]], cases: dict[str, dict[str, Any]]) -> str:
    lines = []
    for row in scored:
        case = cases[row["id"]]
        request, measured = case["request"], case["measured"]
        open_ = [name for name in ("torch_version", "framework_version") if name not in request]
        open_ += case.get("weak", ())
        lines.append(
            f"| {row['id']} | {request['model'].split('/')[-1]} | {measured['quantity']} | "
            f"{format_gib(round(row['measured']))} | {format_gib(row['predicted'])} | {row['error']:+.1%} | "
            f"{', '.join(open_)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
