"""The job panel: one line per knob, turned with the arrows or typed in place."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Input, Static

from planner.errors import PlannerError
from planner.request import PlanRequest
from tui.app.knob import Knob
from tui.app.knobs import KNOBS
from tui.app.widgets.line import Line

LABEL_WIDTH = 13


class GroupLine(Static):
    """The title of the knobs below it."""

    def __init__(self, group: str) -> None:
        super().__init__(group, classes="knob-group")
        self.group = group


class KnobLine(Static):
    """One knob: label and value."""

    def __init__(self, knob: Knob) -> None:
        super().__init__(id=f"knob-{knob.key}", classes="knob")
        self.knob = knob
        self.line = ""

    def show(self, request: PlanRequest, *, current: bool) -> None:
        value = self.knob.text(request)
        if self.knob.key == "model":
            value = value.rstrip("/").rsplit("/", 1)[-1]
        mark = "▸" if current else " "
        arrows = ("‹ ", " ›") if current else ("  ", "")
        line = f"{mark}{self.knob.label:<{LABEL_WIDTH}}{arrows[0]}{value}{arrows[1]}"
        if line != self.line:
            self.line = line
            self.set_class(current, "-current")
            self.update(Content(line))


class KnobList(VerticalScroll, can_focus=True):
    """All knobs that apply to the request. Posts ``Turned`` with the new request; owns no other state."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("left,minus", "turn(-1)", "Less", show=False),
        Binding("right,plus", "turn(1)", "More", show=False),
        Binding("enter", "edit", "Type a value", show=False),
        Binding("home", "move(-1000)", "First", show=False),
        Binding("end", "move(1000)", "Last", show=False),
    ]

    class Turned(Message):
        def __init__(self, request: PlanRequest) -> None:
            super().__init__()
            self.request = request

    class PickModel(Message):
        """The model line was activated."""

    class Refused(Message):
        """What was typed is not a value; ``reason`` says why. Empty: the refusal is over."""

        def __init__(self, reason: str) -> None:
            super().__init__()
            self.reason = reason

    def __init__(self, request: PlanRequest, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.request = request
        self.current = KNOBS[0].key
        self.editor: Line | None = None

    def compose(self) -> ComposeResult:
        group = ""
        for knob in KNOBS:
            if knob.group != group:
                group = knob.group
                yield GroupLine(group)
            yield KnobLine(knob)

    def on_mount(self) -> None:
        self.show(self.request)

    def visible_knobs(self) -> list[Knob]:
        return [knob for knob in KNOBS if knob.applies(self.request)]

    def show(self, request: PlanRequest) -> None:
        """Draw ``request``; lines that do not apply to it disappear."""
        self.request = request
        visible = self.visible_knobs()
        if self.current not in {knob.key for knob in visible}:
            self.current = visible[0].key
        groups = {knob.group for knob in visible}
        for title in self.query(GroupLine):
            title.display = title.group in groups
        for line in self.query(KnobLine):
            line.display = line.knob in visible
            if line.display:
                line.show(request, current=line.knob.key == self.current)

    def _line(self, key: str) -> KnobLine:
        return self.query_one(f"#knob-{key}", KnobLine)

    def action_move(self, step: int) -> None:
        visible = self.visible_knobs()
        position = [knob.key for knob in visible].index(self.current)
        self.select(visible[max(0, min(len(visible) - 1, position + step))].key)

    def select(self, key: str) -> None:
        self._line(self.current).show(self.request, current=False)
        self.current = key
        line = self._line(key)
        line.show(self.request, current=True)
        self.scroll_to_widget(line, animate=False)

    def action_turn(self, direction: int) -> None:
        knob = self._line(self.current).knob
        if knob.key == "model":
            self.post_message(self.PickModel())
            return
        self._offer(lambda: knob.turn(self.request, direction))

    async def action_edit(self) -> None:
        """Open an editor below the knob; it has the keys before the next one is read."""
        knob = self._line(self.current).knob
        if knob.key == "model":
            self.post_message(self.PickModel())
            return
        if self.editor is None:
            self.editor = Line(
                value=knob.text(self.request), compact=True, classes="knob-editor", select_on_focus=True
            )
            await self.mount(self.editor, after=self._line(knob.key))
            self.screen.set_focus(self.editor)

    def _offer(self, change: object) -> bool:
        try:
            request = change()  # type: ignore[operator]
        except PlannerError as error:
            self.post_message(self.Refused(error.message))
            return False
        self.post_message(self.Refused(""))
        self.post_message(self.Turned(request))
        return True

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        knob = self._line(self.current).knob
        if self._offer(lambda: knob.typed(self.request, event.value)):
            self.close_editor()

    def on_key(self, event: object) -> None:
        if self.editor is not None and getattr(event, "key", "") == "escape":
            event.stop()  # type: ignore[attr-defined]
            self.post_message(self.Refused(""))
            self.close_editor()

    def close_editor(self) -> None:
        if self.editor is not None:
            self.screen.set_focus(self)
            self.editor.remove()
            self.editor = None

    async def on_click(self, event: Click) -> None:
        widget = event.widget
        if isinstance(widget, KnobLine):
            self.focus()
            if widget.knob.key == self.current:
                await self.action_edit()
            else:
                self.select(widget.knob.key)
