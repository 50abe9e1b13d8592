"""Compute the shipped calibration from published cases: python scripts/calibrate_defaults.py CASES.jsonl…

Writes planner/data/default_calibration.json and the section docs/accuracy/intervals.md. ``--trace PREDICTIONS``
takes the output of ``plan bench --tier trace --out PREDICTIONS`` for the intervals of the trace tier.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from planner.calibration import Calibration, Interval
from planner.calibration_file import DEFAULT_FILE, USER_FILE_VARIABLE
from planner.quantity import Tier
from validate.calibrate import save
from validate.conformal import COVERAGE
from validate.defaults import Defaults, defaults, residuals_of
from validate.published.bench import predict
from validate.published.cases import Prediction, read_cases

SECTION = Path("docs/accuracy/intervals.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", type=Path)
    parser.add_argument("--trace", type=Path, help="Predictions of the trace tier, one JSON object a line.")
    parser.add_argument("--out", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--section", type=Path, default=SECTION)
    arguments = parser.parse_args()
    os.environ |= {USER_FILE_VARIABLE: os.devnull + "/none", "HF_HUB_OFFLINE": "1"}
    cases = [case for path in arguments.cases for case in read_cases(path)]
    found: list[tuple[Tier, Defaults]] = []
    for tier, predictions in (
        (Tier.ANALYTIC, (predict(case, Tier.ANALYTIC) for case in cases)),
        (Tier.TRACE, _predictions(arguments.trace)),
    ):
        residuals = list(residuals_of(cases, predictions))
        for task in ("train", "serve"):
            of_task = [residual for residual in residuals if residual.task == task]
            if of_task:
                found.append((tier, defaults(of_task, tier)))
    intervals: tuple[Interval, ...] = tuple(interval for _, result in found for interval in result.intervals)
    made = {
        "by": "scripts/calibrate_defaults.py",
        "from": sorted(path.name for path in arguments.cases),
        "date": datetime.now(UTC).date().isoformat(),
        "cases": len(cases),
        "coverage": COVERAGE,
    }
    save(Calibration(intervals=intervals, made=made), arguments.out)
    arguments.section.parent.mkdir(parents=True, exist_ok=True)
    arguments.section.write_text(_section(found, len(cases)), encoding="utf-8")


def _predictions(path: Path | None) -> Iterable[Prediction]:
    if path is None:
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield Prediction(id=row["id"], predicted=row["predicted"])


def _section(found: Iterable[tuple[Tier, Defaults]], num_cases: int) -> str:
    lines = [
        "## Intervals",
        "",
        f"Computed by `scripts/calibrate_defaults.py` from {num_cases} published cases. An interval is meant to "
        f"hold {COVERAGE:.0%} of measurements. *Same framework*: every run of the case's model in its publication "
        "was left out. *New source*: the whole publication was left out, as for a framework never seen. Width is "
        "(high - low) / expected.",
        "",
        "| tier | group | cases | held, same framework | held, new source | median width |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for tier, result in found:
        lines += [
            f"| {tier} | {row.group} | {row.num_runs} | {row.known_framework:.0%} | {row.new_source:.0%} "
            f"| {row.median_width:.0%} |"
            for row in result.coverage
        ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
