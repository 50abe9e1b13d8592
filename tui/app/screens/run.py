"""Trace or measure the selected plan, and what the command says."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Footer, RichLog, Static

from tui.app.child import Child

WHAT_RUNS = """\
t    traces the real training step on fake tensors through PyTorch's allocator: no GPU is needed
v    measures the step on this machine's GPU, sets it beside the prediction and remembers it
x    cancels
esc  goes back to the plan; what runs goes on, and r shows it again
"""


class RunScreen(ModalScreen[None]):
    """Shows the child of the desk, running or ended. ``start`` starts "trace" or "validate"."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Back"),
        Binding("t", "run('trace')", "Trace (no GPU)"),
        Binding("v", "run('validate')", "Measure here"),
        Binding("x", "cancel", "Cancel"),
    ]

    def __init__(self, child: Child | None, start: Callable[[str], Child], machine: str) -> None:
        super().__init__()
        self.child, self.start, self.machine = child, start, machine
        self._num_shown = 0

    def compose(self) -> ComposeResult:
        yield Static("Prove the prediction", classes="screen-title")
        yield Static(f"This machine: {self.machine}", id="machine", markup=False)
        yield RichLog(id="output", wrap=True, markup=False, highlight=False)
        yield Static("not started", id="run-state", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(RichLog).write(WHAT_RUNS)
        self._watch(self.child)

    def on_unmount(self) -> None:
        if self.child is not None:
            self.child.watcher = None

    def _watch(self, child: Child | None) -> None:
        if child is not None:
            self.child, self._num_shown = child, 0
            child.watcher = self._show
            self._show()

    def _show(self) -> None:
        assert self.child is not None
        output = self.query_one(RichLog)
        for line in self.child.lines[self._num_shown :]:
            output.write(line)
        self._num_shown = len(self.child.lines)
        self.query_one("#run-state", Static).update(self.child.state)

    def action_run(self, command: str) -> None:
        if self.child is None or not self.child.is_running:
            self._watch(self.start(command))

    def action_cancel(self) -> None:
        if self.child is not None:
            self.child.cancel()
