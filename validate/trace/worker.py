"""The process that runs a traced step: a pickled ``TraceJob`` on stdin, a ``.trace`` file as the answer.

Only this process imports torch. Its standard output is one JSON line: ``{}`` or the error to report.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

from planner.errors import PlannerError
from validate.trace.job import ScriptJob, TraceJob


def main() -> None:
    out, memory_bytes = Path(sys.argv[1]), int(sys.argv[2])
    _limit_memory(memory_bytes)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    job: TraceJob | ScriptJob = pickle.loads(sys.stdin.buffer.read())
    # Libraries print; the answer must stay alone on stdout.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        run_job(job).save(out)
    except PlannerError as error:
        print(
            json.dumps({"type": type(error).__name__, "message": error.message, "hint": error.hint}), file=answer
        )
    except MemoryError:
        print(json.dumps({"type": "MemoryError"}), file=answer)
    else:
        print("{}", file=answer)
    answer.flush()


def _limit_memory(memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, hard))


def run_job(job: TraceJob | ScriptJob) -> Any:
    """The event log of a job, traced in this process."""
    if isinstance(job, ScriptJob):
        from validate.trace.script import trace_script

        return trace_script(job)
    from validate.trace.programs import trace_serving, trace_training

    return trace_training(job) if job.request.task == "train" else trace_serving(job)


if __name__ == "__main__":
    main()
