"""Runs a specification in a fresh process and makes a result of whatever becomes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

import validate
from planner.errors import EnvironmentProblemError, UnsupportedError
from validate.measure.spec import Outcome, PhaseReading, RunFacts, RunResult, RunSpec, refuse_unmeasured
from validate.oom.message import parse as parse_out_of_memory

Progress = Callable[[str], None]
_POLL_S = 0.05
_TERMINATE_S = 3.0


@dataclass(slots=True)
class _Heard:
    """What the child has said so far."""

    phases: list[PhaseReading] = field(default_factory=list)
    facts: RunFacts | None = None
    software: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    done: bool = False


def run(
    spec: RunSpec,
    *,
    progress: Progress = lambda text: None,
    silence_s: float = 300.0,
    time_limit_s: float | None = None,
) -> RunResult:
    """Run ``spec`` and return its result, also when the child fails, is killed, or says nothing for ``silence_s``.

    Raises UnsupportedError for what the measuring code does not know, KeyboardInterrupt after stopping the child.
    """
    refuse_unmeasured(spec)
    with tempfile.TemporaryDirectory(prefix="plan-validate-") as folder:
        spec_path, report_path, errors = Path(folder, "spec.json"), Path(folder, "report"), Path(folder, "stderr")
        spec_path.write_bytes(TypeAdapter(RunSpec).dump_json(spec))
        began = time.monotonic()
        with errors.open("wb") as stderr:
            child = subprocess.Popen(
                _command(spec, spec_path, report_path), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=stderr, env=_child_environment(), start_new_session=True,
            )  # fmt: skip
            try:
                heard, ended = _listen(child, report_path, progress, silence_s, began, time_limit_s)
            finally:
                _stop(child)
        return _result(child.returncode, heard, ended, errors, time.monotonic() - began)


def run_probes(device: str, timeout_s: float = 300.0) -> dict[str, Any]:
    """Constants of this card and software (``validate.measure.probes``), measured in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="plan-probe-") as folder:
        report = Path(folder, "probes.json")
        command = [sys.executable, "-m", "validate.measure.probes", str(report), device]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, env=_child_environment(), check=False
            )
        except subprocess.TimeoutExpired:
            raise EnvironmentProblemError(f"the probes took longer than {timeout_s:.0f} s") from None
        if not report.exists():
            last = " ".join(done.stderr.split()[-30:])
            raise EnvironmentProblemError(f"the probes failed: {last}")
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found


def _command(spec: RunSpec, spec_path: Path, report_path: Path) -> list[str]:
    module = ["-m", "validate.measure.child", str(spec_path), str(report_path)]
    if spec.runner != "accelerate" or spec.device == "cpu":  # on a CPU the child starts its ranks itself
        return [sys.executable, *module]
    processes = str(spec.parallelism.num_gpus)
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--num_processes",
        processes,
        "--num_machines",
        "1",
        "--main_process_port",
        "0",
    ]
    several = ["--multi_gpu"] if spec.parallelism.num_gpus > 1 else []
    return [*launch, *several, "--mixed_precision", "no", "--dynamo_backend", "no", *module]


def _child_environment() -> dict[str, str]:
    root = str(Path(validate.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    quiet = {"TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error", "PYTHONUNBUFFERED": "1"}
    return os.environ | quiet | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}


def _listen(
    child: subprocess.Popen[bytes], report_path: Path, progress: Progress, silence_s: float, began: float,
    time_limit_s: float | None,
) -> tuple[_Heard, str | None]:  # fmt: skip
    """Follow every rank's report until the child ends; the second value says why it had to be ended."""
    heard, position, last = _Heard(), 0, time.monotonic()
    path = Path(f"{report_path}.0")
    while True:
        running = child.poll() is None
        fresh, position = _read_from(path, position)
        for line in fresh:
            last = time.monotonic()
            _hear(heard, json.loads(line), progress)
        if not running:
            break
        now = time.monotonic()
        if now - last > silence_s:
            return heard, f"no sign of life for {silence_s:.0f} s"
        if time_limit_s is not None and now - began > time_limit_s:
            return heard, f"the time limit of {time_limit_s:.0f} s passed"
        time.sleep(_POLL_S)
    for other in sorted(report_path.parent.glob(f"{report_path.name}.*")):
        if other != path:
            for line in _read_from(other, 0)[0]:
                _hear(heard, json.loads(line), lambda text: None)
    return heard, None


def _read_from(path: Path, position: int) -> tuple[list[str], int]:
    """Whole lines of ``path`` after ``position``."""
    if not path.exists():
        return [], position
    with path.open("rb") as file:
        file.seek(position)
        data = file.read()
    whole = data.rfind(b"\n") + 1
    return data[:whole].decode().splitlines(), position + whole


def _hear(heard: _Heard, event: dict[str, Any], progress: Progress) -> None:
    match event.pop("event"):
        case "phase":
            reading = PhaseReading(**event)
            heard.phases.append(reading)
            progress(f"{reading.phase}, step {reading.step + 1}")
        case "progress":
            progress(event["text"])
        case "software":
            heard.software = event
        case "facts":
            heard.facts = RunFacts(**event)
        case "error":
            heard.error = event
        case "done":
            heard.done = True


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End the child's whole process group and wait for it."""
    if child.poll() is not None:
        return
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, how)
            child.wait(_TERMINATE_S)
            return
        except ProcessLookupError:
            child.wait(_TERMINATE_S)
            return
        except subprocess.TimeoutExpired:
            continue


def _result(code: int | None, heard: _Heard, ended: str | None, errors: Path, wall_s: float) -> RunResult:
    if heard.error is not None and heard.error.get("unsupported"):
        raise UnsupportedError(heard.error["message"], hint=heard.error.get("hint"))
    outcome, detail = _outcome(code, heard, ended, errors.read_text(encoding="utf-8", errors="replace"))
    return RunResult(
        outcome=outcome, detail=detail, phases=tuple(heard.phases), facts=heard.facts, software=heard.software,
        wall_s=wall_s,
    )  # fmt: skip


def _outcome(code: int | None, heard: _Heard, ended: str | None, stderr: str) -> tuple[Outcome, str]:
    if ended is not None:
        return "hung", ended
    if heard.done and code == 0:
        return "ok", ""
    said = f"{heard.error['type']}: {heard.error['message']}" if heard.error else ""
    if heard.error is not None and (heard.error["type"] == "MemoryError" or parse_out_of_memory(said)):
        message = parse_out_of_memory(said)
        return "out of memory", message.text if message else said
    if said:
        return "crashed", " ".join(said.split())[:600]
    message = parse_out_of_memory(stderr)
    if message is not None:
        return "out of memory", message.text
    if code == -signal.SIGKILL:
        return "killed", "killed from outside (SIGKILL), as the host's out-of-memory killer does"
    if code is not None and code < 0:
        return "crashed", f"ended by {signal.Signals(-code).name}"
    tail = " ".join(stderr.split()[-40:])
    return "crashed", f"exit code {code}: {tail}"
