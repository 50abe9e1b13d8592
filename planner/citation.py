"""Where a formula or a constant comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A source a reader can follow. ``url`` is None only for the founding documents, which are not public."""

    title: str
    url: str | None = None
