"""``--dataset FILE``: the tokens of a job from the text it trains on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from planner.errors import RequestError
from tui.cli.shared.output import report_warnings

dataset_option = click.option(
    "--dataset",
    type=click.Path(dir_okay=False, path_type=Path),
    help="JSON lines to train on, instead of --tokens; --epochs times.",
)


def with_dataset(values: dict[str, Any], dataset: Path | None) -> dict[str, Any]:
    """The typed values with the tokens of the data set, counted by the model's tokenizer where it is at hand."""
    if dataset is None:
        return values
    if values.get("tokens") is not None or values.get("task") == "serve":
        raise RequestError("--dataset belongs to training, instead of --tokens", hint="leave one of them out")
    from planner.dataset import read_dataset
    from planner.model import registry
    from planner.tokens import counter_of

    names = []
    if values.get("model"):
        model = registry.resolve(values["model"]).architecture
        names = [values["model"], *([model.name] if model else [])]
    found = read_dataset(dataset, counter_of(*names))
    report_warnings([f"{dataset.name}: {found.in_words}"])
    return values | {"tokens": found.num_tokens}
