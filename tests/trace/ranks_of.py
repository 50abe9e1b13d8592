"""A small step on one rank of several: alone among imagined ranks, or beside a real one.

``python ranks_of.py FOLDER RANK`` is one of two real ranks; the cases lie pickled in the folder.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import planner
from planner.request import Parallelism, TrainingWorkload
from validate.trace.builder import build_model, make_batch
from validate.trace.events import EventLog, Kind
from validate.trace.fake import as_with_data, fake_tensors
from validate.trace.optimizers import build_optimizer
from validate.trace.parallel import SpreadLabels, mesh_of, playing_rank, spread
from validate.trace.quantised import sharded_weights
from validate.trace.steps import adopt_model, plain_loop
from validate.trace.tracer import Tracer

NUM_STEPS = 2
Case = tuple[dict[str, Any], TrainingWorkload, Parallelism]


def alone(case: Case, rank: int, *, fake: bool) -> EventLog:
    """Rank ``rank`` without the others, on fake tensors or on real ones; collectives move nothing."""
    _, asked, parallelism = case
    tensors: AbstractContextManager[Any] = fake_tensors() if fake else nullcontext()
    with playing_rank(rank, parallelism) as mesh, tensors, as_with_data(padded=asked.padding_mask):
        return _steps(case, mesh, real=not fake)


def largest_sent_bytes(log: EventLog) -> int:
    """The largest buffer ranks exchange: a thread of gloo may hold one for a moment after it was sent, not two."""
    sizes = [row[1] for row in log.rows if row[0] is Kind.ALLOC]
    kinds = ("gathered", "reduction", "buckets")
    return max(size for number, size in enumerate(sizes) if log.category_of(number) in kinds)


def beside_each_other(cases: Mapping[str, Case], folder: Path) -> None:
    """Two processes that talk through gloo run every case; their logs are ``NAME.RANK`` in ``folder``."""
    (folder / "cases").write_bytes(pickle.dumps(dict(cases)))
    root = str(Path(planner.__file__).parent.parent)
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(folder), str(rank)], env=os.environ | {"PYTHONPATH": root})
        for rank in range(2)
    ]
    assert [rank.wait() for rank in ranks] == [0, 0]


def _among_others(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    for name, case in pickle.loads((folder / "cases").read_bytes()).items():
        _steps(case, mesh_of(case[2], "cpu"), real=True).save(folder / f"{name}.{rank}")
    dist.barrier()
    dist.destroy_process_group()


def _steps(case: Case, mesh: Any, *, real: bool) -> EventLog:
    config, asked, parallelism = case
    torch.manual_seed(0)
    built = build_model(config, asked, initialise=real, sharded=mesh is not None)
    if mesh is not None:
        built.model = spread(built.model, asked, parallelism, mesh)
    tracer = Tracer()
    with tracer, sharded_weights(), SpreadLabels(tracer), tracer.watch(built.model):
        adopt_model(tracer, built.model)
        if mesh is None:
            built.model = spread(built.model, asked, parallelism, mesh)
        optimizer = build_optimizer(built.model, asked.optimizer)
        steps = [
            [make_batch(built, asked) for _ in range(asked.gradient_accumulation_steps)] for _ in range(NUM_STEPS)
        ]
        plain_loop(tracer, built, optimizer, steps, asked, parallelism=parallelism)
    return tracer.log


def allocations(log: EventLog) -> list[tuple[str, int, str]]:
    """Phase, bytes and operator of each allocation of the steps, in order.

    Gloo reduces a copy of what it is given, made out of the tracer's sight and first met through a view.
    """
    rows, phase = [], "load"
    for kind, first, second, _ in log.rows:
        if kind is Kind.PHASE:
            phase = log.names[first]
        elif kind is Kind.ALLOC and phase != "load" and log.names[second] not in ("split.Tensor", "chunk.default"):
            rows.append((phase, first, log.names[second]))
    return rows


if __name__ == "__main__":
    _among_others(Path(sys.argv[1]), int(sys.argv[2]))
