"""README shows what the program really prints, and names the commands CI runs."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import click
import pytest

from tui.cli import plan

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("update_readme", ROOT / "scripts" / "update_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_is_up_to_date() -> None:
    module = script()
    assert module.ageless(module.updated(README)) == module.ageless(README), "run python scripts/update_readme.py"


def test_readme_names_the_two_commands() -> None:
    assert "\npip install . && plan --model llama-70b --bits 4\n" in README
    assert '\npip install -e ".[test]" && pytest\n' in README
    assert 'pip install -q -e ".[test]" && pytest' in (ROOT / ".ci" / "run").read_text()


QUESTIONS = re.findall(r"^plan .+", README, re.MULTILINE)


@pytest.mark.parametrize("line", QUESTIONS)
def test_every_command_of_readme_is_understood(line: str) -> None:
    words = shlex.split(line.partition("|")[0], comments=True)[1:]
    name = "estimate" if words[0].startswith("-") else words.pop(0)
    command = plan.get_command(click.Context(plan), name)
    assert command is not None
    assert command.make_context(name, words) is not None
