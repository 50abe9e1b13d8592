"""Write the files that run the selected plan."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList, Static
from textual.widgets.option_list import Option

from planner.errors import PlannerError
from planner.export import TARGETS, export
from planner.request import PlanRequest
from tui.app.screens.files import path_of
from tui.app.widgets.line import Line
from tui.files import save


class ExportScreen(ModalScreen[None]):
    """Targets left, their files right; enter in the path writes them."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Back")]

    def __init__(self, request: PlanRequest) -> None:
        super().__init__()
        self.request = request
        self.files: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel") as panel:
            panel.border_title = "Export: choose what runs the plan, then a folder to write into"
            with Horizontal(id="export-body"):
                yield OptionList(*(Option(target, id=target) for target in TARGETS), id="targets")
                with VerticalScroll(id="preview-box"):
                    yield Static("", id="preview", markup=False)
            yield Line(value="plan-files", id="folder")
            yield Label("", classes="reason", id="export-reason", markup=False)
            yield Label("enter chooses, enter in the folder's line writes, esc leaves", classes="hint")

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        try:
            self.files = export(self.request, str(event.option.id))
            shown = "\n".join(f"# ---- {name}\n{text}" for name, text in self.files.items())
            reason = ""
        except PlannerError as error:
            self.files, shown = {}, ""
            reason = error.message + (f" ({error.hint})" if error.hint else "")
        self.query_one("#preview", Static).update(shown)
        self.query_one("#export-reason", Label).update(reason)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.query_one("#folder", Line).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        try:
            folder = path_of(event.value)
        except PlannerError as error:
            self.query_one("#export-reason", Label).update(error.message)
            return
        existing = [name for name in self.files if (folder / name).exists()]
        if not self.files or existing:
            why = f"{folder / existing[0]} exists: name another folder" if existing else "nothing to write"
            self.query_one("#export-reason", Label).update(why)
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in self.files.items():
                save(folder / name, text)
        except (OSError, PlannerError) as error:
            self.query_one("#export-reason", Label).update(str(error))
            return
        self.app.notify(", ".join(self.files), title=f"Written to {folder}")
        self.dismiss()
