"""Run a trace in a process of its own, within its limits, and say in words how it ended."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import planner.errors
from planner.errors import EnvironmentProblemError, PlannerError, RequestError, UnsupportedError
from planner.units import format_bytes
from validate.trace.events import EventLog, load
from validate.trace.job import ScriptJob, TraceJob


def run_in_subprocess(job: TraceJob | ScriptJob, *, timeout_s: float, memory_bytes: int) -> EventLog:
    """Run ``job`` in a process with a time and memory limit and read its log back."""
    root = Path(planner.errors.__file__).parent.parent
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")])),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    with tempfile.TemporaryDirectory(prefix="plan-trace-") as folder:
        out = Path(folder) / "run.trace"
        command = [sys.executable, "-m", "validate.trace.worker", str(out), str(memory_bytes)]
        try:
            done = subprocess.run(
                command,
                input=pickle.dumps(job),
                capture_output=True,
                timeout=timeout_s,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EnvironmentProblemError(
                f"the trace took longer than {timeout_s:g} s",
                hint="allow more with --timeout, or take fewer layers",
            ) from error
        _raise_reported(done, memory_bytes)
        return load(out)


def _raise_reported(done: subprocess.CompletedProcess[bytes], memory_bytes: int) -> None:
    errors = done.stderr.decode(errors="replace").strip().splitlines()
    try:
        report = json.loads(done.stdout)
    except ValueError:
        last = errors[-1] if errors else f"exit code {done.returncode}"
        if "MemoryError" in last or "bad_alloc" in last or "can't allocate memory" in last:
            raise _out_of_host_memory(memory_bytes) from None
        if "No module named" in last:
            raise EnvironmentProblemError(
                f"a trace needs torch and transformers: {last}", hint="pip install 'gpu-planner[validate]'"
            ) from None
        raise UnsupportedError(
            f"the step cannot be traced: {last[:300]}", hint="the analytic tier estimates it by formula"
        ) from None
    if not report:
        return
    if report["type"] == "MemoryError":
        raise _out_of_host_memory(memory_bytes)
    kinds: dict[str, type[PlannerError]] = {"RequestError": RequestError, "UnsupportedError": UnsupportedError}
    raise kinds.get(report["type"], EnvironmentProblemError)(report["message"], hint=report["hint"])


def _out_of_host_memory(memory_bytes: int) -> EnvironmentProblemError:
    return EnvironmentProblemError(
        f"the trace needed more than {format_bytes(memory_bytes)} of host memory",
        hint="trace fewer layers, or run it on a larger machine",
    )
