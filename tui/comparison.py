"""Two answers side by side: estimates term by term, and the cheapest rental of each."""

from __future__ import annotations

from dataclasses import dataclass


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
        return (self.second_bytes or 0) - (self.first_bytes or 0)


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
