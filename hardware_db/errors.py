"""What can go wrong with facts. ``tui.cli`` maps each to its exit code."""

from __future__ import annotations


class UnknownGpuError(LookupError):
    """No catalogue entry goes by this name; ``suggestions`` are the nearest."""

    def __init__(self, name: str, suggestions: tuple[str, ...]) -> None:
        super().__init__(f"unknown GPU {name!r}")
        self.name = name
        self.suggestions = suggestions


class BrokenPriceFileError(ValueError):
    """A price file that cannot be read; the message names file, line and cell."""


class LivePricesError(RuntimeError):
    """Live prices cannot be had: no extra, no network, or nothing usable came back."""
