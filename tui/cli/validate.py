"""``plan validate``: run the real thing here, hold the prediction against it, keep the measurement."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.errors import EnvironmentProblemError, ExitCode, RequestError
from planner.units import parse_bytes
from tui.cli.shared import progress
from tui.cli.shared.options import FLOAT, INT, Word, request_options
from tui.cli.shared.output import report_warnings

if TYPE_CHECKING:
    from validate.campaign import Campaign, Measured
    from validate.measure.spec import RunSpec
    from validate.store import Store

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(invoke_without_command=True)
@request_options
@click.option("--device", type=Word(("cuda", "cpu")), help="Where to run; the GPU unless told otherwise.")
@click.option("--suite", metavar="NAME", help="quick, standard, full, recipes, small, or one run of them.")
@click.option("--max-minutes", type=FLOAT, help="Stop in time; the same command goes on later.")
@click.option("--out", type=FOLDER, help="Also append every measurement to a file in this folder.")
@click.option("--memory-limit", metavar="SIZE", help="Never take more than this, such as 20GiB.")
@click.option(
    "--runner", type=Word(("loop", "trainer", "accelerate")), default="loop", help="What drives the steps."
)
@click.option("--steps", type=INT, help="Optimizer steps, two at least; 3 on a GPU, 2 on a CPU.")
@click.option("--checkpoint", type=FOLDER, help="Load real weights instead of random ones.")
@click.option("--snapshot", type=FILE, help="Keep the CUDA allocator's history in this file.")
@click.option("--no-trace", is_flag=True, help="Predict by formula alone.")
@click.option("--probe", is_flag=True, help="Measure constants of the card instead: context, workspaces, kernels.")
@click.option("--json", "as_json", is_flag=True, help="The measurement and its comparison as JSON.")
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> int:
    """Predict, then run the real step on this GPU (or --device cpu), compare and remember.

    Measurements stay on this machine and refine later answers. Exits with 5 where one left its interval.
    """
    if ctx.invoked_subcommand is not None:
        return int(ExitCode.OK)
    if values["probe"]:
        return _run_probes(values)
    if values["suite"] is not None:
        return _run_suite(values)
    return _run_one(values)


def _run_probes(values: dict[str, Any]) -> int:
    import json
    from dataclasses import asdict
    from datetime import UTC, datetime

    from validate.measure.protocol import run_probes

    campaign = _campaign(values)
    with progress.phases() as say:
        say("probing")
        found = run_probes(campaign.device)
    document = {
        "environment": asdict(campaign.environment), "command": campaign.command,
        "made_at": datetime.now(UTC).isoformat(), "probes": found,
    }  # fmt: skip
    text = json.dumps(document, indent=1)
    click.echo(text)
    if campaign.out is not None:
        from tui.files import save

        save(
            campaign.out / f"{campaign.environment.gpu_id}-{campaign.environment.fingerprint}.probes.json",
            text + "\n",
        )
    return int(ExitCode.OK)


def _campaign(values: dict[str, Any]) -> Campaign:
    from validate.campaign import open_campaign

    campaign = open_campaign(
        values["device"], store=_store(), command="plan " + shlex.join(sys.argv[1:]),
        calibrated=values["calibration"] is not False, out=values["out"],
    )  # fmt: skip
    campaign.with_trace = not values["no_trace"]
    return campaign


def _store() -> Store:
    from validate.store import Store

    store = Store()
    report_warnings(store.notices)
    return store


def _limit(values: dict[str, Any]) -> int | None:
    return None if values["memory_limit"] is None else parse_bytes(values["memory_limit"])


def _run_one(values: dict[str, Any]) -> int:
    from tui.render import measured as render

    campaign = _campaign(values)
    spec, architecture = _spec(values, campaign)
    with progress.phases(_num_phases(spec)) as say:
        say("predicting")
        measured = campaign.measure(spec, architecture, progress=say)
    report_warnings(measured.forecast.notes)
    if values["as_json"]:
        click.echo(render.json_text(measured))
    else:
        click.echo(render.text(measured, campaign.environment))
    return _exit_code(measured)


def _spec(values: dict[str, Any], campaign: Campaign) -> tuple[RunSpec, Any]:
    from planner.checks import check_range, check_request
    from planner.model import registry
    from planner.request import Parallelism
    from tui.request_builder import build_one
    from validate.measure.spec import RunSpec
    from validate.suites import head_of

    steps = values["steps"] or (3 if campaign.device == "cuda" else 2)
    check_range("steps", steps, 2, 1000)
    asked = {name: value for name, value in values.items() if name not in _OWN_OPTIONS}
    request = build_one(asked)
    resolved = registry.resolve(request.model)
    if resolved.architecture is None or resolved.config is None:
        raise RequestError("a size alone cannot be run", hint="name a model, or give a directory with config.json")
    report_warnings(resolved.notes)
    report_warnings(check_request(request, resolved.architecture) or ())
    checkpoint, spread = values["checkpoint"], request.parallelism or Parallelism()
    spec = RunSpec(
        model=request.model, config=resolved.config, checkpoint=None if checkpoint is None else str(checkpoint),
        head=head_of(resolved.architecture, request.workload), workload=request.workload,
        parallelism=spread, device=campaign.device,
        runner="accelerate" if spread.num_gpus > 1 and values["runner"] == "loop" else values["runner"],
        steps=steps, memory_limit_bytes=_limit(values),
        snapshot=None if values["snapshot"] is None else str(values["snapshot"].absolute()),
    )  # fmt: skip
    return spec, resolved.architecture


_OWN_OPTIONS = frozenset(
    {
        "device", "suite", "max_minutes", "out", "memory_limit", "runner", "steps", "checkpoint", "snapshot",
        "no_trace", "as_json", "probe",
    }
)  # fmt: skip


def _exit_code(measured: Measured) -> int:
    if measured.measurement.result.outcome in ("crashed", "killed", "hung"):
        return int(ExitCode.ENVIRONMENT)
    if measured.measurement.result.outcome == "out of memory":
        return int(ExitCode.DOES_NOT_FIT)
    return int(ExitCode.OK if measured.comparison.inside else ExitCode.OUTSIDE_INTERVAL)


def _num_phases(spec: RunSpec) -> int:
    if spec.task == "serve":
        return 3
    accumulated = getattr(spec.workload, "gradient_accumulation_steps", 1)
    return 1 + len(spec.step_lengths) * (2 * accumulated + 1)


def _run_suite(values: dict[str, Any]) -> int:
    from tui.render import measured as render
    from validate.campaign import Skipped, run_suite
    from validate.suites import suite

    minutes = values["max_minutes"]
    if minutes is not None and not minutes > 0:
        raise RequestError(f"--max-minutes must be more than 0, not {minutes:g}", hint="--max-minutes 9")
    cases = suite(values["suite"])
    campaign = _campaign(values)
    inside = True
    left = 0
    with progress.cases(len(cases)) as (say, advance):
        outcomes = run_suite(
            campaign, cases, progress=lambda case, text: say(f"{case.name}: {text}"),
            max_minutes=minutes, memory_limit_bytes=_limit(values),
        )  # fmt: skip
        for case, outcome in outcomes:
            advance()
            click.echo(render.line(case.name, outcome))
            if isinstance(outcome, Skipped):
                left += outcome.resumable
            else:
                inside = inside and outcome.comparison.inside
    if left:
        report_warnings([f"{left} of {len(cases)} runs are left; the same command goes on with them"])
    return int(ExitCode.OK if inside else ExitCode.OUTSIDE_INTERVAL)


@command.command("history")
@click.option("--limit", type=INT, default=20, help="How many of the newest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def history(limit: int, as_json: bool) -> None:
    """What was measured here, newest first."""
    from tui.render import measured as render

    store = _store()
    rows = store.all(limit=max(1, limit))
    if not rows:
        report_warnings([f"the store {store.path} is empty; plan validate fills it"])
    for row in rows:
        click.echo(render.json_line(row) if as_json else render.history_line(row))


@command.command("show")
@click.argument("identity", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="The whole measurement as JSON.")
def show(identity: str, as_json: bool) -> None:
    """One measurement, by the first digits of its id."""
    from tui.render import measured as render

    measurement = _store().get(identity)
    click.echo(render.json_line(measurement) if as_json else render.stored(measurement))


@command.command("export")
@click.argument("path", metavar="[FILE]", required=False, type=FILE)
def export(path: Path | None) -> None:
    """Write every measurement as JSON lines, to share them with a team."""
    lines = list(_store().export())
    if path is None:
        for line in lines:
            click.echo(line)
        return
    from tui.files import save

    save(path, "".join(f"{line}\n" for line in lines))
    report_warnings([f"{len(lines)} measurements written to {path}"])


@command.command("import")
@click.argument("path", metavar="FILE", type=FILE)
def import_(path: Path) -> int:
    """Take in measurements others exported; they are marked with the file's name."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    store = _store()
    result = store.import_lines(lines, path.stem)
    report_warnings(result.refused)
    _relearn(store)
    click.echo(f"{result.added} added, {result.duplicates} known already, {len(result.refused)} refused")
    return int(ExitCode.BAD_REQUEST if result.refused else ExitCode.OK)


@command.command("calibrate")
def calibrate() -> None:
    """Compute the calibration anew from everything in the store."""
    from planner.calibration_file import user_file

    store = _store()
    if not len(store):
        raise EnvironmentProblemError("nothing was measured yet", hint="plan validate --suite quick")
    corrections, runs = _relearn(store)
    click.echo(f"{runs} runs, {corrections} corrections, in {user_file()}")


def _relearn(store: Store) -> tuple[int, int]:
    from planner.calibration_file import DEFAULT_FILE, load, user_file
    from validate.calibrate import calibrate, save

    learnt = calibrate(store.all(), load(DEFAULT_FILE))
    save(learnt, user_file())
    return len(learnt.corrections), int(learnt.made["runs"])
