"""What the versions a request names say about the libraries it does not name."""

from __future__ import annotations

import re

from planner.request import TrainingWorkload

_PAIR = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_BITSANDBYTES = re.compile(r"(?:bnb|bitsandbytes)\s*v?(\d+)\.(\d+)(?:\.(\d+))?")
_YEAR = re.compile(r"\b(20\d\d)\b")


def release(text: str | None) -> tuple[int, int, int] | None:
    """First version number of ``text`` as (major, minor, patch)."""
    match = _PAIR.search(text or "")
    return _numbers(match) if match else None


def torch_before(workload: TrainingWorkload, major: int, minor: int) -> bool:
    """True only where the request names an older torch."""
    found = release(workload.torch_version)
    return found is not None and found[:2] < (major, minor)


def year(workload: TrainingWorkload) -> int | None:
    """A year the framework version mentions."""
    match = _YEAR.search(workload.framework_version or "")
    return int(match.group(1)) if match else None


def saves_quantised_inputs(workload: TrainingWorkload) -> bool:
    """bitsandbytes before 0.43.2 (July 2024) kept the input of every frozen 4-bit matmul.

    Source: https://github.com/bitsandbytes-foundation/bitsandbytes/pull/1270
    """
    match = _BITSANDBYTES.search(workload.framework_version or "")
    if match:
        return _numbers(match) < (0, 43, 2)
    if workload.torch_version:
        return torch_before(workload, 2, 4)
    named = year(workload)
    return named is not None and named < 2024


def _numbers(match: re.Match[str]) -> tuple[int, int, int]:
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch or 0)
