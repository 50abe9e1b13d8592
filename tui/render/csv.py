"""The GPUs of a plan as CSV, one row per fit, with the columns of the JSON document."""

from __future__ import annotations

import csv
import io

from planner.plan import Plan
from tui.render.json import document

COLUMNS = (
    "task", "method", "tier", "gpu", "num_gpus", "verdict", "memory_bytes", "low_bytes", "expected_bytes",
    "high_bytes", "headroom_bytes", "limiting_term", "usd_per_hour", "price_as_of", "provider", "instance_type",
    "num_instances", "spot", "price_source",
)  # fmt: skip


def render(plan: Plan) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(document(plan)["fits"])
    return text.getvalue().rstrip("\n")
