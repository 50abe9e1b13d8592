"""Memory, time and money of a table of layouts on every row of hardware, for one combination of choices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy

from planner.memory import engine
from planner.memory.breakdown import MemoryBreakdown
from planner.model.architecture import ModelArchitecture
from planner.quantity import Quantity
from planner.request import ServingWorkload, TrainingWorkload
from planner.search.axes import Layouts, Workload
from planner.search.hardware import Hardware
from planner.throughput import step_tokens
from planner.throughput.decode import decode_time
from planner.throughput.prefill import prefill_time
from planner.throughput.training import step_time
from planner.throughput.values import StepTime


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Arrays of shape (rows of hardware, layouts); memory may be one row that broadcasts."""

    workload: Workload
    cpu_offload: str
    layouts: Layouts
    expected_bytes: Any
    high_bytes: Any
    seconds: Any
    """Of an optimizer step in training, of a decode step in serving."""
    tokens_per_s: Any
    """Of the whole job: trained tokens, or answered ones with the prompts' time included."""
    usd_per_hour: Any

    @property
    def num_candidates(self) -> int:
        return int(numpy.size(self.tokens_per_s))


def peak_bytes(memory: MemoryBreakdown) -> tuple[Any, Any]:
    """Expected and high device bytes of the worst phase, element by element."""
    expected: Any = 0
    high: Any = 0
    for phase in memory.phases:
        expected = numpy.maximum(expected, phase.size_bytes(Quantity.DEVICE))
        high = numpy.maximum(high, phase.high_bytes(Quantity.DEVICE))
    return expected, high


def evaluate(
    architecture: ModelArchitecture, workload: Workload, cpu_offload: str, layouts: Layouts, hardware: Hardware
) -> Block:
    """One block of candidates. Raises UnsupportedError where memory or speed is not modelled."""
    parallelism = layouts.parallelism(cpu_offload)
    columns = _with_batch(workload, layouts, parallelism.pp)
    expected, high = _memory(architecture, columns, parallelism, hardware)
    if isinstance(columns, TrainingWorkload):
        step = _step_time(architecture, columns, parallelism, layouts, hardware)
        ranks = parallelism.dp_replicate * parallelism.dp_shard
        tokens = step_tokens(columns) * ranks
        seconds = hardware.paced(step)
        rate = tokens / seconds
    else:
        seconds, rate = _serve(architecture, columns, parallelism, hardware)
    position = numpy.searchsorted(numpy.array(hardware.counts), layouts.num_gpus)
    return Block(
        workload=workload,
        cpu_offload=cpu_offload,
        layouts=layouts,
        expected_bytes=expected,
        high_bytes=high,
        seconds=seconds,
        tokens_per_s=rate,
        usd_per_hour=hardware.usd_per_hour[:, position],
    )


def _step_time(
    architecture: ModelArchitecture, columns: Any, parallelism: Any, layouts: Layouts, hardware: Hardware
) -> StepTime:
    """Kept for choices that change memory alone: without a padding mask sdpa runs the flash kernel."""
    same = columns.attention == "sdpa" and not columns.padding_mask
    kernel = "flash-attention-2" if same else columns.attention
    key = (
        columns.method, columns.weight_dtype, columns.gradient_checkpointing, columns.optimizer, columns.loss,
        kernel, parallelism.cpu_offload,
    )  # fmt: skip
    if key not in layouts.steps:
        layouts.steps[key] = step_time(architecture, columns, parallelism, hardware.device)
    known: StepTime = layouts.steps[key]
    return known


def _with_batch(workload: Workload, layouts: Layouts, pp: Any) -> Any:
    if isinstance(workload, ServingWorkload):
        return replace(workload, concurrency=layouts.batch_size)
    accumulated = micro_batches(workload, pp)
    return replace(workload, batch_size=layouts.batch_size, gradient_accumulation_steps=accumulated)


def micro_batches(workload: TrainingWorkload, pp: Any) -> Any:
    """Micro-batches of a step: what was asked, and four per pipeline stage, so that the bubble stays small."""
    asked = workload.gradient_accumulation_steps
    if isinstance(pp, int):
        return asked if pp == 1 else max(asked, 4 * pp)
    return numpy.maximum(asked, 4 * pp)


def _serve(architecture: ModelArchitecture, columns: Any, parallelism: Any, hardware: Hardware) -> tuple[Any, Any]:
    prompt, output = columns.prompt_tokens, columns.output_tokens
    prefill = prefill_time(architecture, columns, parallelism, hardware.device, prompt * columns.concurrency)
    step = decode_time(architecture, columns, parallelism, hardware.device, prompt + output / 2)
    token_s = hardware.paced(step)
    busy_s = prefill.total_s + output * token_s
    return token_s, columns.concurrency * output * parallelism.dp_replicate / busy_s


def _memory(
    architecture: ModelArchitecture, columns: Any, parallelism: Any, hardware: Hardware
) -> tuple[Any, Any]:
    """Peaks of shape (rows, layouts).

    Serving is asked once per kind, since engines claim a share of the card; in training GPUs differ only in what
    libraries and CUDA context take, which is added to one answer for all.
    """
    if isinstance(columns, ServingWorkload):
        answers = [
            peak_bytes(engine.breakdown(architecture, columns, parallelism, row.gpu)) for row in hardware.rows
        ]
        shape = (len(hardware.rows), numpy.size(columns.concurrency))
        expected = numpy.stack([numpy.broadcast_to(answer[0], shape[1:]) for answer in answers])
        return expected, numpy.stack([numpy.broadcast_to(answer[1], shape[1:]) for answer in answers])
    expected, high = peak_bytes(engine.breakdown(architecture, columns, parallelism, hardware.rows[0].gpu))
    extra = hardware.own_bytes - hardware.own_bytes[0]
    extra_high = hardware.own_high_bytes - hardware.own_high_bytes[0]
    return expected[None, :] + extra, high[None, :] + extra_high
