"""What was measured on this machine, and what answers are calibrated on."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option

from planner import calibration_file
from planner.errors import PlannerError
from validate.measurement import Measurement
from validate.store import Store

MOST_SHOWN = 200


def calibration_words() -> str:
    """One line on the calibration in force."""
    try:
        learnt = calibration_file.load()
    except PlannerError as error:
        return error.message
    own = sum(entry.num_runs for entry in learnt.corrections)
    corrected = f"corrected by {own} measured runs" if own else "no corrections measured on this machine yet"
    return f"Calibration: {corrected}; intervals from published measurements."


class HistoryScreen(ModalScreen[None]):
    """Measurements, newest first; enter shows one whole."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,h", "dismiss", "Back")]

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Measurement] = {}

    def compose(self) -> ComposeResult:
        yield Static("Measurements of this machine", classes="screen-title")
        yield Static(calibration_words(), id="calibration", markup=False)
        yield OptionList(id="measurements")
        with VerticalScroll(id="measurement-box"):
            yield Static("", id="measurement", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        from tui.render.measured import history_line

        note = self.query_one("#measurement", Static)
        try:
            store = Store()
            self.found = {row.id: row for row in store.all(limit=MOST_SHOWN)}
            notices = store.notices
        except PlannerError as error:
            note.update(error.message)
            return
        options = self.query_one(OptionList)
        options.set_class(not self.found, "-empty")
        options.add_options(Option(history_line(row), id=row.id) for row in self.found.values())
        empty = () if self.found else ("Nothing measured yet: r on the main screen, then v.",)
        note.update("\n".join((*notices, *empty)))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        from tui.render.measured import stored

        self.query_one("#measurement", Static).update(stored(self.found[str(event.option.id)]))
