"""Advice as text and JSON."""

from __future__ import annotations

import json
from typing import Any

from planner.advice import Advice, Change, Warned
from planner.export.chosen import Chosen
from planner.units import format_gib
from tui.render.columns import columns

CHANGES_SHOWN = 3
"""Beside the main answer; ``plan advise`` shows more."""


def as_text(advice: Advice, top: int) -> str:
    """Changes with what they save and cost, then warnings."""
    heading = "it fits; what saves next" if advice.fits else "it does not fit; what makes it fit, cheapest first"
    lines = [heading if advice.changes else ("it fits" if advice.fits else "nothing tried makes it fit")]
    lines += [f"  {line}" for line in columns(rows(advice, top))]
    lines += [f"beware: {_warning(warning)}" for warning in advice.warnings]
    return "\n".join(lines)


def rows(advice: Advice, top: int) -> tuple[tuple[str, ...], ...]:
    """The cheapest changes: what, what it saves, how it changes the speed, what else it costs."""
    return tuple(
        (
            " + ".join(change.labels),
            f"saves {format_gib(change.saved_bytes)}",
            _time(change),
            "; ".join(change.costs) or "no other price",
        )
        for change in advice.changes[:top]
    )


def _time(change: Change) -> str:
    if change.slowdown is None:
        return "speed unknown"
    percent = (change.slowdown - 1) * 100
    return (
        "same GPU time"
        if abs(percent) < 2
        else f"{abs(percent):.0f}% {'more' if percent > 0 else 'less'} GPU time"
    )


def _warning(warning: Warned) -> str:
    return warning.text if warning.source is None else f"{warning.text} ({warning.source.url})"


def as_json(advice: Advice, chosen: Chosen) -> str:
    """The same with sources, and the plan that is spoken of."""
    return json.dumps(
        {
            "schema": "plan-advice/1",
            "model": chosen.model_id,
            "gpu_id": chosen.gpu.id,
            "num_gpus": chosen.num_gpus,
            "fits": advice.fits,
            "changes": changes_json(advice),
            "warnings": [
                {"text": warning.text, "source": warning.source.url if warning.source else None}
                for warning in advice.warnings
            ],
        },
        indent=2,
    )


def changes_json(advice: Advice, top: int | None = None) -> list[dict[str, Any]]:
    """The cheapest changes with their sources."""
    return [
        {
            "steps": list(change.labels),
            "fits": change.fits,
            "saved_bytes": change.saved_bytes,
            "slowdown_per_gpu": change.slowdown,
            "price": change.price.name.lower(),
            "costs": list(change.costs),
            "sources": [source.url for source in change.sources],
        }
        for change in advice.changes[:top]
    ]
