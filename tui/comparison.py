"""Two answers side by side: estimates term by term, and the cheapest rental of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.errors import RequestError
from planner.plan import plan_requests
from tui import request_file
from tui.render.json import SCHEMA_VERSION, document

_HINT = "compare answers of plan --json, or files of plan --save-request"
MAX_FILE_BYTES = 50_000_000
NO_TERM = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTerm:
    """A term of an answer that was read from a file."""

    label: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEstimate:
    task: str
    method: str | None
    tier: str
    label: str | None
    quantity: str
    phase: str
    num_gpus: int
    low_bytes: int
    expected_bytes: int
    high_bytes: int
    terms: tuple[AnswerTerm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFit:
    task: str
    method: str | None
    tier: str
    gpu: str
    num_gpus: int
    verdict: str
    usd_per_hour: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a comparison reads of an answer."""

    name: str
    model: str
    estimates: tuple[AnswerEstimate, ...]
    fits: tuple[AnswerFit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One term on both sides; None where a side has no such term."""

    label: str
    first_bytes: int | None
    second_bytes: int | None

    @property
    def difference_bytes(self) -> int:
        return (self.second_bytes or NO_TERM) - (self.first_bytes or NO_TERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An estimate of the first answer against the one of the second that answers the same sort of question."""

    first: AnswerEstimate
    second: AnswerEstimate
    first_fit: AnswerFit | None
    second_fit: AnswerFit | None
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    first: Answer
    second: Answer
    pairs: tuple[Pair, ...]
    unpaired: tuple[str, ...]
    """Estimates only one side has, in words."""


def load(path: Path) -> Answer:
    """An answer of ``plan --json``, or the answer to a request file, which is worked out now."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RequestError(f"{path} is too large for an answer", hint=_HINT)
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}", hint=_HINT) from None
    except (ValueError, RecursionError):
        raise RequestError(f"{path} is not JSON", hint=_HINT) from None
    if isinstance(content, dict) and "requests" in content:
        content = document(plan_requests(request_file.parse(text, str(path))))
    return _answer(content, path)


def _answer(content: Any, path: Path) -> Answer:
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise RequestError(f"{path} is no answer of version {SCHEMA_VERSION}", hint=_HINT)
    model = content.get("model")
    named = {
        "name": path.name,
        "model": (model.get("name") or "known by size") if isinstance(model, dict) else None,
        "estimates": content.get("estimates"),
        "fits": content.get("fits"),
    }
    try:
        return TypeAdapter(Answer).validate_python(named)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{path}: {field}: {first['msg'].lower()}", hint=_HINT) from None


def compare(first: Answer, second: Answer) -> Comparison:
    """Pairs estimates of one tier: the same method where both have it, else the same task."""
    left, right = list(first.estimates), list(second.estimates)
    pairs = []
    for same in (_same_method, _same_task):
        for one in tuple(left):
            other = next((candidate for candidate in right if same(one, candidate)), None)
            if other is not None:
                left.remove(one)
                right.remove(other)
                pairs.append(_pair(first, one, second, other))
    unpaired = [f"{_name(one)} only in {first.name}" for one in left]
    unpaired += [f"{_name(one)} only in {second.name}" for one in right]
    return Comparison(first=first, second=second, pairs=tuple(pairs), unpaired=tuple(unpaired))


def _same_method(one: AnswerEstimate, other: AnswerEstimate) -> bool:
    return _same_task(one, other) and one.method == other.method


def _same_task(one: AnswerEstimate, other: AnswerEstimate) -> bool:
    return (one.tier, one.task, one.label) == (other.tier, other.task, other.label)


def _pair(first: Answer, one: AnswerEstimate, second: Answer, other: AnswerEstimate) -> Pair:
    left = _sizes(one)
    right = _sizes(other)
    rows = tuple(
        Row(label=label, first_bytes=left.get(label), second_bytes=right.get(label))
        for label in dict.fromkeys((*left, *right))
    )
    return Pair(
        first=one, second=other, first_fit=_cheapest(first, one), second_fit=_cheapest(second, other), rows=rows
    )


def _sizes(estimate: AnswerEstimate) -> dict[str, int]:
    """Bytes by label; terms that share a label are added."""
    sizes: dict[str, int] = {}
    for term in estimate.terms:
        sizes[term.label] = sizes.get(term.label, 0) + term.size_bytes
    return {label: size_bytes for label, size_bytes in sizes.items() if size_bytes}


def _cheapest(answer: Answer, estimate: AnswerEstimate) -> AnswerFit | None:
    """The least dear rental on which even the high end fits."""
    about = (estimate.tier, estimate.task, estimate.method)
    held = [
        fit
        for fit in answer.fits
        if (fit.tier, fit.task, fit.method) == about and fit.verdict == "FITS" and fit.usd_per_hour is not None
    ]
    return min(held, key=lambda fit: fit.usd_per_hour or 0.0, default=None)


def _name(estimate: AnswerEstimate) -> str:
    return " ".join(filter(None, (estimate.task, estimate.method, estimate.tier, estimate.label)))
