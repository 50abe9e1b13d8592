"""The diagnosis of an out-of-memory message as text and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from planner.units import format_bytes
from validate.oom.diagnosis import explain
from validate.oom.message import OutOfMemory
from validate.oom.remedies import Change, Remedies


def text(message: OutOfMemory, changes: Sequence[Change], remedies: Remedies | None) -> str:
    """The diagnosis, and the changes with what they save."""
    lines = list(explain(message))
    if message.num_messages > 1:
        lines.append(f"The text holds {message.num_messages} such messages; this is the first with numbers.")
    lines.append("")
    if remedies is not None:
        lines.append(
            f"Predicted need {format_bytes(remedies.predicted_bytes)} on a device of "
            f"{format_bytes(remedies.limit_bytes)}. What would change it:"
        )
    else:
        lines.append("What helps here (name the run with --model … for predicted savings):")
    lines += [_change_line(change) for change in changes]
    if remedies is not None and remedies.together is not None:
        lines.append(_change_line(remedies.together))
    return "\n".join(lines)


def _change_line(change: Change) -> str:
    effects = [
        "" if change.saving_bytes is None else f"saves {format_bytes(change.saving_bytes)}",
        "" if change.device_bytes is None else f"{format_bytes(change.device_bytes)} are left",
        {True: "fits", False: "does not fit alone", None: ""}[change.fits],
    ]
    effect = ", ".join(part for part in effects if part)
    return f"  {change.what}: {change.option}" + (f"  ({effect})" if effect else "")


def json_text(message: OutOfMemory, changes: Sequence[Change], remedies: Remedies | None) -> str:
    """The same as one JSON document; memory in bytes."""
    document = {
        "message": asdict(message) | {"cause": message.cause, "short_bytes": message.short_bytes},
        "explanation": list(explain(message)),
        "predicted_bytes": None if remedies is None else remedies.predicted_bytes,
        "limit_bytes": None if remedies is None else remedies.limit_bytes,
        "changes": [asdict(change) for change in changes],
        "together": asdict(remedies.together) if remedies is not None and remedies.together else None,
    }
    return json.dumps(document, indent=2)
