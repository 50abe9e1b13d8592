"""What to change on the selected GPU, cheapest first, with what each change saves; enter applies one."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option

from planner.advice import Advice, Change
from planner.request import PlanRequest
from planner.units import format_gib


def change_line(change: Change) -> str:
    """One change: what, what it saves, what it costs."""
    parts = [" + ".join(change.labels), f"saves {format_gib(change.saved_bytes)}"]
    if change.slowdown is not None and abs(change.slowdown - 1) >= 0.005:
        parts.append(f"{change.slowdown:.2f} × the GPU time")
    return " · ".join([*parts, *change.costs])


class AdviceScreen(ModalScreen[PlanRequest | None]):
    """Returns the request with the chosen change applied, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,a", "dismiss(None)", "Back")]

    def __init__(self, request: PlanRequest, gpu: str, advice: Advice) -> None:
        super().__init__()
        self.request, self.gpu, self.advice = request, gpu, advice

    def compose(self) -> ComposeResult:
        what = "would save more" if self.advice.fits else "would make it fit"
        yield Static(f"What {what} on {self.gpu}: enter applies a line", classes="screen-title", markup=False)
        yield OptionList(
            *(Option(change_line(change), id=str(i)) for i, change in enumerate(self.advice.changes)),
            id="changes",
            markup=False,
        )
        yield Static("\n".join(f"! {warned.text}" for warned in self.advice.warnings), id="warnings", markup=False)
        yield Footer()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        change = self.advice.changes[int(str(event.option.id))]
        spread = change.parallelism if self.request.parallelism is not None else None
        self.dismiss(replace(self.request, workload=change.workload, parallelism=spread))
