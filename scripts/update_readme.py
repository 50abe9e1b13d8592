"""Puts the real output of commands, and the table of accuracy, into README.md.

    python scripts/update_readme.py [--check]

A block between ``<!-- output: plan … -->`` and ``<!-- end -->`` holds what that command prints; one between
``<!-- table: docs/accuracy.md -->`` and ``<!-- end -->`` the first table of that file. ``--check`` changes nothing
and fails where README.md is out of date; the ages of prices, which grow every day, are not compared.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
README = ROOT / "README.md"
_BLOCK = re.compile(r"(<!-- (output|table): (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_AGE = re.compile(r"\(\d+ days\)")


def output_of(command: str) -> str:
    """What a command prints to a pipe, as a fenced block."""
    from tui.cli import run

    program, *arguments = shlex.split(command)
    assert program == "plan"
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        code = run(arguments)
    assert code == 0, command
    return f"```console\n$ {command}\n{out.getvalue().rstrip()}\n```\n"


def table_of(name: str) -> str:
    """The first table of a Markdown file; nothing while there is no such file."""
    path = ROOT / name
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    end = next((number for number in range(start, len(lines)) if not lines[number].startswith("|")), len(lines))
    return "\n".join(lines[start:end]) + "\n"


def updated(text: str) -> str:
    """The text with every block filled anew."""

    def fill(match: re.Match[str]) -> str:
        begin, kind, what, _, end = match.groups()
        return begin + (output_of(what) if kind == "output" else table_of(what)) + end

    return _BLOCK.sub(fill, text)


def ageless(text: str) -> str:
    return _AGE.sub("(… days)", text)


def refresh() -> None:
    """Writes README.md anew."""
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    if check:
        text = README.read_text(encoding="utf-8")
        return int(ageless(text) != ageless(updated(text)))
    refresh()
    return 0


if __name__ == "__main__":
    sys.exit(main())
