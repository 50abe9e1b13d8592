"""One small training step traced twice: on fake tensors and on real ones."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import bitsandbytes  # its module-level tensors must be real
import torch
import transformers.optimization  # noqa: F401

from planner.request import TrainingWorkload
from validate.measure.model import build as build_real
from validate.measure.spec import Head, RunSpec
from validate.trace.builder import Built, build_model, make_batch
from validate.trace.events import EventLog, Kind
from validate.trace.fake import as_with_data, fake_tensors
from validate.trace.optimizers import build_optimizer
from validate.trace.steps import adopt_model, plain_loop
from validate.trace.tracer import Tracer

# bitsandbytes keeps the code books it makes on the first call; they must be real.
bitsandbytes.functional.quantize_4bit(torch.zeros(64, 64), compress_statistics=True, quant_type="nf4")

Config = dict[str, Any]
HEADS: dict[str, Head] = {"encoder": "masked-lm", "encoder-decoder": "seq2seq-lm", "decoder": "causal-lm"}


def workload(**changes: Any) -> TrainingWorkload:
    defaults: dict[str, Any] = {
        "method": "full", "batch_size": 2, "seq_len": 16, "gradient_checkpointing": "none",
    }  # fmt: skip
    return TrainingWorkload(**(defaults | changes))


def traced(config: Config, asked: TrainingWorkload) -> EventLog:
    """The step on fake tensors: no weight and no activation is ever computed."""
    with fake_tensors(), as_with_data(padded=asked.padding_mask):
        return _two_steps(build_model(config, asked), asked)


def run(config: Config, asked: TrainingWorkload, *, by_the_libraries: bool = False) -> EventLog:
    """The step on real CPU tensors; quantised weights are made by bitsandbytes itself where asked."""
    torch.manual_seed(0)
    built = build_model(config, asked, initialise=True)
    if by_the_libraries:
        spec = RunSpec(model="test", config=config, head=HEADS[built.kind], workload=asked, device="cpu")
        built = Built(model=build_real(spec), config=built.config, kind=built.kind)
    return _two_steps(built, asked)


def _two_steps(built: Built, asked: TrainingWorkload) -> EventLog:
    optimizer = build_optimizer(built.model, asked.optimizer)
    tracer = Tracer()
    with ExitStack() as stack:
        stack.enter_context(tracer)
        stack.enter_context(tracer.watch(built.model))
        adopt_model(tracer, built.model)
        batches = [[make_batch(built, asked) for _ in range(asked.gradient_accumulation_steps)] for _ in range(2)]
        plain_loop(tracer, built, optimizer, batches, asked)
    return tracer.log


def readable(log: EventLog) -> list[tuple[Any, ...]]:
    """Rows without indices into the table of names, which may be numbered differently."""
    rows: list[tuple[Any, ...]] = []
    for kind, first, second, _ in log.rows:
        if kind is Kind.ALLOC:
            rows.append((kind.name, first, log.names[second]))
        elif kind is Kind.PHASE:
            rows.append((kind.name, log.names[first], second))
        else:
            rows.append((kind.name, first))
    return rows
