"""``plan pretrain``: tokens, compute, GPU-hours and money to train a model from nothing."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import click

from hardware_db import catalog
from hardware_db.gpu import Gpu
from planner.cost import MAX_GPUS
from planner.economics import assumptions, pretraining, rent
from planner.economics import energy as energy_of
from planner.economics.energy import Site
from planner.errors import ExitCode, RequestError
from planner.memory import rule
from planner.units import TERA, format_count
from tui.cli.shared.options import COUNT, INT, USD
from tui.cli.shared.output import report_warnings
from tui.render import costs, pretrain
from tui.render.listing import render

MAX_PARAMS = 1000 * TERA
MAX_TOKENS = 1_000_000 * TERA
DEFAULT_GPUS = ("A100 SXM4 80GB", "H100 SXM5 80GB", "H200 SXM", "B200 SXM")


@click.command("pretrain")
@click.option(
    "--params", type=COUNT, help="Parameters a token meets, 7B; the active ones of a mixture of experts."
)
@click.option("--model", help="A model of the registry instead of --params.")
@click.option("--tokens", type=COUNT, help="Training tokens, 2T. Default: 20 per parameter.")
@click.option("--gpu", "gpus", multiple=True, help="A kind of GPU; may be repeated.")
@click.option("--num-gpus", type=INT, default=1024, show_default=True, help="How many at once.")
@click.option("--mfu", type=USD, metavar="SHARE", help="Share of the dense 16-bit peak that is attained.")
@click.option(
    "--usd-per-gpu-hour", type=USD, metavar="USD", help="Instead of the median of known on-demand prices."
)
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")
def command(
    params: int | None,
    model: str | None,
    tokens: int | None,
    gpus: tuple[str, ...],
    num_gpus: int,
    mfu: Decimal | None,
    usd_per_gpu_hour: Decimal | None,
    as_json: bool,
) -> int:
    """What training a model from nothing takes: `plan pretrain --params 175B --tokens 300B --gpu v100`."""
    num_params = _num_params(params, model)
    num_tokens = tokens if tokens is not None else pretraining.compute_optimal_tokens(num_params)
    if not 1 <= num_tokens <= MAX_TOKENS or not 1 <= num_gpus <= MAX_GPUS:
        raise RequestError(
            f"tokens are 1 to {format_count(MAX_TOKENS)}, GPUs 1 to {MAX_GPUS:,}",
            hint="--tokens 2T --num-gpus 1024",
        )
    if usd_per_gpu_hour is not None and not 0 <= usd_per_gpu_hour < Decimal("Infinity"):
        raise RequestError("a price is zero or more", hint="--usd-per-gpu-hour 2.50")
    flops = pretraining.training_flops(num_params, num_tokens)
    runs = tuple(
        _run(catalog.find_gpu(name), flops, num_gpus, mfu, usd_per_gpu_hour) for name in gpus or DEFAULT_GPUS
    )
    answer = pretrain.Answer(
        num_params=num_params, num_tokens=num_tokens, tokens_given=tokens is not None, flops=flops, runs=runs
    )
    report_warnings(note for run in runs for note in _too_few(run, num_params))
    if as_json:
        import json

        click.echo(json.dumps(pretrain.as_json(answer), indent=2))
    else:
        click.echo(render(pretrain.listing(answer)))
        if mfu is None:
            click.echo(costs.described(assumptions.MFU))
    return int(ExitCode.OK)


def _too_few(run: pretrain.Run, num_params: int) -> Iterator[str]:
    """Says where the GPUs together cannot hold the training states, by the documents' 24 bytes per parameter."""
    needed = -(-rule.training(num_params).expected_bytes // run.gpu.memory_bytes)
    if needed > run.num_gpus:
        yield f"{run.num_gpus} {run.gpu.name} cannot hold the training states: 24 B per parameter take {needed}"


def _num_params(params: int | None, model: str | None) -> int:
    if (params is None) == (model is None):
        raise RequestError("name either a size or a model", hint="--params 7B")
    if params is not None:
        if not 1 <= params <= MAX_PARAMS:
            raise RequestError(f"a model has 1 to {format_count(MAX_PARAMS)} parameters", hint="--params 7B")
        return params
    from planner.model.registry import resolve

    found = resolve(model or "")
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    return found.architecture.params_active if found.architecture else found.num_params_named


def _run(
    gpu: Gpu, flops: int, num_gpus: int, mfu: Decimal | None, usd_per_gpu_hour: Decimal | None
) -> pretrain.Run:
    hours = pretraining.gpu_hours(flops, gpu, mfu)
    offers = tuple(offer for offer in catalog.offers_for(gpu.id) if not offer.spot)
    given = usd_per_gpu_hour is not None
    return pretrain.Run(
        gpu=gpu,
        num_gpus=num_gpus,
        gpu_hours=hours,
        usd_per_gpu_hour=usd_per_gpu_hour if given else rent.median_usd_per_gpu_hour(offers),
        num_offers=0 if given else len(offers),
        energy=energy_of.energy(gpu, 1, hours.expected, Site()),
    )
