"""Request options as click options: the table of ``tui.request_options`` projected once for every command."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click

from planner.checks import check_choice
from planner.errors import RequestError
from planner.units import parse_bytes, parse_count
from tui.request_options import COMMA_SEPARATED, SECTIONS, RequestOption

Command = TypeVar("Command", bound=Callable[..., Any])
MAX_DIGITS = 30
WIDEST_METAVAR = 44
"""Longer lists of words are told in the help text instead."""


class _Text(click.ParamType):  # type: ignore[type-arg]
    """Parses through a function that raises RequestError, which names what is wrong and the way out."""

    def __init__(self, name: str, parse: Callable[[str, str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        flag = param.opts[0] if param is not None else self.name
        return self._parse(flag, value) if isinstance(value, str) else value


def _whole_number(flag: str, text: str) -> int:
    try:
        if len(text) > MAX_DIGITS:
            raise ValueError
        return int(text)
    except ValueError:
        raise RequestError(f"{flag} takes a whole number, not {text[:40]!r}", hint=f"{flag} 8") from None


def _real_number(flag: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RequestError(f"{flag} takes a number, not {text[:40]!r}", hint=f"{flag} 0.9") from None


def _usd(flag: str, text: str) -> Decimal:
    try:
        amount = Decimal(text.removeprefix("$"))
        if len(text) > MAX_DIGITS or not amount.is_finite() or amount.adjusted() > MAX_DIGITS:
            raise InvalidOperation
        return amount
    except InvalidOperation:
        raise RequestError(f"{flag} takes an amount in USD, not {text[:40]!r}", hint=f"{flag} 2.50") from None


def _size(_: str, text: str) -> int:
    return parse_bytes(text)


def _count(_: str, text: str) -> int:
    return parse_count(text)


INT = _Text("integer", _whole_number)
FLOAT = _Text("number", _real_number)
USD = _Text("usd", _usd)
BYTES = _Text("size", _size)
COUNT = _Text("count", _count)


class Word(click.ParamType):  # type: ignore[type-arg]
    """One of a few words; a typo is answered with the near misses."""

    name = "word"

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.choices = choices

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        listed = f"[{'|'.join(self.choices)}]"
        return listed if len(listed) <= WIDEST_METAVAR else "WORD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        word = str(value).lower()
        check_choice((param.name if param is not None else None) or "choice", word, self.choices)
        return word


def _comma_separated(_: click.Context, __: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    return text if text == "all-linear" else tuple(part.strip() for part in text.split(","))


def _repeated(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...] | None:
    return values or None


def _click_options(option: RequestOption) -> list[Callable[[Command], Command]]:
    common: dict[str, Any] = {"default": None, "help": option.help}
    match option.kind:
        case "switch":
            return [click.option(f"{option.flag}/--no-{option.flag.removeprefix('--')}", option.name, **common)]
        case "checkpointing":
            choice = Word(option.choices)
            on = click.option(option.flag, option.name, type=choice, is_flag=False, flag_value="full", **common)
            off = click.option(
                f"--no-{option.flag.removeprefix('--')}", option.name, flag_value="none", hidden=True, default=None
            )
            return [on, off]
        case "list" if option.flag in COMMA_SEPARATED:
            return [
                click.option(option.flag, option.name, metavar=option.metavar, callback=_comma_separated, **common)
            ]
        case "list":
            common["multiple"] = True
            return [click.option(option.flag, option.name, metavar=option.metavar, callback=_repeated, **common)]
        case "choice":
            word = Word(option.choices)
            if len("|".join(option.choices)) + 2 > WIDEST_METAVAR:
                common["help"] += f" One of {', '.join(option.choices)}."
            return [click.option(option.flag, option.name, type=word, **common)]
        case _:
            kinds = {"int": INT, "count": COUNT, "float": FLOAT, "usd": USD, "bytes": BYTES, "text": click.STRING}
            return [
                click.option(
                    option.flag,
                    *option.also,
                    option.name,
                    type=kinds[option.kind],
                    metavar=option.metavar,
                    **common,
                )
            ]


class RequestCommand(click.Command):
    """A command whose help shows the options of a request by section, after its own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = [(section.title, {option.name for option in section.options}) for section in SECTIONS]
        records = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        of_requests = set().union(*(names for _, names in sections))
        own = [record for name, record in records.items() if record and name not in of_requests]
        with formatter.section("Options"):
            formatter.write_dl(own)
        for title, names in sections:
            rows = [record for name, record in records.items() if record and name in names]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def request_options(command: Command) -> Command:
    """Gives a command every option of a request; ``tui.request_builder`` turns its values into requests."""
    for section in reversed(SECTIONS):
        for option in reversed(section.options):
            for decorate in reversed(_click_options(option)):
                command = decorate(command)
    for decorate in reversed(
        (
            click.option("--model", "-m", help="Name, alias, hub id, or a directory with config.json."),
            click.option(
                "--params", metavar="SIZE", help="A size alone, such as 7B, where the model is not known."
            ),
            click.option(
                "--bits", metavar="[32|16|8|4|1.58]", help="Bits of a weight; 4 means NF4, 8 LLM.int8()."
            ),
            click.option("--task", type=Word(("serve", "train")), help="Leave out for an overview of both."),
            click.option("--calibration/--no-calibration", default=None, help="Use what measurements taught."),
        )
    ):
        command = decorate(command)
    return command
