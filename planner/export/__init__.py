"""Hand-over: the files that run a chosen plan on engines that exist."""

from __future__ import annotations

from collections.abc import Callable

from planner.errors import RequestError
from planner.export import accelerate, axolotl, deepspeed, engines, jobs, trl
from planner.export.chosen import Chosen, choose
from planner.request import PlanRequest

__all__ = ["TARGETS", "export"]

_WRITERS: dict[str, Callable[[Chosen], dict[str, str]]] = {
    "accelerate": accelerate.files,
    "deepspeed": deepspeed.files,
    "trl": trl.files,
    "axolotl": axolotl.files,
    "vllm": engines.vllm_files,
    "sglang": engines.sglang_files,
    "skypilot": jobs.skypilot_files,
    "dstack": jobs.dstack_files,
    "slurm": jobs.slurm_files,
}
TARGETS = tuple(_WRITERS)


def export(request: PlanRequest, target: str) -> dict[str, str]:
    """File name -> text of everything ``target`` needs; each carries the request (``planner.request_text``).

    Raises UnsupportedError for a plan the target cannot run.
    """
    if target not in _WRITERS:
        raise RequestError(f"there is no export to {target!r}", hint=f"one of {', '.join(TARGETS)}")
    return _WRITERS[target](choose(request))
