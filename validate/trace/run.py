"""Trace a request: a real step on fake tensors in a process of its own, and what its replays say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hardware_db.gpu import Gpu
from planner.citation import Citation
from planner.errors import RequestError, UnsupportedError
from planner.memory.frameworks import framework_traits
from planner.memory.versions import release
from planner.model import registry
from planner.quantity import Quantity
from planner.request import Parallelism, PlanRequest, TrainingWorkload
from planner.units import GIB
from validate.trace.allocator import AllocatorSettings
from validate.trace.child import run_in_subprocess
from validate.trace.events import EventLog
from validate.trace.history import compose, nearest_lengths
from validate.trace.job import Loop, ScriptJob, TraceJob, refuse_unspread
from validate.trace.lengths import batch_lengths
from validate.trace.replay import LiveGroup, Replay, live_at, replay

TIMEOUT_S = 300.0
MEMORY_BYTES = 6 * GIB
SHORT_BATCH_DIVISOR = 5
"""A batch of ordinary samples is taken to be so many times shorter than the longest of the run."""
PEFT_BUCKET = (4 / 5, 2 / 5, 1 / 7, 1)
"""Batch lengths of peft's method comparison, as shares of the longest: a bucket of batches sorted long to short,
after which the cache is emptied, and the first batch of the next bucket. Its samples average 0.3 of the longest
batch, its shortest are half of that (PEFT_LOOP)."""
PEFT_LOOP = Citation(
    title="peft method_comparison: BucketIterator, ACCELERATOR_EMPTY_CACHE_SCHEDULE",
    url="https://github.com/huggingface/peft/blob/main/method_comparison/MetaMathQA/run.py",
)
WHOLE_PROMPT_LOGITS = (4, 45)
"""Release of transformers since which generation computes the last token's logits alone."""
NUM_HISTORIES = 3
HISTORY_STEPS = 50
TRACED_LENGTHS = 8
MAX_KINDS_OF_RANKS = 3
"""Of ranks with smaller shares than the first, so many kinds are traced."""
NUM_STEPS = 2
"""The first step allocates optimizer states, the second is complete; later ones repeat it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPeaks:
    """Ranks that hold the same, and the peaks of each. Bytes."""

    ranks: tuple[int, ...]
    allocated_bytes: int
    reserved_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceResult:
    """A traced run, replayed with the allocator's default settings and with expandable segments.

    Of a run over several ranks, everything but ``ranks`` is about the one that holds most.
    """

    log: EventLog
    default: Replay
    expandable: Replay
    histories: tuple[Replay, ...] = ()
    """The same steps in other orders of batch lengths, where lengths vary."""
    ranks: tuple[RankPeaks, ...] = ()
    """Ranks that hold different shares, worst first; empty on a single GPU."""
    wall_s: float

    @property
    def num_trainable(self) -> int:
        return int(self.log.meta["num_trainable"])

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.log.meta.get("warnings", ()))

    def live_at_peak(self) -> tuple[LiveGroup, ...]:
        """What was allocated at the peak, by category, module and operator; largest first."""
        return live_at(self.log, self.default.peak_event)

    def peak_bytes(self, quantity: Quantity) -> int:
        return self.default.peak_bytes(quantity)


def trace(
    request: PlanRequest,
    *,
    gpu: Gpu | None = None,
    num_steps: int | None = None,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
) -> TraceResult:
    """Trace ``request`` and replay its events.

    Raises UnsupportedError where the step cannot be traced, EnvironmentProblemError where torch or transformers is
    missing or the time or memory limit was reached.
    """
    started = time.perf_counter()
    job = make_job(request, gpu, num_steps=num_steps or NUM_STEPS)
    log = run_in_subprocess(job, timeout_s=timeout_s, memory_bytes=memory_bytes)
    # The first rank holds the largest share of everything; others are traced where theirs are smaller.
    first, *others = log.meta.get("ranks_alike", [[0]])
    results = [result_of(log)]
    for ranks in others[:MAX_KINDS_OF_RANKS]:
        other = run_in_subprocess(replace(job, rank=ranks[0]), timeout_s=timeout_s, memory_bytes=memory_bytes)
        results.append(result_of(other))
    peaks = tuple(
        RankPeaks(
            ranks=tuple(ranks),
            allocated_bytes=result.peak_bytes(Quantity.ALLOCATED),
            reserved_bytes=result.peak_bytes(Quantity.RESERVED),
        )
        for ranks, result in zip((first, *others), results, strict=False)
    )
    several = request.parallelism is not None and request.parallelism.num_gpus > 1
    return replace(results[0], ranks=peaks if several else (), wall_s=time.perf_counter() - started)


def result_of(
    log: EventLog,
    *,
    wall_s: float = 0.0,
    capacity_bytes: int | None = None,
    expandable_segments: bool = False,
) -> TraceResult:
    """Replay a log with the settings asked for and with expandable segments, on a device of any size."""
    expandable = replay(log, AllocatorSettings(capacity_bytes=capacity_bytes, expandable_segments=True))
    default = expandable if expandable_segments else replay(log, AllocatorSettings(capacity_bytes=capacity_bytes))
    return TraceResult(log=log, default=default, expandable=expandable, wall_s=wall_s)


def trace_histories(
    request: PlanRequest,
    samples: Sequence[int],
    *,
    gpu: Gpu | None = None,
    packing: bool = False,
    num_histories: int = NUM_HISTORIES,
    num_steps: int = HISTORY_STEPS,
    seed: int = 0,
    capacity_bytes: int | None = None,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
) -> TraceResult:
    """Trace a step per batch length and replay shuffled orders of a data set with samples of these lengths.

    Lengths are rounded up to at most ``TRACED_LENGTHS``. The first history is the answer, all of them its band.
    """
    started = time.perf_counter()
    job = make_job(request, gpu)
    if job.loop == "trl":
        raise UnsupportedError(
            "orders of batches are not simulated for TRL's loop", hint="trace one without --lengths"
        )
    # The libraries' loops fetch a batch ahead and keep scalars across steps; a step's bytes are those of ours.
    job = replace(job, loop="plain")
    workload = job.training
    orders = [
        batch_lengths(
            samples, batch_size=workload.batch_size, longest=workload.seq_len, num_steps=num_steps,
            seed=seed + index, packing=packing,
        )
        for index in range(num_histories)
    ]  # fmt: skip
    bounds = nearest_lengths([length for order in orders for length in order], TRACED_LENGTHS)
    traced = (max(bounds.values()), *sorted(set(bounds.values())))
    job = replace(job, seq_lens=traced, empty_cache_steps=None)
    log = run_in_subprocess(job, timeout_s=timeout_s, memory_bytes=memory_bytes)
    logs = [compose(log, traced, [bounds[length] for length in order]) for order in orders]
    plain = AllocatorSettings(capacity_bytes=capacity_bytes)
    histories = tuple(replay(each, plain) for each in logs)
    return TraceResult(
        log=logs[0],
        default=histories[0],
        expandable=replay(logs[0], replace(plain, expandable_segments=True)),
        histories=histories,
        wall_s=time.perf_counter() - started,
    )


def trace_script(
    script: str, *, timeout_s: float = TIMEOUT_S, memory_bytes: int = MEMORY_BYTES
) -> tuple[EventLog, float]:
    """Trace a user's own step, ``train.py::function``; returns the log and the seconds it took."""
    started = time.perf_counter()
    path, _, function = script.partition("::")
    if not function:
        raise RequestError(f"{script!r} names no function", hint="--script train.py::step")
    if not Path(path).is_file():
        raise RequestError(f"there is no {path}", hint="--script train.py::step")
    job = ScriptJob(path=str(Path(path).resolve()), function=function, compute_capability=None)
    log = run_in_subprocess(job, timeout_s=timeout_s, memory_bytes=memory_bytes)
    return log, time.perf_counter() - started


def make_job(request: PlanRequest, gpu: Gpu | None, *, num_steps: int = NUM_STEPS) -> TraceJob:
    """The run behind a request, with the habits of its framework.

    Raises UnsupportedError for frameworks that run their own modelling code, and for what is not traced.
    """
    resolved = registry.resolve(request.model)
    if resolved.config is None:
        raise UnsupportedError(
            f"{request.model} is a size alone; a trace needs a model", hint="name a model or give its config.json"
        )
    workload = request.workload
    if not isinstance(workload, TrainingWorkload):
        if request.parallelism is not None and request.parallelism.num_gpus > 1:
            raise UnsupportedError("serving over several GPUs is not traced", hint="the analytic tier covers it")
        if workload.engine != "transformers":
            raise UnsupportedError(
                f"{workload.engine} runs its own kernels, which are not traced", hint="the analytic tier covers it"
            )
        if (release(workload.engine_version or "") or WHOLE_PROMPT_LOGITS) < WHOLE_PROMPT_LOGITS:
            raise UnsupportedError(
                f"transformers {workload.engine_version} builds whole prompts' logits; the installed one does not",
                hint="the analytic tier covers it",
            )
        return TraceJob(
            request=request,
            config=resolved.config,
            compute_capability=gpu.compute_capability if gpu else None,
            seq_lens=(),
        )
    _refuse_untraced(workload)
    refuse_unspread(workload, request.parallelism or Parallelism())
    traits = framework_traits(workload)
    if traits.program != "transformers":
        raise UnsupportedError(
            f"{traits.name} runs its own modelling code, which is not traced", hint="the analytic tier covers it"
        )
    keeps = workload.keep_outputs or traits.keeps_outputs
    padded = workload.padding_mask or traits.masks_attention
    workload = replace(
        workload,
        keep_outputs=keeps,
        use_cache=workload.use_cache or traits.keeps_outputs,
        padding_mask=padded,
        adapter=replace(
            workload.adapter,
            dtype=traits.adapter_dtype or workload.adapter.dtype,
            dropout=traits.adapter_dropout if workload.adapter.dropout is None else workload.adapter.dropout,
        ),
    )
    peft_loop = traits.name == "peft"
    several = request.parallelism is not None and request.parallelism.num_gpus > 1
    lengths = _lengths(workload.seq_len, num_steps, varying=padded)
    if peft_loop:
        lengths = tuple(max(1, round(share * workload.seq_len)) for share in PEFT_BUCKET)
    return TraceJob(
        request=replace(request, workload=workload),
        config=resolved.config,
        compute_capability=gpu.compute_capability if gpu else None,
        seq_lens=lengths,
        empty_cache_steps=len(lengths) - 1 if peft_loop else None,
        zero_grad_first=peft_loop,
        upcast_quantised=traits.upcasts_kbit_base,
        loop="plain" if several else _LOOPS.get(traits.name, "plain"),
    )


_LOOPS: dict[str, Loop] = {
    **dict.fromkeys(("transformers", "ms-swift", "axolotl", "deepspeed"), "trainer"),
    "trl": "trl",
    "accelerate": "accelerate",
}
"""Whose loop a framework runs; those not named here bring their own, written as users write it."""


def _refuse_untraced(workload: TrainingWorkload) -> None:
    """What would change the answer and is not run: refused rather than left out."""
    asked = {
        "torch.compile": workload.compile,
        f"the {workload.loss} loss": workload.loss != "standard",
        "an average of the weights (ema)": workload.ema,
        "frozen layers": workload.frozen_layers > 0,
        "a gradient accumulator of another dtype": workload.gradient_accumulation_dtype is not None,
    }
    for what, wanted in asked.items():
        if wanted:
            raise UnsupportedError(f"{what} is not traced", hint="the analytic tier covers it")


def _lengths(longest: int, num_steps: int, *, varying: bool) -> tuple[int, ...]:
    """Padded batches differ in length: a short one comes before the longest, as after a shuffled history."""
    if not varying:
        return (longest,) * num_steps
    return (max(1, longest // SHORT_BATCH_DIVISOR), longest)
