"""The command ``plan``: one module per subcommand, imported only when it is used."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from hardware_db.errors import UnknownGpuError
from planner.errors import ExitCode, PlannerError

DEFAULT_COMMAND = "estimate"
GC_THRESHOLD = 50_000
"""Start-up makes many lasting objects and no garbage; looking for it at Python's 700 costs 5% of an answer."""
DEBUG_VARIABLE = "GPU_PLANNER_DEBUG"
EXTRAS = {
    "accelerate": "validate",
    "aiohttp": "web",
    "bitsandbytes": "validate",
    "gpuhunt": "live",
    "peft": "validate",
    "pyarrow": "parquet",
    "textual_serve": "web",
    "torch": "validate",
    "transformers": "validate",
}
"""Which extra brings a module that the base installation does without."""
_TOP_LEVEL_OPTIONS = ("--help", "-h", "--version")


def command_names() -> list[str]:
    """Subcommands are the public modules of this package."""
    return sorted(path.stem.replace("_", "-") for path in Path(__file__).parent.glob("[!_]*.py"))


class LazyGroup(click.Group):
    """Imports ``tui.cli.<name>`` and takes its ``command`` when ``<name>`` is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return command_names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in command_names():
            return None
        module = importlib.import_module(f"tui.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in command_names():
            from difflib import get_close_matches

            near = get_close_matches(name, command_names(), n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else "see plan --help"
            raise PlannerError(f"there is no command {name!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            args = ["tui"] if sys.stdin.isatty() and sys.stdout.isatty() else ["--help"]
        elif args and args[0].startswith("-") and args[0] not in _TOP_LEVEL_OPTIONS:
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"plan {version('gpu-planner')}")
        except PackageNotFoundError:
            click.echo("plan, from a checkout that is not installed")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version)
def plan() -> None:
    """Which GPUs a model needs, how sure the answer is, how long it takes and what it costs.

    Without a command: `plan --model llama-70b --bits 4` gives the overview of `plan estimate`.
    """


def _report(message: str, hint: str | None) -> None:
    one_line = " ".join(message.split())
    click.echo(f"plan: {one_line}" + (f" ({hint})" if hint else ""), err=True)


def _report_defect(error: Exception) -> int:
    """An error nobody foresaw is ours: one line, and where it arose for those who ask."""
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    _report(f"this is a defect of gpu-planner: {type(error).__name__}: {error}", f"{DEBUG_VARIABLE}=1 shows where")
    return int(ExitCode.DEFECT)


def main(argv: list[str] | None = None) -> None:
    """Run ``plan`` and exit with a documented code; no user input ends in a traceback."""
    gc.set_threshold(GC_THRESHOLD)
    code = run(sys.argv[1:] if argv is None else argv)
    gc.freeze()  # What is left goes with the process; Python's last look through it takes a tenth of an answer.
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Run ``plan`` on ``argv`` and return the exit code."""
    try:
        result: Any = plan.main(args=argv, prog_name="plan", standalone_mode=False)
        sys.stdout.flush()
    except PlannerError as error:
        _report(error.message, error.hint)
        return int(error.exit_code)
    except UnknownGpuError as error:
        near = f"did you mean {', '.join(error.suggestions)}?" if error.suggestions else "see plan gpus"
        _report(f"there is no GPU {error.name[:60]!r} in the catalogue", near)
        return int(ExitCode.UNKNOWN)
    except click.ClickException as error:
        command = getattr(error, "ctx", None)
        _report(error.format_message(), f"see {command.command_path} --help" if command else None)
        return int(ExitCode.BAD_REQUEST)
    except (click.Abort, KeyboardInterrupt):
        _report("interrupted", None)
        return int(ExitCode.INTERRUPTED)
    except SystemExit:  # What click makes of a reader that has gone: nobody reads what is left.
        return int(ExitCode.OK)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - nobody reads what is left, not even at exit
        return int(ExitCode.OK)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            return _report_defect(error)
        _report(f"{error.name} is not installed", f'pip install "gpu-planner[{extra}]"')
        return int(ExitCode.ENVIRONMENT)
    except Exception as error:
        return _report_defect(error)
    return int(result) if isinstance(result, int) else int(ExitCode.OK)
