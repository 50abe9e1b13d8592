"""What can go wrong, in one line each, and the exit code a script sees."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Documented exit codes of ``plan``."""

    OK = 0
    DOES_NOT_FIT = 1
    BAD_REQUEST = 2
    UNKNOWN = 3
    ENVIRONMENT = 4
    OUTSIDE_INTERVAL = 5
    DEFECT = 70
    """An error of gpu-planner's own."""
    INTERRUPTED = 130


class PlannerError(Exception):
    """One line for the user and a hint at the way out."""

    exit_code = ExitCode.BAD_REQUEST

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RequestError(PlannerError):
    """The request itself is wrong: a negative batch, an impossible combination."""


class UnknownNameError(PlannerError):
    """A model, GPU or fact that is not known; the hint names near misses."""

    exit_code = ExitCode.UNKNOWN


class UnsupportedError(PlannerError):
    """Known, but not modelled: refused by name rather than guessed."""

    exit_code = ExitCode.UNKNOWN


class EnvironmentProblemError(PlannerError):
    """No GPU, a missing extra, no network."""

    exit_code = ExitCode.ENVIRONMENT
