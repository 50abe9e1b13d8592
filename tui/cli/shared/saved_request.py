"""``--request FILE``: ask what a saved or exported file holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from planner.errors import RequestError
from planner.request import PlanRequest
from tui.files import read_requests

request_file_option = click.option(
    "--request",
    "saved",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Ask what a saved request or an exported file holds.",
)


def reopened(saved: Path, values: Mapping[str, Any]) -> tuple[PlanRequest, ...]:
    """The requests of ``saved``; raises RequestError where ``values`` would ask for something else as well."""
    given = next((name for name, value in values.items() if value is not None), None)
    if given is not None:
        flag = f"--{given.replace('_', '-')}"
        raise RequestError(f"--request asks what its file holds, without {flag}", hint="edit the file instead")
    return read_requests(saved)


def reopened_one(saved: Path, values: Mapping[str, Any]) -> PlanRequest:
    """As ``reopened``, where one request is needed."""
    requests = reopened(saved, values)
    if len(requests) > 1:
        raise RequestError(f"{saved} holds {len(requests)} requests, one is needed", hint="leave one in the file")
    return requests[0]
