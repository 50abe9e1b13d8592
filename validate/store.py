"""Measurements kept in SQLite under the user's data directory: nothing measured is ever lost or sent anywhere."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from planner.errors import EnvironmentProblemError, PlannerError, RequestError, UnknownNameError
from planner.quantity import Quantity
from validate.measurement import OWN, Measurement, from_json, to_json

STORE_VARIABLE = "GPU_PLANNER_STORE"
BUSY_TIMEOUT_S = 30.0


def default_path() -> Path:
    """The user's store; the environment variable ``GPU_PLANNER_STORE`` names another."""
    named = os.environ.get(STORE_VARIABLE)
    if named:
        return Path(named)
    from platformdirs import user_data_path

    return user_data_path("gpu-planner") / "measurements.sqlite3"


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE measurements ("
        " id TEXT PRIMARY KEY, made_at TEXT NOT NULL, origin TEXT NOT NULL, document TEXT NOT NULL) STRICT"
    )


def _add_columns_for_history(connection: sqlite3.Connection) -> None:
    for column in ("fingerprint", "gpu", "model", "task", "method", "outcome"):
        connection.execute(f"ALTER TABLE measurements ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
    connection.execute("CREATE INDEX measurements_by_date ON measurements (made_at)")
    for identity, document in connection.execute("SELECT id, document FROM measurements").fetchall():
        columns = _columns(from_json(document))
        settings = ", ".join(f"{name} = ?" for name in columns)
        connection.execute(f"UPDATE measurements SET {settings} WHERE id = ?", (*columns.values(), identity))


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create, _add_columns_for_history)
"""Applied in order; ``PRAGMA user_version`` counts those done. Entries are never changed, only added."""


def _columns(measurement: Measurement) -> dict[str, str]:
    environment, spec = measurement.environment, measurement.spec
    return {
        "fingerprint": environment.fingerprint,
        "gpu": environment.gpu_id or environment.gpu_name,
        "model": spec.model,
        "task": spec.task,
        "method": getattr(spec.workload, "method", "generate"),
        "outcome": measurement.result.outcome,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What became of the lines of an imported file."""

    added: int
    duplicates: int
    refused: tuple[str, ...]
    """One line each: where and why."""


class Store:
    """An open store. Several processes may write at once; every ``add`` is one transaction on disk."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self.notices: tuple[str, ...] = ()
        """What the user should know about opening it, such as a damaged file moved aside."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except (OSError, sqlite3.Error) as error:
            raise EnvironmentProblemError(
                f"the store {self.path} cannot be opened: {error}", hint=f"set {STORE_VARIABLE} to another file"
            ) from error

    def _open(self) -> None:
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                raise
            aside = self._move_aside()
            self.notices = (f"the store was damaged ({error}); it is kept as {aside} and a new one was begun",)
            self._prepare()

    def _prepare(self) -> None:
        with self._connected() as connection:
            (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            _use_wal(connection)
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                connection.execute("ROLLBACK")
                raise PlannerError(
                    f"the store {self.path} was written by a newer gpu-planner",
                    hint="upgrade, or name another store",
                )
            for number, migrate in enumerate(MIGRATIONS[version:], start=version + 1):
                migrate(connection)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            yield connection

    def _move_aside(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        aside = self.path.with_name(f"{self.path.stem}.damaged-{stamp}{self.path.suffix}")
        for suffix in ("-wal", "-shm", ""):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        return aside

    def add(self, measurement: Measurement, line: str | None = None) -> bool:
        """Keep ``measurement`` (as ``line``, where it was read from one); False where it is already there.

        Where the store cannot be written (a full disk), the measurement is put into a file of its own and an
        EnvironmentProblemError names it.
        """
        measurement = measurement if measurement.id else measurement.identified()
        columns = {
            "id": measurement.id,
            "made_at": measurement.made_at,
            "origin": measurement.origin,
            "document": line or to_json(replace(measurement, origin=OWN)),
        } | _columns(measurement)
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        try:
            with self._connected() as connection:
                cursor = connection.execute(
                    f"INSERT INTO measurements ({names}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING",
                    tuple(columns.values()),
                )
                return cursor.rowcount == 1
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentProblemError(
                f"the store {self.path} cannot be written: {error}", hint=_saved_elsewhere(measurement)
            ) from error

    def all(self, *, gpu: str | None = None, limit: int | None = None) -> tuple[Measurement, ...]:
        """Measurements, newest first."""
        where, values = ("WHERE gpu = ?", (gpu,)) if gpu else ("", ())
        query = f"SELECT document, origin FROM measurements {where} ORDER BY made_at DESC, id LIMIT ?"
        with self._connected() as connection:
            rows = connection.execute(query, (*values, -1 if limit is None else limit)).fetchall()
        return tuple(replace(from_json(document), origin=origin) for document, origin in rows)

    def get(self, prefix: str) -> Measurement:
        """The measurement whose id begins with ``prefix``; raises UnknownNameError."""
        with self._connected() as connection:
            rows = connection.execute(
                "SELECT document, origin FROM measurements WHERE substr(id, 1, ?) = ? LIMIT 2",
                (len(prefix), prefix),
            ).fetchall()
        if not prefix or not rows:
            raise UnknownNameError(f"there is no measurement {prefix[:40]!r}", hint="see plan validate history")
        if len(rows) > 1:
            raise UnknownNameError(f"several measurements begin with {prefix!r}", hint="give more digits")
        document, origin = rows[0]
        return replace(from_json(document), origin=origin)

    def export(self) -> Iterator[str]:
        """Every measurement as the line it was first written as, oldest first."""
        with self._connected() as connection:
            rows = connection.execute("SELECT document FROM measurements ORDER BY made_at, id").fetchall()
        for (document,) in rows:
            yield document

    def import_lines(self, lines: Iterable[str], origin: str) -> ImportResult:
        """Take over measurements of others, marked with ``origin``; lines that are none are refused one by one."""
        added = duplicates = 0
        refused = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                measurement = from_json(line)
            except RequestError as error:
                refused.append(f"{origin}:{number}: {error.message}")
                continue
            if self.add(replace(measurement, origin=origin), line.strip()):
                added += 1
            else:
                duplicates += 1
        return ImportResult(added=added, duplicates=duplicates, refused=tuple(refused))

    def __len__(self) -> int:
        with self._connected() as connection:
            (count,) = connection.execute("SELECT count(*) FROM measurements").fetchone()
        return int(count)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; the switch itself does not wait for other processes, so try again."""
    for _ in range(round(BUSY_TIMEOUT_S / 0.05)):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(0.05)
        else:
            return


def _is_damage(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _saved_elsewhere(measurement: Measurement) -> str:
    """Put a measurement that the store refused into the first folder that takes it; says where."""
    name = f"plan-measurement-{measurement.id[:12]}.jsonl"
    for folder in (Path(tempfile.gettempdir()), Path.cwd(), Path("/dev/shm")):
        path = folder / name
        try:
            path.write_text(to_json(measurement) + "\n", encoding="utf-8")
        except OSError:
            continue
        return f"this measurement is kept in {path}; plan validate import takes it in later"
    return "free some disk space and measure again"


def peaks(measurement: Measurement) -> dict[Quantity, int]:
    """Highest reading of each counter the run has."""
    found = {quantity: measurement.result.peak(quantity.value) for quantity in Quantity}
    return {quantity: value for quantity, value in found.items() if value is not None}
