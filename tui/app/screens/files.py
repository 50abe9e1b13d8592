"""Keep the request in a file and open one again."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from planner.errors import PlannerError, RequestError
from planner.request import PlanRequest
from planner.request_text import document
from tui.app.widgets.line import Line
from tui.files import read_requests, save

DEFAULT_NAME = "request.json"


def path_of(typed: str) -> Path:
    """A path as a person types it, with ``~``; raises RequestError where it names nothing."""
    if not typed.strip():
        raise RequestError("type the path of a file")
    try:
        return Path(typed.strip()).expanduser()
    except RuntimeError:
        raise RequestError(f"{typed.strip()} names a home that is not known here") from None


class FileScreen(ModalScreen[PlanRequest | None]):
    """Asks for a path; returns the request that was opened, None after saving or cancelling."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, to_save: PlanRequest | None) -> None:
        super().__init__()
        self.to_save = to_save

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel -small") as panel:
            panel.border_title = "Save the request as" if self.to_save else "Open a request file"
            yield Line(value=DEFAULT_NAME, id="path")
            yield Label("", classes="reason", id="file-reason", markup=False)
            yield Label("enter does it, esc leaves", classes="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        try:
            path = path_of(event.value)
            if self.to_save is not None:
                save(path, document((self.to_save,)))
                self.app.notify(str(path), title="Saved")
                self.dismiss(None)
            else:
                self.dismiss(read_requests(path)[0])
        except PlannerError as error:
            self.query_one("#file-reason", Label).update(error.message)
