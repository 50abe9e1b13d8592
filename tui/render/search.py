"""A search result as text, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from planner.rental import is_stale
from planner.request import TrainingWorkload
from planner.search import Candidate, SearchResult
from planner.search.solve import Solution
from planner.units import format_count, format_gib
from tui.render.columns import columns

SCHEMA = "plan-search/1"
_NUMBERS = (1, 3, 4, 5, 6, 7)


def as_text(result: SearchResult, top: int) -> str:
    """The ranked plans, the front, and why the nearest misses fail."""
    counted = f"{result.num_candidates:,} plans tried, {result.num_feasible:,} meet the wish"
    lines = [f"{result.request.model}: {counted}, ranked by {result.objective}"]
    if result.candidates:
        lines += ["", *_table(result.candidates[:top])]
        front = [candidate for candidate in result.pareto if candidate.usd_per_hour is not None]
        if len(front) > 1:
            lines += ["", "nothing is both cheaper and faster than these", *_table(front[:top])]
    for miss in result.near_misses:
        candidate = miss.candidate
        lines += ["", f"nearest miss by {miss.kind}: {candidate.num_gpus} x {candidate.gpu.name}: {miss.reason}"]
        lines += [f"  {choices(candidate)}"]
    return "\n".join(lines)


def _table(candidates: tuple[Candidate, ...] | list[Candidate]) -> list[str]:
    job = any(candidate.hours is not None for candidate in candidates)
    heading = (
        "GPUs",
        "memory",
        "verdict",
        "tokens/s",
        "USD/h",
        "hours" if job else "USD/M tokens",
        "USD",
        "price of",
        "how",
    )
    rows = [heading]
    for candidate in candidates:
        offer = candidate.offer
        dated = "-" if offer is None else (offer.as_of.isoformat() if offer.as_of else "undated")
        stale = " (stale)" if offer is not None and is_stale(offer) else ""
        rows.append(
            (
                f"{candidate.num_gpus} x {candidate.gpu.name}",
                format_gib(candidate.expected_bytes),
                candidate.verdict.value,
                f"{candidate.tokens_per_s:,.0f}",
                _usd(candidate.usd_per_hour),
                _hours(candidate.hours) if candidate.hours is not None else _usd(candidate.usd_per_million_tokens),
                _usd(candidate.usd),
                f"{offer.provider} {dated}{stale}" if offer else "no price",
                choices(candidate),
            )
        )
    return [f"  {line}" for line in columns(rows, right=_NUMBERS)]


def _hours(hours: float) -> str:
    return f"{hours:,.2f}" if hours < 10 else f"{hours:,.1f}"


def _usd(amount: Any) -> str:
    return "-" if amount is None else f"{amount:,.2f}"


def choices(candidate: Candidate) -> str:
    """The spread and settings of a plan in words."""
    workload, spread = candidate.workload, candidate.parallelism
    degrees = {
        "ddp": spread.dp_replicate, "fsdp" if spread.zero_stage == 3 else "zero2": spread.dp_shard,
        "tp": spread.tp, "pp": spread.pp, "cp": spread.cp, "ep": spread.ep,
    }  # fmt: skip
    words = [f"{name} {degree}" for name, degree in degrees.items() if degree > 1]
    if candidate.small_machines:
        words.insert(0, f"{candidate.num_instances} small machines")
    if isinstance(workload, TrainingWorkload):
        words += [
            f"{workload.method} {workload.weight_dtype}", f"batch {workload.batch_size}",
            f"checkpointing {workload.gradient_checkpointing}", workload.optimizer, f"{workload.loss} loss",
        ]  # fmt: skip
        if spread.cpu_offload != "none":
            words.append(f"{spread.cpu_offload} on the host")
    else:
        words += [f"{workload.weight_dtype}", f"kv {workload.kv_cache_dtype}", f"{workload.concurrency} at once"]
    return ", ".join(words)


def as_json(result: SearchResult) -> str:
    """Ranked plans, front and near misses with their choices and prices."""
    document = {
        "schema": SCHEMA,
        "model": result.request.model,
        "ranked_by": result.objective,
        "num_candidates": result.num_candidates,
        "num_feasible": result.num_feasible,
        "plans": [candidate.row() for candidate in result.candidates],
        "pareto": [candidate.row() for candidate in result.pareto],
        "near_misses": [
            {"kind": miss.kind, "reason": miss.reason, "plan": miss.candidate.row()} for miss in result.near_misses
        ],
        "notes": list(result.notes),
    }
    return json.dumps(document, indent=2)


def as_csv(result: SearchResult) -> str:
    """The ranked plans, one per line."""
    out = io.StringIO()
    rows = [candidate.row() for candidate in result.candidates]
    if rows:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def solutions_text(solutions: tuple[Solution, ...], top: int) -> str:
    """The largest value per kind of GPU."""
    if not solutions:
        return "nothing is offered within the limits"
    rows = [
        ("GPUs", f"largest {solutions[0].unknown}", "if memory is as expected", "USD/h"),
        *(
            (
                f"{solution.num_gpus} x {solution.gpu.name}",
                f"{solution.largest:,}",
                f"{solution.largest_expected:,}",
                _usd(solution.usd_per_hour),
            )
            for solution in solutions[:top]
        ),
    ]
    return "\n".join(columns(rows, right=(1, 2, 3)))


def solutions_json(solutions: tuple[Solution, ...]) -> str:
    """The same as JSON."""
    return json.dumps(
        {
            "schema": "plan-solve/1",
            "solutions": [
                {
                    "gpu": solution.gpu.id,
                    "num_gpus": solution.num_gpus,
                    "unknown": solution.unknown,
                    "largest": solution.largest,
                    "largest_expected": solution.largest_expected,
                    "usd_per_hour": None if solution.usd_per_hour is None else float(solution.usd_per_hour),
                }
                for solution in solutions
            ],
        },
        indent=2,
    )


__all__ = ["as_csv", "as_json", "as_text", "format_count", "solutions_json", "solutions_text"]
