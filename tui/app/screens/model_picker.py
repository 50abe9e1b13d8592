"""Find a model: by a few words of any known name, or a directory with config.json, or a hub id."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from planner.errors import PlannerError
from planner.model.finder import alias_for, find_models
from planner.model.registry import RegistryEntry, find, resolve
from planner.units import format_count
from tui.app.cells import shortened
from tui.app.widgets.line import Line

MOST_SHOWN = 200
NAME_WIDTH, COUNT_WIDTH = 46, 9
HINT = "Any other: a hub id, a directory with config.json, or params:7B"


class ModelPicker(ModalScreen[str | None]):
    """Returns the chosen name, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("down", "move(1)", "Next", show=False),
        Binding("up", "move(-1)", "Previous", show=False),
        Binding("pagedown", "move(10)", "Further", show=False),
        Binding("pageup", "move(-10)", "Back", show=False),
    ]

    def __init__(self, query: str = "") -> None:
        super().__init__()
        self.query_at_first = query

    def compose(self) -> ComposeResult:
        with Vertical(id="picker"):
            yield Line(value=self.query_at_first, placeholder="llama 70b", id="picker-query")
            yield Label("", id="picker-found", classes="hint", markup=False)
            yield OptionList(id="picker-list", markup=False)
            yield Label("", id="picker-reason", markup=False)
            yield Label(HINT, classes="hint", markup=False)

    def on_mount(self) -> None:
        self.query_one("#picker").border_title = "Model: type to search"
        self._search(self.query_at_first)

    def _search(self, query: str) -> None:
        found = find_models(query)
        shown = found.matching[:MOST_SHOWN] or found.near
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(_line(entry, query), id=entry.id) for entry in shown)
        options.highlighted = 0 if found.matching else None
        count = len(found.matching)
        if count:
            told = f"{count} models" if count > 1 else "1 model"
        else:
            told = "no such open model is known" + ("; of a like name:" if found.near else "")
        self.query_one("#picker-found", Label).update(told)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._refuse("")
        self._search(event.value)

    def action_move(self, step: int) -> None:
        options = self.query_one(OptionList)
        if options.option_count:
            start = options.highlighted if options.highlighted is not None else -1 if step > 0 else 0
            options.highlighted = max(0, min(options.option_count - 1, start + step))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        typed = event.value.strip()
        options = self.query_one(OptionList)
        looks_exact = "/" in typed or typed.startswith("params:") or options.highlighted is None
        if looks_exact and typed:
            self._take(typed)
        elif options.highlighted is not None:
            self._take(str(options.get_option_at_index(options.highlighted).id))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self._take(str(event.option.id))

    def _take(self, name: str) -> None:
        if find(name) is not None:
            self.dismiss(name)
            return
        self._refuse(f"asking for {name} …")
        self._resolve(name)

    @work(thread=True, exclusive=True)
    def _resolve(self, name: str) -> None:
        """A file or the hub may take its time; the line stays open for typing."""
        try:
            resolve(name)
        except PlannerError as error:
            self.app.call_from_thread(self._refuse, f"{error.message} {error.hint or ''}")
        else:
            self.app.call_from_thread(self._found, name)

    def _found(self, name: str) -> None:
        if self.is_current:
            self.dismiss(name)

    def _refuse(self, reason: str) -> None:
        self.query_one("#picker-reason", Label).update(reason)


def _line(entry: RegistryEntry, query: str) -> str:
    """A model with its size, and the alias that was typed where its own name does not say it."""
    line = f"{shortened(entry.id, NAME_WIDTH):<{NAME_WIDTH}} {format_count(entry.params_total):>{COUNT_WIDTH}}"
    alias = alias_for(query, entry)
    return f"{line}  {alias}" if alias else line
