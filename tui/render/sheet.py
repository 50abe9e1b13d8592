"""What a plan says, in words and rows; plain text, rich tables and reports all set the same sheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from planner.answer import REFERENCE_GPUS
from planner.citation import Citation
from planner.fit import Fit, Verdict
from planner.growth import growth
from planner.memory.estimate import Estimate
from planner.plan import Plan
from planner.quantity import Tier
from planner.rental import age_days
from planner.request import PlanRequest, TrainingWorkload
from planner.units import format_bytes, format_count, format_gb, format_gib
from planner.vocabulary import PROMPT_METHODS, RANKED_METHODS
from tui.render import speed

if TYPE_CHECKING:
    from planner.plan import Remedy

RENTAL = ("USD/h", "rented from, price of")
WORDS = frozenset({"GPUs", "verdict", *RENTAL[1:]})
"""Columns of fits that hold words; the others hold numbers."""
TERM_NUMBERS = frozenset({1, 2})


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The terms live at the peak of one estimate, which add up to its last row."""

    heading: str
    rows: tuple[tuple[str, ...], ...]
    sources: tuple[str, ...]
    """Numbered as the rows refer to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advised:
    """What to change on one kind of GPU: the change, what it saves, its speed, its other price."""

    heading: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One question and its answer."""

    heading: str
    facts: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    fits: tuple[tuple[str, ...], ...]
    """Rows under ``columns``."""
    explained: tuple[Explained, ...]
    advised: tuple[Advised, ...] = ()
    tells_speed: bool = False

    @property
    def numbers(self) -> frozenset[int]:
        """Columns that hold numbers."""
        return frozenset(index for index, name in enumerate(self.columns) if name not in WORDS)


def title(plan: Plan) -> str:
    if plan.model is None:
        return f"a model of {format_count(plan.num_params_named)} parameters, known by size alone"
    active = f", {format_count(plan.model.params_active)} active" if is_sparse(plan) else ""
    asked = plan.requests[0].model
    copy = "/" in asked and asked.lower() != plan.model.name.lower() and not Path(asked).exists()
    name = f"{asked} (the shape of {plan.model.name})" if copy else plan.model.name
    return f"{name}: {format_count(plan.model.params_total)} parameters{active}"


def is_sparse(plan: Plan) -> bool:
    return plan.model is not None and plan.model.params_active < plan.model.params_total


def blocks(plan: Plan) -> tuple[Block, ...]:
    """One block per question, and one for rules that belong to none of them."""
    found = []
    told: list[Estimate] = []
    for request in plan.requests:
        estimates, fits = plan.estimates_of(request), plan.fits_of(request)
        told += estimates
        own = [fit for fit in fits if fit.estimate.tier is not Tier.RULE]
        facts = (*_facts(estimates, fits, known=plan.model is not None), *_largest(plan, request))
        found.append(
            Block(
                heading=describe(request),
                facts=(*facts, *speed.facts(own)),
                columns=(
                    "GPUs",
                    "verdict",
                    "each needs",
                    "of",
                    *speed.columns(own),
                    "USD/h",
                    "rented from, price of",
                ),
                fits=tuple(_row(fit, speed.cells(fit, own)) for fit in own),
                explained=tuple(_explained(estimate) for estimate in estimates),
                tells_speed=bool(speed.columns(own)),
                advised=tuple(_advised(remedy) for remedy in plan.remedies if remedy.fit in fits),
            )
        )
    rest = [estimate for estimate in plan.estimates if estimate not in told]
    if rest:
        found.append(
            Block(
                heading="rules of thumb, everything at 32 bits",
                facts=tuple(
                    (_at_32_bits(estimate), f"{format_gb(estimate.expected_bytes)} in all") for estimate in rest
                ),
                columns=(),
                fits=(),
                explained=tuple(_explained(estimate) for estimate in rest),
            )
        )
    return tuple(found)


def describe(request: PlanRequest) -> str:
    """The workload in one line."""
    work = request.workload
    if not isinstance(work, TrainingWorkload):
        requests = "1 request" if work.concurrency == 1 else f"{work.concurrency:,} requests"
        tokens = f"{work.prompt_tokens:,} + {work.output_tokens:,} tokens"
        return f"serve: {requests} of {tokens}, {work.weight_dtype} weights, {work.engine}"
    parts = [
        f"train {work.method}: batch {work.batch_size:,} x {work.seq_len:,} tokens",
        f"{work.weight_dtype} weights",
    ]
    if work.method in RANKED_METHODS:
        targets = work.adapter.target_modules
        names = targets if isinstance(targets, str) else ",".join(targets)
        parts.append(f"rank {work.adapter.rank} on {names}")
    if work.method in PROMPT_METHODS:
        parts.append(f"{work.adapter.num_virtual_tokens} virtual tokens")
    kept = (
        "no checkpointing"
        if work.gradient_checkpointing == "none"
        else f"{work.gradient_checkpointing} checkpointing"
    )
    parts += [work.optimizer, kept, *([] if work.objective == "sft" else [work.objective])]
    return ", ".join(parts)


def _facts(estimates: tuple[Estimate, ...], fits: tuple[Fit, ...], *, known: bool) -> tuple[tuple[str, str], ...]:
    facts = []
    rules = [estimate for estimate in estimates if estimate.tier is Tier.RULE]
    for estimate in rules:
        counts = "" if estimate.label else _counts_by_rule(fits)
        facts.append((_name(estimate), f"{format_gb(estimate.expected_bytes)} in all{counts}"))
    if not rules:
        facts.append(("rule", "the documents have none for this"))
    if not known:
        facts.append(("estimate", "none: a size says nothing of layers, heads and vocabulary; name a model"))
    for estimate in estimates:
        if estimate.tier is Tier.RULE:
            continue
        gpus = "" if estimate.num_gpus == 1 else f" on each of {estimate.num_gpus} GPUs"
        interval = f"({format_gib(estimate.low_bytes)} to {format_gib(estimate.high_bytes)})"
        text = f"{format_gib(estimate.expected_bytes)} {interval}{gpus}"
        text += f", {estimate.quantity} memory, peak in {estimate.phase}"
        facts.append(("estimate" if estimate.tier is Tier.ANALYTIC else estimate.tier.value, text))
        if estimate.calibration:
            facts.append(("", estimate.calibration))
    return tuple(facts)


def _largest(plan: Plan, request: PlanRequest) -> tuple[tuple[str, str], ...]:
    found = growth(plan, request)
    if found is None:
        return ()
    many, long = ("batch", "sequence") if request.task == "train" else ("requests at once", "prompt")
    end = ", where the context ends" if found.length.limited_by_model else ""
    where = f"{found.fit.num_gpus} x {found.fit.gpu.name}"
    text = f"{many} {found.width.largest:,}, or {long} {found.length.largest:,} tokens{end}, on {where}"
    return (("largest", text),)


def _name(estimate: Estimate) -> str:
    return f"rule, {estimate.label}" if estimate.label else "rule"


def _at_32_bits(estimate: Estimate) -> str:
    return estimate.label or "full fine-tuning"


def _counts_by_rule(fits: tuple[Fit, ...]) -> str:
    held = [fit for fit in fits if fit.estimate.tier is Tier.RULE and fit.verdict is not Verdict.DOES_NOT_FIT]
    held = [fit for fit in held if fit.gpu.id in REFERENCE_GPUS] or held
    names = ", ".join(f"{fit.num_gpus} x {fit.gpu.name}" for fit in held)
    return f", held by {names}" if names else ""


def _row(fit: Fit, speeds: tuple[str, ...]) -> tuple[str, ...]:
    price = fit.usd_per_hour
    tier = "" if fit.estimate.tier is Tier.ANALYTIC else f" by {fit.estimate.tier}"
    return (
        f"{fit.num_gpus} x {fit.gpu.name}{tier}",
        fit.verdict.value.replace("_", " "),
        format_gib(fit.estimate.expected_bytes),
        format_gib(fit.gpu.memory_bytes),
        *speeds,
        "-" if price is None else f"{price:,.2f}",
        rented_from(fit),
    )


def rented_from(fit: Fit) -> str:
    """Provider, instance and the day of the price."""
    offer = fit.offer
    if offer is None:
        return "no price known"
    times = f" x {fit.num_instances}" if fit.num_instances > 1 else ""
    spare = f", {offer.num_gpus} GPUs" if offer.num_gpus * fit.num_instances > fit.num_gpus else ""
    spot = ", spot" if offer.spot else ""
    return f"{offer.provider} {offer.instance_type}".strip() + f"{times}{spare}{spot}, {price_date(fit)}"


def price_date(fit: Fit) -> str:
    """The day the price was read and its age, or what the source says in place of a day."""
    if fit.offer is None:
        return ""
    age = age_days(fit.offer)
    return fit.offer.as_of_text if age is None else f"{fit.offer.as_of} ({age} days)"


def _advised(remedy: Remedy) -> Advised:
    from tui.render import advice

    fit, changes = remedy.fit, advice.rows(remedy.advice, advice.CHANGES_SHOWN)
    where = f"{fit.num_gpus} x {fit.gpu.name}"
    if fit.verdict is Verdict.FITS:
        heading = f"what saves more on {where}" if changes else f"nothing tried saves more on {where}"
    else:
        heading = f"would fit {where} with" if changes else f"nothing tried makes it fit {where}"
    return Advised(heading=heading, rows=changes)


def _explained(estimate: Estimate) -> Explained:
    what = " ".join(filter(None, (estimate.task, estimate.method)))
    heading = f"{what}, {_name(estimate) if estimate.tier is Tier.RULE else f'{estimate.tier}, {estimate.phase}'}"
    show = format_gb if estimate.tier is Tier.RULE else format_bytes
    numbers: dict[Citation, int] = {}
    rows = []
    for term in estimate.terms:
        if term.size_bytes:
            number = numbers.setdefault(term.source, len(numbers) + 1)
            size = (show(term.size_bytes), f"{term.size_bytes:,} B")
            rows.append((term.label, *size, f"= {term.formula}", inputs_text(term.inputs), f"[{number}]"))
    rows.append(("peak", show(estimate.expected_bytes), f"{estimate.expected_bytes:,} B", "= sum", "", ""))
    sources = tuple(f"[{number}] {source.title} {source.url or ''}".strip() for source, number in numbers.items())
    return Explained(heading=heading, rows=tuple(rows), sources=sources)


def inputs_text(inputs: Mapping[str, object]) -> str:
    """The values of a formula's symbols."""
    return ", ".join(
        f"{name} = {value:,}" if isinstance(value, int) else f"{name} = {value}" for name, value in inputs.items()
    )
