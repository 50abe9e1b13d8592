"""Whatever is typed at ``plan gpus``, ``prices``, ``cost`` and ``pretrain`` ends in an answer or one line."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from unittest.mock import patch

import click
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.errors import ExitCode
from tui.cli import gpus, prices, run
from tui.cli.cost import command as cost
from tui.cli.pretrain import command as pretrain

TEXT = st.text(max_size=12) | st.sampled_from(
    [
        "",
        "0",
        "-1",
        "nan",
        "inf",
        "1e400",
        "1e-400",
        "9" * 50,
        "0x10",
        "--",
        "é",
        "\x00",
        "a\nb",
        "[]",
        "0.5",
        "2",
        "8",
    ]
)
SOUND = st.sampled_from(
    ["h100", "T4", "rtx 4090", "A100 80GB", "8", "1.5", "0.2", "7B", "24GiB", "2T", "aws", "price"]
)
ANSWERS = {ExitCode.OK, ExitCode.DOES_NOT_FIT, ExitCode.BAD_REQUEST, ExitCode.UNKNOWN}
COMMANDS = {
    ("gpus",): gpus.command,
    ("prices", "list"): prices.list_prices,
    ("prices", "add"): prices.add,
    ("prices", "remove"): prices.remove,
    ("cost",): cost,
    ("pretrain",): pretrain,
}


def options_of(command: click.Command) -> list[click.Option]:
    return [each for each in command.params if isinstance(each, click.Option)]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    path = draw(st.sampled_from(list(COMMANDS)))
    options = options_of(COMMANDS[path])
    line = list(path)
    if draw(st.booleans()):
        line.append(draw(SOUND | TEXT))
    for option in draw(st.lists(st.sampled_from(options), max_size=5) if options else st.just([])):
        line.append(draw(st.sampled_from(option.opts + option.secondary_opts)))
        if not option.is_flag:
            line.append(draw(SOUND | TEXT))
    return line


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(line=command_lines())
def test_any_command_line_ends_in_an_answer_or_one_line(line: list[str]) -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        patch("hardware_db.offers.own_path", lambda: Path(home) / "own.csv"),
        patch("hardware_db.offers.live_path", lambda: Path(home) / "live.csv"),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code = run(line)
    assert code in ANSWERS, (line, err.getvalue())
    assert "Traceback" not in err.getvalue()
    if code in (ExitCode.BAD_REQUEST, ExitCode.UNKNOWN):
        assert out.getvalue() == "", line
        problems = [
            said for said in err.getvalue().splitlines() if said.startswith("plan: ") and "taken as" not in said
        ]
        assert len(problems) == 1, (line, err.getvalue())
