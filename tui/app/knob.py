"""A knob: one value of a request that can be turned or typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from planner.errors import RequestError
from planner.request import PlanRequest
from planner.units import exact_count, parse_count

Value = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One line of the job panel. ``choices`` empty: a number that arrows double and halve."""

    key: str
    label: str
    group: str
    read: Callable[[PlanRequest], Value]
    write: Callable[[PlanRequest, Value], PlanRequest]
    choices: tuple[Value, ...] = ()
    applies: Callable[[PlanRequest], bool] = lambda request: True
    minimum: int = 1
    unset: str = ""
    """What 0 reads as where it means that nothing is set."""
    first: int = 1
    """The first notch up from 0."""

    def text(self, request: PlanRequest) -> str:
        value = self.read(request)
        if isinstance(value, bool):
            return "yes" if value else "no"
        if value == 0 and self.unset:
            return self.unset
        if isinstance(value, int) and value >= 1_000_000:
            return exact_count(value)
        return str(value)

    def turn(self, request: PlanRequest, direction: int) -> PlanRequest:
        """The request one notch further; numbers move by a factor of two."""
        value = self.read(request)
        if self.choices:
            position = self.choices.index(value) if value in self.choices else -direction
            return self.write(request, self.choices[(position + direction) % len(self.choices)])
        number = int(value)
        turned = number * 2 if direction > 0 else number // 2
        return self.write(request, max(self.minimum, turned or (self.first if direction > 0 else self.minimum)))

    def typed(self, request: PlanRequest, text: str) -> PlanRequest:
        """The request with what a person typed; RequestError says why it is refused."""
        text = text.strip()
        if self.choices:
            named = {str(self._word(choice)).lower(): choice for choice in self.choices}
            matches = [choice for word, choice in named.items() if word.startswith(text.lower())]
            if text.lower() in named:
                matches = [named[text.lower()]]
            if not text or len(matches) != 1:
                raise RequestError(f"{self.label}: one of {', '.join(named)}")
            return self.write(request, matches[0])
        number = parse_count(text)
        if number < self.minimum:
            raise RequestError(f"{self.label} must be at least {self.minimum}")
        return self.write(request, number)

    @staticmethod
    def _word(choice: Value) -> Value:
        return {True: "yes", False: "no"}[choice] if isinstance(choice, bool) else choice
