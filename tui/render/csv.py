"""The GPUs of a plan as CSV, one row per fit, with the columns of the JSON document; of ranges the expectation."""

from __future__ import annotations

import csv
import io
from typing import Any

from planner.plan import Plan
from tui.render.json import document

COLUMNS = (
    "task", "method", "tier", "gpu", "num_gpus", "verdict", "memory_bytes", "low_bytes", "expected_bytes",
    "high_bytes", "headroom_bytes", "limiting_term", "usd_per_hour", "price_as_of", "provider", "instance_type",
    "num_instances", "spot", "price_source", "tokens_per_s", "step_time_s", "mfu", "ttft_s", "tpot_s",
    "output_tokens_per_s", "tokens", "hours", "usd",
)  # fmt: skip


def render(plan: Plan) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(fit) for fit in document(plan)["fits"])
    return text.getvalue().rstrip("\n")


def _row(fit: dict[str, Any]) -> dict[str, Any]:
    told = {**fit.get("speed", {}), **fit.get("job", {})}
    return fit | {name: value["expected"] if isinstance(value, dict) else value for name, value in told.items()}
