"""Find a model: fuzzy over every known name, or a directory with config.json, or a hub id."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.fuzzy import Matcher
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from planner.errors import PlannerError
from planner.model.registry import all_models, resolve
from planner.units import format_count
from tui.app.widgets.line import Line

MOST_SHOWN = 200


class ModelPicker(ModalScreen[str | None]):
    """Returns the chosen name, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("down", "move(1)", "Next", show=False),
        Binding("up", "move(-1)", "Previous", show=False),
        Binding("pagedown", "move(10)", "Further", show=False),
        Binding("pageup", "move(-10)", "Back", show=False),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(id="picker"):
            yield Label("Model: type to search, or a hub id, a directory with config.json, params:7B")
            yield Line(placeholder="llama 70b", id="picker-query")
            yield OptionList(id="picker-list")
            yield Label("", id="picker-reason", markup=False)

    def on_mount(self) -> None:
        self._search("")

    def _search(self, query: str) -> None:
        entries = all_models()
        if query.strip():
            matcher = Matcher(query.strip())
            scored = [
                (max(matcher.match(name) for name in (entry.id, *entry.aliases)), entry) for entry in entries
            ]
            found = [entry for score, entry in sorted(scored, key=lambda pair: -pair[0]) if score > 0]
        else:
            found = list(entries)
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(
            Option(f"{entry.id:<52} {format_count(entry.params_total):>9}", id=entry.id)
            for entry in found[:MOST_SHOWN]
        )
        if found:
            options.highlighted = 0

    def on_input_changed(self, event: Input.Changed) -> None:
        self.query_one("#picker-reason", Label).update("")
        self._search(event.value)

    def action_move(self, step: int) -> None:
        options = self.query_one(OptionList)
        if options.option_count:
            start = options.highlighted if options.highlighted is not None else 0
            options.highlighted = max(0, min(options.option_count - 1, start + step))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        typed = event.value.strip()
        options = self.query_one(OptionList)
        looks_exact = "/" in typed or typed.startswith("params:") or not options.option_count
        if looks_exact and typed:
            self._take(typed)
        elif options.highlighted is not None:
            self._take(str(options.get_option_at_index(options.highlighted).id))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self._take(str(event.option.id))

    def _take(self, name: str) -> None:
        try:
            resolve(name)
        except PlannerError as error:
            self.query_one("#picker-reason", Label).update(f"{error.message} {error.hint or ''}")
            return
        self.dismiss(name)
