"""From request to plan: the one walk every front end takes."""

from __future__ import annotations

from dataclasses import dataclass

from planner.estimate import Estimate
from planner.fit import Fit
from planner.model.architecture import ModelArchitecture
from planner.request import PlanRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole answer to one or more requests about one model."""

    requests: tuple[PlanRequest, ...]
    model: ModelArchitecture | None
    """None where only a parameter count is known."""
    num_params_named: int
    """Parameters as the model is named (70B -> 70e9): the P of the rule tier."""
    estimates: tuple[Estimate, ...]
    fits: tuple[Fit, ...]
    warnings: tuple[str, ...]
