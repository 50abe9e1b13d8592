"""Memory, count and price of the selected GPU while one knob is turned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from planner.errors import PlannerError
from planner.request import PlanRequest
from tui.app.knob import Knob
from tui.app.knobs import KNOBS
from tui.app.rows import GpuRow
from tui.app.widgets.plots import WhatIfPoint, what_if_bars

STEPS_EACH_WAY = 5
LEGEND = "█ certainly needed  ▒ perhaps needed  · free  ▶ more than the GPU has"
RowOf = Callable[[PlanRequest], GpuRow]


def values_of(knob: Knob, request: PlanRequest) -> list[PlanRequest]:
    """The request at every choice of the knob, or at five halvings and doublings around its value."""
    if knob.choices:
        return [knob.write(request, choice) for choice in knob.choices]
    start = max(1, int(knob.read(request)))
    numbers = sorted({max(knob.minimum, start >> i) for i in range(STEPS_EACH_WAY + 1)})
    numbers += [start << i for i in range(1, STEPS_EACH_WAY + 1)]
    return [knob.write(request, number) for number in numbers if number > 0]


def points_of(knob: Knob, request: PlanRequest, row_of: RowOf) -> list[WhatIfPoint]:
    """One point per value that can be planned; the others are left out."""
    current = knob.text(request)
    points = []
    for turned in values_of(knob, request):
        try:
            row = row_of(turned)
        except PlannerError:
            continue
        text = knob.text(turned)
        points.append(WhatIfPoint(value=text, row=row, is_current=text == current))
    return points


def curves(request: PlanRequest) -> tuple[Knob, ...]:
    """Knobs worth a curve for this request."""
    worth = (
        "batch",
        "seq",
        "rank",
        "concurrency",
        "prompt",
        "weights",
        "method",
        "checkpointing",
        "optimizer",
        "loss",
        "gpus",
    )
    return tuple(knob for knob in KNOBS if knob.key in worth and knob.applies(request))


class WhatIfScreen(ModalScreen[None]):
    """Bars for one knob; left and right change which."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,w", "dismiss", "Back"),
        Binding("left", "turn(-1)", "Previous knob", priority=True),
        Binding("right", "turn(1)", "Next knob", priority=True),
    ]

    def __init__(self, request: PlanRequest, gpu: str, key: str, row_of: RowOf) -> None:
        super().__init__()
        self.request, self.gpu, self.row_of = request, gpu, row_of
        self.knobs: Sequence[Knob] = curves(request)
        keys = [knob.key for knob in self.knobs]
        self.position = keys.index(key) if key in keys else 0

    def compose(self) -> ComposeResult:
        yield Static("", classes="screen-title", id="what-if-title", markup=False)
        with VerticalScroll(id="what-if-box"):
            yield Static("", id="what-if")
        yield Static(LEGEND, classes="legend", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self._show()

    def on_resize(self) -> None:
        self._show()

    def action_turn(self, step: int) -> None:
        self.position = (self.position + step) % len(self.knobs)
        self._show()

    def _show(self) -> None:
        knob = self.knobs[self.position]
        self.query_one("#what-if-title", Static).update(
            f"What if: {knob.label} on {self.gpu}   ‹ {self.position + 1} of {len(self.knobs)} ›"
        )
        points = points_of(knob, self.request, self.row_of)
        self.query_one("#what-if", Static).update(what_if_bars(knob.label, points, self.size.width - 4))
