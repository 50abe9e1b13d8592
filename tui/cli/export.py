"""``plan export``: the files that run a plan on engines that exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from planner.errors import RequestError
from tui.cli.shared.options import RequestCommand, Word, request_options
from tui.cli.shared.saved_request import reopened_one, request_file_option
from tui.files import save

TARGETS = ("accelerate", "deepspeed", "trl", "axolotl", "vllm", "sglang", "skypilot", "dstack", "slurm")


@click.command(cls=RequestCommand, short_help="Write the files that run a plan: accelerate, TRL, vLLM, SkyPilot…")
@request_options
@click.option("--to", "target", type=Word(TARGETS), required=True, help="Whose files to write.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write into; else printed."
)
@request_file_option
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
def command(target: str, out: Path | None, saved: Path | None, force: bool, **values: Any) -> int:
    """Write the configuration that runs a plan; every file carries its request, which --request reads back."""
    from planner.export import export
    from tui.request_builder import build_one

    request = build_one(values) if saved is None else reopened_one(saved, values)
    files = export(request, target)
    if out is None:
        click.echo("\n".join(f"# ---- {name}\n{text}" for name, text in files.items()).rstrip("\n"))
        return 0
    existing = [name for name in files if (out / name).exists()]
    if existing and not force:
        raise RequestError(f"{out / existing[0]} exists", hint="add --force, or choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{out} cannot be made: {error.strerror}", hint="name another folder") from None
    for name, text in files.items():
        save(out / name, text)
        click.echo(str(out / name))
    return 0
