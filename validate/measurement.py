"""One measurement: what was asked, where, what was predicted and what was read. Identified by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from planner.errors import RequestError
from planner.quantity import Quantity, Tier
from validate.measure.environment import Environment
from validate.measure.spec import RunResult, RunSpec

if TYPE_CHECKING:
    from pydantic import TypeAdapter

OWN = "own"
"""Origin of what was measured on this machine; imported rows carry the name of their file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was said before the run: a peak of one counter, in bytes on the worst rank."""

    tier: Tier
    quantity: Quantity
    low_bytes: int
    expected_bytes: int
    high_bytes: int
    phase: str
    calibrated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A row of the store and a line of a shared file. ``id`` is a digest of the line without id and origin.

    The line as first written is what is kept and shared: later versions may add fields with defaults, and neither
    the digest nor the words of an older line change with them.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    version: int = 1
    made_at: str
    """UTC, ISO 8601."""
    command: str
    """That made it, so that it can be made again."""
    environment: Environment
    spec: RunSpec
    result: RunResult
    predictions: tuple[Prediction, ...] = field(default=())
    id: str = ""
    origin: str = OWN

    def identified(self) -> Measurement:
        """This measurement with its id."""
        return replace(self, id=digest(to_json(self)))

    def predicted(self, tier: Tier, quantity: Quantity) -> Prediction | None:
        """The prediction of one tier for one counter."""
        for prediction in self.predictions:
            if prediction.tier == tier and prediction.quantity == quantity:
                return prediction
        return None


def outermost(quantities: Iterable[Quantity]) -> Quantity:
    """The counter that contains the others; at least one is needed."""
    return max(quantities, key=list(Quantity).index)


@cache
def _adapter() -> TypeAdapter[Measurement]:
    from pydantic import TypeAdapter

    return TypeAdapter(Measurement)


def digest(line: str | bytes) -> str:
    """Forty hexadecimal digits of a measurement's line, whatever its id and origin."""
    values = json.loads(line)
    for name in ("id", "origin"):
        values.pop(name, None)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:40]


def to_json(measurement: Measurement) -> str:
    """One line of JSON."""
    return _adapter().dump_json(measurement).decode()


def from_json(text: str | bytes) -> Measurement:
    """A measurement from a file or the store; raises RequestError for anything that is not one, or was altered."""
    from pydantic import ValidationError

    try:
        measurement = _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        raise RequestError(f"this is not a measurement: {where}: {first['msg'].lower()}") from None
    if measurement.version != 1:
        raise RequestError(f"measurement of format version {measurement.version}", hint="upgrade gpu-planner")
    if measurement.id != digest(text):
        raise RequestError(f"measurement {measurement.id[:12] or 'without id'} does not match its own content")
    negative = [reading.phase for reading in measurement.result.phases if reading.allocated_bytes < 0]
    if negative:
        raise RequestError(f"measurement {measurement.id[:12]}: negative bytes in {negative[0]}")
    return measurement
