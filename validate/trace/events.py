"""The event log of a traced run: what was allocated and freed, in order, and how it is kept in a file.

A ``.trace`` file is gzip text. Its first line is a JSON header (format, version, facts about the run, the table of
names); every further line is one event::

    a <bytes> <operator> <module> <category>     an allocation; allocations are numbered from 0 in order
    f <allocation number>                        its release
    p <phase> <step>                             a phase begins
    e                                            torch.cuda.empty_cache()

Operator, module, category and phase are indices into the table of names.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from planner.errors import EnvironmentProblemError, RequestError

FORMAT = "gpu-planner-trace"
VERSION = 1
HOST = "host"
"""Category of storages that a CUDA run keeps in host memory; a replay leaves them out."""


class Kind(IntEnum):
    ALLOC = 0
    FREE = 1
    PHASE = 2
    EMPTY_CACHE = 3


_LETTERS = {Kind.ALLOC: "a", Kind.FREE: "f", Kind.PHASE: "p", Kind.EMPTY_CACHE: "e"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_LENGTHS = {"a": 5, "f": 2, "p": 3, "e": 1}

Row = tuple[Kind, int, int, int]
"""Kind, then (bytes, operator, module), (allocation, 0, 0), (phase, step, 0) or zeros."""


@dataclass(slots=True)
class EventLog:
    """Append-only while a run is traced, then data."""

    meta: dict[str, Any] = field(default_factory=dict)
    """Facts about the run: versions, request, trainable parameters, warnings. JSON values only."""
    names: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    categories: list[int] = field(default_factory=list)
    """Category of each allocation, by its number."""
    _index: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._index = {name: index for index, name in enumerate(self.names)}

    def name(self, text: str) -> int:
        """Index of ``text`` in the table of names."""
        index = self._index.get(text)
        if index is None:
            index = self._index[text] = len(self.names)
            self.names.append(text)
        return index

    def find(self, text: str) -> int | None:
        """Index of ``text`` where the table of names has it."""
        return self._index.get(text)

    def alloc(self, size_bytes: int, op: int, module: int, category: int) -> int:
        """Record an allocation and return its number."""
        self.rows.append((Kind.ALLOC, size_bytes, op, module))
        self.categories.append(category)
        return len(self.categories) - 1

    def free(self, allocation: int) -> None:
        self.rows.append((Kind.FREE, allocation, 0, 0))

    def phase(self, name: str, step: int) -> None:
        self.rows.append((Kind.PHASE, self.name(name), step, 0))

    def empty_cache(self) -> None:
        self.rows.append((Kind.EMPTY_CACHE, 0, 0, 0))

    def category_of(self, allocation: int) -> str:
        return self.names[self.categories[allocation]]

    @property
    def num_allocations(self) -> int:
        return len(self.categories)

    def save(self, path: Path) -> None:
        """Write the log; equal logs give equal files."""
        header = {"format": FORMAT, "version": VERSION, "meta": self.meta, "names": self.names}
        text = "\n".join([json.dumps(header), *self._lines(), ""])
        path.write_bytes(gzip.compress(text.encode(), compresslevel=6, mtime=0))

    def _lines(self) -> Iterator[str]:
        allocation = 0
        for kind, first, second, third in self.rows:
            if kind is Kind.ALLOC:
                yield f"a {first} {second} {third} {self.categories[allocation]}"
                allocation += 1
            elif kind is Kind.FREE:
                yield f"f {first}"
            elif kind is Kind.PHASE:
                yield f"p {first} {second}"
            else:
                yield "e"


def load(path: Path) -> EventLog:
    """Read a ``.trace`` file.

    Raises EnvironmentProblemError where the file cannot be read, RequestError where it is not a trace this
    version understands.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    except gzip.BadGzipFile as error:
        raise _not_a_trace(path) from error
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise EnvironmentProblemError(f"{path} cannot be read: {reason.lower()}") from error
    except (EOFError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is damaged", hint="save the trace again with plan trace --save") from error
    try:
        header = json.loads(lines[0])
        if header["format"] != FORMAT:
            raise _not_a_trace(path)
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise _not_a_trace(path) from error
    if header.get("version") != VERSION:
        raise RequestError(
            f"{path} has trace version {header.get('version')}, this program reads {VERSION}",
            hint="save the trace again with plan trace --save",
        )
    try:
        log = EventLog(meta=dict(header["meta"]), names=[str(name) for name in header["names"]])
    except (KeyError, TypeError, ValueError) as error:
        raise _not_a_trace(path) from error
    for number, line in enumerate(lines[1:], start=2):
        try:
            _read(log, line)
        except (ValueError, IndexError, KeyError) as error:
            raise RequestError(f"{path} is damaged at line {number}", hint="save the trace again") from error
    return log


def _read(log: EventLog, line: str) -> None:
    letter, *rest = line.split(" ")
    values = [int(text) for text in rest]
    if len(rest) + 1 != _LENGTHS[letter] or min(values, default=0) < 0:
        raise ValueError(line)
    kind = _KINDS[letter]
    if kind is Kind.ALLOC:
        _ = [log.names[index] for index in values[1:]]
        log.alloc(*values)
    elif kind is Kind.FREE:
        if values[0] >= log.num_allocations:
            raise ValueError(line)
        log.free(values[0])
    elif kind is Kind.PHASE:
        log.phase(log.names[values[0]], values[1])
    else:
        log.empty_cache()


def _not_a_trace(path: Path) -> RequestError:
    return RequestError(f"{path} is not a trace", hint="traces are written by plan trace --save")
