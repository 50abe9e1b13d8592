"""The full-screen application around a desk."""

from __future__ import annotations

import gc
from typing import ClassVar

from textual.binding import Binding, BindingType

from tui.app.desk import Desk
from tui.app.screens.main import MainScreen
from tui.app.typeahead import TypeAheadApp


def _leave_the_catalogue_alone() -> None:
    """Keep what is loaded once out of later collections, which else stall a key press now and then."""
    gc.collect()
    gc.freeze()


class PlannerApp(TypeAheadApp[str | None]):
    """Pick GPUs for a job."""

    TITLE = "gpu-planner"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", priority=True),
        Binding("f1,question_mark", "help", "Help"),
    ]

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (50, "-narrow"), (100, "-wide"), (160, "-broad")]
        self.VERTICAL_BREAKPOINTS = [(0, "-low"), (14, "-short"), (30, "-tall")]
        self.desk = desk

    def on_mount(self) -> None:
        self.desk.read_local_gpus()
        self.push_screen(MainScreen(self.desk))
        self.call_after_refresh(_leave_the_catalogue_alone)

    def action_help(self) -> None:
        from tui.app.screens.help import HelpScreen

        self.push_screen(HelpScreen())
