"""Every key and what the signs mean."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

KEYS = {
    "Job": (
        ("m", "find a model; enter on the model's line too"),
        ("t", "serve or train"),
        ("left right", "turn the knob: next choice, or half and double"),
        ("enter", "type a value: 4096, 30M, bf16; esc leaves it as it was"),
        ("d", "job panel on and off in a narrow terminal"),
        ("ctrl+s ctrl+o", "save / open a request file"),
        ("y", "copy the command line that asks the same"),
    ),
    "GPUs": (
        ("tab", "from the job panel to the GPU table and back"),
        ("up down", "next GPU, or next knob; page up, page down, home, end"),
        ("/", "filter by name; v by vendor, n by provider, g by least memory, b by budget per hour"),
        ("1  f  x", "only what fits on one GPU / only what fits at all / show all again"),
        ("s  S", "next column to sort by / the other way round"),
        ("o", "mark as your own: no rent"),
    ),
    "The selected GPU": (
        ("enter", "every term of its memory with formula, values and source"),
        ("$", "what it costs: rent, spot, own, managed, energy"),
        ("a", "advice: what saves most, or makes it fit; enter applies it"),
        ("w", "what-if: memory and price along the current knob; left and right change the knob"),
        ("p  c", "pin the plan / compare the pins term by term"),
        ("P", "hours against price of every GPU, and which none beats in both"),
        ("r", "trace the step of the plan without a GPU, or measure it on this machine"),
        ("h", "measurements so far and the calibration"),
        ("e", "export the files that run the plan"),
    ),
    "App": (("ctrl+p", "command palette, themes"), ("ctrl+q", "quit")),
}
SIGNS = (
    ("█ ▒ · ▶", "certainly needed, perhaps needed (within the interval), free, more than the GPU has"),
    ("fits", "even the high end of the interval fits"),
    ("tight", "the expectation fits, the high end does not"),
    ("no", "no number of these GPUs holds the job"),
    ("◆ ●", "in this machine / marked as your own"),
)
KEY_WIDTH = 15


def help_text() -> Content:
    lines = []
    for title, keys in (*KEYS.items(), ("Signs", SIGNS)):
        lines.append(Content.styled(title, "bold $text-primary"))
        lines += [Content.styled(f" {key:<{KEY_WIDTH}}", "bold") + Content(text) for key, text in keys]
    return Content("\n").join(lines)


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,f1,question_mark", "dismiss", "Back")]

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="panel", id="help"):
            yield Static(help_text())
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#help").border_title = "Keys and signs"
