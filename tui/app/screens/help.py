"""Every key and what the signs mean."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Markdown

HELP = """\
# Keys

| key | what it does |
|---|---|
| `tab` / `shift+tab` | from the job panel to the GPU table and back |
| `up` `down` | next knob, or next GPU |
| `left` `right` | turn the knob: next choice, or half and double |
| `enter` | type a value; on a GPU: its terms with formulas and sources |
| `m` | find a model |
| `t` | serve or train |
| `/` | filter GPUs by name; more filters: `v` vendor, `1` fits on one, `f` only what fits |
| `g` / `n` | only GPUs with at least so much memory / only prices of one provider |
| `b` | only what costs at most so much per hour |
| `s` / `S` | next column to sort by / reverse |
| `o` | mark the GPU as your own |
| `p` / `c` | pin this plan / compare the pins |
| `w` | what-if: memory and price against the current knob |
| `P` | Pareto picture of hours against price |
| `a` | advice: what saves most, or what makes it fit; enter applies a line |
| `r` | trace the step of this plan, or measure it on this machine |
| `h` | measurements so far and the calibration |
| `e` | export the files that run the plan |
| `y` | copy the command line |
| `ctrl+s` / `ctrl+o` | save / open a request file |
| `d` | job panel on and off in a narrow terminal |
| `ctrl+p` | command palette, themes |
| `ctrl+q` | quit |

# Signs

`█` certainly needed · `▒` perhaps needed, within the interval · `·` free · `▶` runs over the memory of the GPU.
`◆` in this machine · `●` marked as your own. **fits**: even the high end fits. **tight**: the expectation fits,
the high end does not. **no**: no number of these GPUs holds the job.
"""


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,f1,question_mark", "dismiss", "Back")]

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Markdown(HELP)
        yield Footer()
