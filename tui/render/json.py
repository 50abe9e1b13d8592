"""A plan as JSON, in the schema of ``docs/json-schema.md``: whole bytes, USD, ISO dates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from planner.fit import Fit
from planner.jsonable import jsonable
from planner.memory.breakdown import MemoryTerm
from planner.memory.estimate import Estimate
from planner.plan import Plan
from planner.rental import age_days
from tui.command_line import command_text
from tui.render import speed

if TYPE_CHECKING:
    from planner.plan import Remedy
    from planner.request import PlanRequest

SCHEMA_VERSION = 1


def render(plan: Plan) -> str:
    return json.dumps(document(plan), indent=2, ensure_ascii=False)


def document(plan: Plan) -> dict[str, Any]:
    """The plan as plain values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "request": {
            "model": plan.requests[0].model,
            "questions": [
                {"task": request.task, "command": command_text(request), **jsonable(request)}
                for request in plan.requests
            ],
        },
        "model": _model(plan),
        "estimates": [_estimate(estimate) for estimate in plan.estimates],
        "fits": [_fit(fit) for fit in plan.fits],
        "largest": [largest for request in plan.requests for largest in _largest(plan, request)],
        "advice": [_remedy(remedy) for remedy in plan.remedies],
        "warnings": list(plan.warnings),
    }


def _largest(plan: Plan, request: PlanRequest) -> list[dict[str, Any]]:
    if len(request.hardware.gpus) != 1:
        return []
    from planner.growth import growth

    found = growth(plan, request)
    if found is None:
        return []
    fit = found.fit
    where = {"task": fit.task, "method": fit.method, "gpu_id": fit.gpu.id, "num_gpus": fit.num_gpus}
    return [where | jsonable(capacity) for capacity in (found.width, found.length)]


def _remedy(remedy: Remedy) -> dict[str, Any]:
    from tui.render import advice

    fit = remedy.fit
    return {
        "task": fit.task,
        "method": fit.method,
        "gpu_id": fit.gpu.id,
        "num_gpus": fit.num_gpus,
        "fits": remedy.advice.fits,
        "changes": advice.changes_json(remedy.advice, advice.CHANGES_SHOWN),
    }


def _model(plan: Plan) -> dict[str, Any]:
    model = plan.model
    if model is None:
        return {"name": None, "num_params_named": plan.num_params_named}
    return {
        "name": model.name,
        "model_type": model.model_type,
        "num_params_named": plan.num_params_named,
        "params_total": model.params_total,
        "params_active": model.params_active,
        "num_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.max_position_embeddings,
        "confidence": model.confidence,
        "source": model.source,
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "task": estimate.task,
        "method": estimate.method or None,
        "tier": estimate.tier.value,
        "label": estimate.label or None,
        "quantity": estimate.quantity.value,
        "low_bytes": estimate.low_bytes,
        "expected_bytes": estimate.expected_bytes,
        "high_bytes": estimate.high_bytes,
        "num_gpus": estimate.num_gpus,
        "phase": estimate.phase,
        "calibration": estimate.calibration,
        "terms": [_term(term) for term in estimate.terms],
    }


def _term(term: MemoryTerm) -> dict[str, Any]:
    return {
        "kind": term.kind,
        "label": term.label,
        "size_bytes": term.size_bytes,
        "low_bytes": term.size_bytes if term.low_bytes is None else term.low_bytes,
        "high_bytes": term.size_bytes if term.high_bytes is None else term.high_bytes,
        "formula": term.formula,
        "inputs": jsonable(term.inputs),
        "counts_in": term.counts_in.value,
        "source": {"title": term.source.title, "url": term.source.url},
    }


def _fit(fit: Fit) -> dict[str, Any]:
    price, offer = fit.usd_per_hour, fit.offer
    return {
        "task": fit.task,
        "method": fit.method or None,
        "tier": fit.estimate.tier.value,
        "gpu": fit.gpu.name,
        "gpu_id": fit.gpu.id,
        "num_gpus": fit.num_gpus,
        "parallelism": jsonable(fit.parallelism),
        "verdict": fit.verdict.value,
        "memory_bytes": fit.gpu.memory_bytes,
        "low_bytes": fit.estimate.low_bytes,
        "expected_bytes": fit.estimate.expected_bytes,
        "high_bytes": fit.estimate.high_bytes,
        "headroom_bytes": fit.headroom_bytes,
        "limiting_term": fit.limiting_term,
        "usd_per_hour": None if price is None else float(price),
        "price_as_of": None if offer is None or offer.as_of is None else offer.as_of.isoformat(),
        "price_age_days": None if offer is None else age_days(offer),
        "provider": None if offer is None else offer.provider,
        "instance_type": None if offer is None else offer.instance_type,
        "num_instances": None if offer is None else fit.num_instances,
        "spot": None if offer is None else offer.spot,
        "price_source": None if offer is None else offer.source,
        **speed.as_json(fit),
    }
