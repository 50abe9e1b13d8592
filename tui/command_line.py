"""From a request back to the command line that asks for it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from planner.plan import compute_dtype_of
from planner.request import Parallelism, PlanRequest, TrainingWorkload
from planner.units import exact_count
from tui.request_builder import build_one
from tui.request_options import COMMA_SEPARATED, OPTIONS, RequestOption, options_of


def command_line(request: PlanRequest, command: tuple[str, ...] = ("plan",)) -> tuple[str, ...]:
    """The arguments that ask for ``request``; what equals the default is left out."""
    workload = request.workload
    values: dict[str, Any] = {"task": request.task, "weight_dtype": workload.weight_dtype}
    if workload.compute_dtype != compute_dtype_of(workload.weight_dtype):
        values["compute_dtype"] = workload.compute_dtype
    if request.model.startswith("params:"):
        values["params"] = request.model.removeprefix("params:")
    else:
        values["model"] = request.model
    if isinstance(workload, TrainingWorkload):
        values["method"] = workload.method
    plain = replace(build_one(values), parallelism=Parallelism())
    for option in OPTIONS.values():
        if option.name not in values:
            wanted = _value_of(request, option)
            if wanted is not None and wanted != _value_of(plain, option):
                values[option.name] = wanted
    if request.parallelism is not None and not any(option.name in values for option in options_of("parallelism")):
        values["tp"] = request.parallelism.tp
    arguments = list(command)
    for name in ("model", "params", "task"):
        if name in values:
            arguments += [f"--{name}", values[name]]
    for option in OPTIONS.values():
        if option.name in values:
            arguments += _arguments(option, values[option.name])
    return (*arguments, *(() if request.calibrated else ("--no-calibration",)))


def command_text(request: PlanRequest, command: tuple[str, ...] = ("plan",)) -> str:
    """``command_line`` quoted for a shell."""
    return shlex.join(command_line(request, command))


def _value_of(request: PlanRequest, option: RequestOption) -> Any:
    holders = {
        "serve" if request.task == "serve" else "train": request.workload,
        "hardware": request.hardware,
        "parallelism": request.parallelism,
    }
    for path in option.paths:
        first, *fields = path.split(".")
        value = holders.get(first)
        for field in fields:
            value = getattr(value, field, None)
        if first in holders:
            return value
    return None


def _arguments(option: RequestOption, value: Any) -> list[str]:
    if option.kind == "switch":
        return [option.flag if value else f"--no-{option.flag.removeprefix('--')}"]
    if option.kind == "checkpointing":
        return ["--no-gradient-checkpointing"] if value == "none" else [option.flag, value]
    if option.kind == "list":
        joined = option.flag in COMMA_SEPARATED
        items = (value,) if isinstance(value, str) else tuple(value)
        return (
            [option.flag, ",".join(items)] if joined else [part for item in items for part in (option.flag, item)]
        )
    return [option.flag, exact_count(value) if option.kind == "count" else str(value)]
