"""The process a run happens in: ``python -m validate.measure.child SPEC REPORT``.

Writes one JSON line per event to REPORT as it happens, so that whatever becomes of this process, what it reached
is known. Nothing is printed on stdout.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from validate.measure.spec import PhaseReading, RunSpec


class Report:
    """Appends events to a file that the parent reads while the run goes on."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self.readings: list[PhaseReading] = []

    def event(self, kind: str, **values: Any) -> None:
        self._file.write(json.dumps({"event": kind, **values}) + "\n")

    def phase(self, reading: PhaseReading) -> None:
        from dataclasses import asdict

        self.readings.append(reading)
        self.event("phase", **asdict(reading))


def main(spec_path: str, report_path: str) -> int:
    """Run the specification; 0 done, 1 failed with an ``error`` event."""
    from pydantic import TypeAdapter

    spec = TypeAdapter(RunSpec).validate_json(Path(spec_path).read_bytes())
    if spec.device == "cpu" and spec.runner == "accelerate" and "RANK" not in os.environ:
        from validate.measure.ranks import run_ranks

        program = partial(main, spec_path, report_path)
        return run_ranks(spec.parallelism.num_gpus, program, Path(f"{spec_path}.meeting"))
    report = Report(Path(f"{report_path}.{os.environ.get('RANK', '0')}"))
    try:
        _run(spec, report)
    except MemoryError as error:
        report.event("error", type="MemoryError", message=f"host out of memory {error}", unsupported=False)
        return 1
    except Exception as error:
        import traceback

        from planner.errors import PlannerError

        traceback.print_exc()
        hint = error.hint if isinstance(error, PlannerError) else None
        report.event(
            "error", type=type(error).__name__, message=str(error) or repr(error), hint=hint,
            unsupported=isinstance(error, PlannerError),
        )  # fmt: skip
        return 1
    return 0


def _run(spec: RunSpec, report: Report) -> None:
    before = _device_bytes_before(spec)
    report.event("progress", text="importing libraries")
    import torch

    from validate.measure.meter import make_meter
    from validate.measure.model import build
    from validate.measure.serving import serve
    from validate.measure.several import leave, placed, starts_on_host
    from validate.measure.training import train

    torch.manual_seed(0)
    if spec.device == "cpu":
        # Half the cores: oneDNN's spinning threads cost more than they give on a machine that does other work.
        torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    if spec.device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    meter = make_meter(spec.device, report.phase, before)
    if spec.device == "cuda":
        with meter.phase("context"):
            torch.zeros(1, device="cuda")
        if spec.snapshot:
            torch.cuda.memory._record_memory_history(context=None, max_entries=1_000_000)
    _limit(spec)
    report.event("software", **_software())
    model = build(replace(spec, device="cpu")) if starts_on_host(spec) else None
    with meter.watching():
        report.event("progress", text="building the model")
        if model is not None and spec.device == "cpu":
            model = placed(
                spec, model
            )  # the host's memory stands for the device's only once it holds shards alone
        with meter.phase("load"):
            if model is None or spec.device == "cuda":
                model = placed(spec, build(spec) if model is None else model)
        meter.settle()
        report.event("progress", text="running")
        facts = (train if spec.task == "train" else serve)(spec, model, meter, report.readings)
    leave(spec)
    if spec.snapshot and spec.device == "cuda":
        _keep_snapshot(Path(spec.snapshot))
    from dataclasses import asdict

    report.event("facts", **asdict(facts))
    report.event("done")


def _keep_snapshot(path: Path) -> None:
    """The allocator's events and segments as PyTorch's own pickle, gzipped; stacks are not recorded."""
    import gzip
    import pickle

    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(pickle.dumps(torch.cuda.memory._snapshot())))


def _device_bytes_before(spec: RunSpec) -> int:
    """NVML's use of the device before this process touches it."""
    if spec.device != "cuda":
        return 0
    from validate.measure.environment import device_use

    return device_use(int(os.environ.get("LOCAL_RANK", "0"))).used_bytes


def _limit(spec: RunSpec) -> None:
    """Hold the process to ``memory_limit_bytes``: the allocator's fraction on CUDA, data segments on a CPU."""
    limit = spec.memory_limit_bytes
    if limit is None:
        return
    if spec.device == "cuda":
        import torch

        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))
        return
    import resource

    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            most = int(line.split()[1]) * 1024 + limit
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _software() -> dict[str, str]:
    import torch

    from validate.measure.environment import libraries

    return dict(libraries()) | {"torch": torch.__version__, "cuda": str(torch.version.cuda)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
