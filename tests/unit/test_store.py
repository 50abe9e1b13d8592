"""The store keeps what was measured: damaged files, full disks, two writers, a kill in the middle."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from planner.errors import EnvironmentProblemError, PlannerError, RequestError, UnknownNameError
from planner.quantity import Quantity, Tier
from planner.request import ServingWorkload, TrainingWorkload
from validate.measure.environment import Environment
from validate.measure.spec import PhaseReading, RunResult, RunSpec
from validate.measurement import Measurement, Prediction, digest, from_json, to_json
from validate.store import MIGRATIONS, Store, peaks

ROOT = Path(__file__).parent.parent.parent


def measurement(number: int = 0, **changes: object) -> Measurement:
    values: dict[str, object] = {
        "made_at": f"2026-11-20T12:00:{number % 60:02d}.{number:06d}+00:00",
        "command": "plan validate",
        "environment": Environment(
            device="cuda", gpu_name="NVIDIA H200", gpu_id="h200", generation="Hopper", memory_bytes=150 * 10**9,
            compute_capability=(9, 0), driver="580.1", cuda="13.0", python="3.11.9", platform="Linux",
            libraries=(("torch", "2.13.0"), ("peft", "0.21.2")),
        ),
        "spec": RunSpec(model="m", config={"model": "m"}, workload=TrainingWorkload(batch_size=number + 1)),
        "result": RunResult(
            outcome="ok",
            phases=(
                PhaseReading(phase="load", allocated_bytes=10, allocated_end_bytes=9, reserved_bytes=20),
                PhaseReading(phase="forward", allocated_bytes=50, allocated_end_bytes=30, reserved_bytes=60),
            ),
        ),
        "predictions": (
            Prediction(
                tier=Tier.ANALYTIC, quantity=Quantity.RESERVED, low_bytes=50, expected_bytes=61, high_bytes=70,
                phase="forward",
            ),
        ),
    }  # fmt: skip
    return Measurement(**(values | changes)).identified()  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data" / "measurements.sqlite3")


def test_what_is_added_comes_back_equal_and_once(store: Store) -> None:
    one = measurement()
    assert store.add(one)
    assert not store.add(one)
    assert store.all() == (one,)
    assert store.get(one.id[:8]) == one
    assert peaks(one) == {Quantity.ALLOCATED: 50, Quantity.RESERVED: 60}


def test_serving_and_training_specs_survive_the_file(store: Store) -> None:
    serving = measurement(
        spec=RunSpec(model="m", config={"model_type": "llama"}, workload=ServingWorkload(concurrency=3))
    )
    assert from_json(to_json(serving)) == serving
    assert from_json(to_json(measurement(4))).spec.workload.batch_size == 5  # type: ignore[union-attr]


def test_import_adds_marks_and_recognises(store: Store, tmp_path: Path) -> None:
    ours, theirs = measurement(1), measurement(2)
    store.add(ours)
    other = Store(tmp_path / "other.sqlite3")
    other.add(ours)
    other.add(theirs)
    result = store.import_lines([*other.export(), "", "not json", '{"version": 1}'], "team-a")
    assert (result.added, result.duplicates, len(result.refused)) == (1, 1, 2)
    assert result.refused[0].startswith("team-a:4: ")
    assert store.get(theirs.id).origin == "team-a"
    assert store.get(ours.id).origin == "own"


def test_a_line_written_before_a_field_existed_is_read_and_shared_as_it_was(store: Store) -> None:
    row = json.loads(to_json(measurement()))
    del row["spec"]["workload"]["compile"], row["spec"]["snapshot"]
    row["id"] = digest(json.dumps(row))
    older = json.dumps(row)
    assert store.import_lines([older], "older").added == 1
    assert store.get(row["id"]).spec.snapshot is None
    assert list(store.export()) == [older]
    assert store.import_lines(store.export(), "again").duplicates == 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("result", "phases", 1, "reserved_bytes"), 61),
        (("environment", "gpu_name"), "NVIDIA B200"),
        (("spec", "workload", "batch_size"), "many"),
        (("surprise",), 1),
        (("version",), 2),
    ],
)
def test_an_altered_or_malformed_row_is_refused(path: tuple[str | int, ...], value: object) -> None:
    row = json.loads(to_json(measurement()))
    place = row
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(RequestError):
        from_json(json.dumps(row))


def test_unknown_and_ambiguous_ids_are_answered(store: Store) -> None:
    for number in range(20):
        store.add(measurement(number))
    with pytest.raises(UnknownNameError):
        store.get("zzzz")
    with pytest.raises(UnknownNameError, match="several"):
        store.get(next(m.id[0] for m in store.all() if sum(o.id[0] == m.id[0] for o in store.all()) > 1))


@pytest.mark.parametrize("damage", ["garbage", "truncated", "flipped"])
def test_a_damaged_store_is_moved_aside_and_work_goes_on(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "measurements.sqlite3"
    store = Store(path)
    for number in range(30):
        store.add(measurement(number))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = path.read_bytes()
    broken = {
        "garbage": b"this is no database" * 1000,
        "truncated": content[: len(content) // 2],
        "flipped": content[:200] + bytes(255 - byte for byte in content[200:6000]) + content[6000:],
    }[damage]
    path.write_bytes(broken)
    reopened = Store(path)
    assert "damaged" in reopened.notices[0]
    assert [p.read_bytes() for p in tmp_path.glob("*.damaged-*") if p.suffix == ".sqlite3"] == [broken]
    assert reopened.add(measurement(99))
    assert len(reopened) == 1


def test_an_older_store_is_migrated_with_its_rows(tmp_path: Path) -> None:
    path, old = tmp_path / "old.sqlite3", measurement(7)
    with sqlite3.connect(path) as connection:
        MIGRATIONS[0](connection)
        connection.execute("PRAGMA user_version = 1")
        connection.execute("INSERT INTO measurements VALUES (?, ?, 'own', ?)", (old.id, old.made_at, to_json(old)))
    connection.close()
    assert Store(path).all(gpu="h200") == (old,)


def test_a_store_of_a_newer_version_is_left_alone(store: Store) -> None:
    store.add(measurement())
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(PlannerError, match="newer"):
        Store(store.path)
    assert not list(store.path.parent.glob("*.damaged-*"))


_WRITER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from dataclasses import replace
from validate.measurement import from_json
from validate.store import Store
path, line, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
from pathlib import Path
base = from_json(line)
for number in range(first, first + 40):
    Store(Path(path)).add(replace(base, command=f"run {{number}}", id="").identified())
    print(number, flush=True)
"""


def writer(path: Path, first: int, **options: object) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", _WRITER, str(path), to_json(measurement()), str(first)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "measurements.sqlite3"
    writers = [writer(path, 0), writer(path, 1000)]
    errors = [process.communicate(timeout=60)[1] for process in writers]
    assert [process.returncode for process in writers] == [0, 0], errors
    commands = {m.command for m in Store(path).all()}
    assert commands == {f"run {n}" for n in (*range(40), *range(1000, 1040))}


def test_a_writer_killed_in_the_middle_keeps_what_it_reported(tmp_path: Path) -> None:
    path = tmp_path / "measurements.sqlite3"
    process = writer(path, 0)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    reopened = Store(path)
    assert reopened.notices == ()
    assert {f"run {n}" for n in range(5)} <= {m.command for m in reopened.all()}
    assert reopened.add(measurement(50))


def test_a_full_disk_keeps_the_measurement_in_a_file_and_the_rows_before_it(tmp_path: Path) -> None:
    """The kernel refuses to let this process's files grow past a limit, as a full disk does."""
    path, elsewhere = tmp_path / "measurements.sqlite3", tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = measurement(1)
    Store(path).add(before)
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from planner.errors import EnvironmentProblemError
from validate.measurement import from_json
from validate.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(Path(sys.argv[1]))
measurement = from_json(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    store.add(measurement)
except EnvironmentProblemError as error:
    print(error.message)
    print(error.hint)
"""
    small = replace(measurement(2), predictions=(), id="").identified()
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), to_json(small)], capture_output=True, text=True, timeout=60,
        env=os.environ | {"TMPDIR": str(elsewhere)}, check=True,
    )  # fmt: skip
    assert "cannot be written" in done.stdout
    (kept,) = elsewhere.glob("*.jsonl")
    assert str(kept) in done.stdout
    reopened = Store(path)
    assert reopened.all() == (before,)
    with kept.open() as lines:
        assert reopened.import_lines(lines, "own").added == 1
    assert reopened.get(small.id) == small


def test_a_store_that_cannot_be_made_is_an_environment_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblemError, match="cannot be opened"):
        Store(tmp_path / "file" / "measurements.sqlite3")
