"""The world around the app: the day, this machine's GPUs, prices, and what answers. Tests put a known one here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import planner.board
from hardware_db import catalog
from hardware_db.gpu import Gpu
from planner.request import PlanRequest
from planner.speeds import speed_of
from tui.app.costs import OffersOf, SpeedOf
from tui.app.local_gpus import LocalGpus, local_gpus

Ask = Callable[[PlanRequest, Sequence[Gpu] | None], planner.board.Board]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Each field is a question; the defaults are the real answers."""

    today: Callable[[], date] = date.today
    probe: Callable[[], LocalGpus] = local_gpus
    ask: Ask = planner.board.board
    offers_of: OffersOf = catalog.offers_for
    speed_of: SpeedOf = speed_of
