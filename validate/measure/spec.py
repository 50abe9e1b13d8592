"""What one run is asked to do and what it reports back; both travel between processes as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

from planner.errors import EnvironmentProblemError, UnsupportedError
from planner.request import Parallelism, ServingWorkload, TrainingWorkload
from validate.trace.job import is_deepspeed, refuse_unspread

Device = Literal["cuda", "cpu"]
Runner = Literal["loop", "trainer", "accelerate"]
Head = Literal["causal-lm", "seq2seq-lm", "masked-lm", "sequence-classification"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One real run. The model is built from ``config`` with random weights: memory does not depend on values."""

    model: str
    config: Mapping[str, Any]
    """As in ``config.json``, with ``model_type``."""
    checkpoint: str | None = None
    """Directory of real weights to load instead."""
    head: Head = "causal-lm"
    workload: TrainingWorkload | ServingWorkload
    parallelism: Parallelism = field(default_factory=Parallelism)
    """With more than one GPU the runner is "accelerate": DDP, FSDP2 where ``dp_shard`` > 1, or DeepSpeed."""
    device: Device = "cuda"
    runner: Runner = "loop"
    steps: int = 3
    lengths: tuple[int, ...] = ()
    """Sequence length of each step; empty: the workload's in every step."""
    memory_limit_bytes: int | None = None
    snapshot: str | None = None
    """File for the allocator's event history: a gzipped pickle of ``torch.cuda.memory._snapshot()``."""

    @property
    def task(self) -> str:
        return "train" if isinstance(self.workload, TrainingWorkload) else "serve"

    @property
    def uses_deepspeed(self) -> bool:
        return isinstance(self.workload, TrainingWorkload) and is_deepspeed(self.workload)

    @property
    def step_lengths(self) -> tuple[int, ...]:
        if self.lengths:
            return self.lengths
        workload = self.workload
        return (workload.seq_len,) * self.steps if isinstance(workload, TrainingWorkload) else ()


OBJECTIVES = ("sft", "pretrain", "sequence-classification")


def refuse_unmeasured(spec: RunSpec) -> None:
    """Raise UnsupportedError, by name, for what the measuring code does not run.

    Raises EnvironmentProblemError where a library that would run it is missing.
    """
    workload, refused = spec.workload, {}
    if isinstance(workload, ServingWorkload):
        if workload.engine != "transformers":
            refused[f"serving by {workload.engine}"] = "only transformers' generate is run here"
        if workload.kv_cache_dtype != workload.compute_dtype:
            refused[f"a {workload.kv_cache_dtype} KV cache"] = "the cache is kept in the compute dtype"
        if spec.parallelism.num_gpus > 1:
            refused["serving over several GPUs"] = "choose one"
    else:
        if workload.objective not in OBJECTIVES:
            refused[f"the objective {workload.objective}"] = f"choose {', '.join(OBJECTIVES)}"
        if workload.loss != "standard":
            refused[f"the {workload.loss} loss"] = "choose standard"
        if workload.gradient_checkpointing not in ("none", "full"):
            refused[f"{workload.gradient_checkpointing} checkpointing"] = "choose none or full"
        if spec.parallelism.num_gpus > 1 and spec.runner != "accelerate":
            refused[f"the {spec.runner} runner over several GPUs"] = "choose accelerate"
    for what, hint in refused.items():
        raise UnsupportedError(f"{what} is not measured here", hint=f"{hint}; plan estimates it")
    if spec.uses_deepspeed:
        _refuse_deepspeed(spec)
    elif isinstance(workload, TrainingWorkload):
        refuse_unspread(workload, spec.parallelism)


def _refuse_deepspeed(spec: RunSpec) -> None:
    if find_spec("deepspeed") is None:
        raise EnvironmentProblemError(
            "a DeepSpeed run needs the package deepspeed, which is not installed",
            hint="pip install deepspeed, or leave out --framework deepspeed for FSDP2",
        )
    if spec.device == "cpu":
        raise UnsupportedError(
            "DeepSpeed is measured on GPUs only", hint="leave out --framework deepspeed for FSDP2"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseReading:
    """Counters of one phase of one step. On a CPU ``allocated`` is of real tensors, in CUDA-like blocks."""

    phase: str
    step: int = 0
    allocated_bytes: int
    """Highest within the phase."""
    allocated_end_bytes: int
    active_bytes: int | None = None
    reserved_bytes: int | None = None
    process_bytes: int | None = None
    """Of this process on the device by NVML; host memory (RSS) on a CPU."""
    device_bytes: int | None = None
    """Used on the whole device by NVML, less what was used before the run."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What else a run tells: sizes to check the prediction's premises by, and speed."""

    params_total: int
    params_trainable: int = 0
    attention_kernel: str | None = None
    step_s: float | None = None
    """Median of the steps after the first."""
    tokens_per_s: float | None = None
    flops_per_s: float | None = None
    """6 x parameters x tokens (2 x without a backward pass) over the step time; recomputation not counted."""
    power_w: float | None = None
    energy_j: float | None = None
    """Of the timed steps, from NVML's energy counter."""
    num_alloc_retries: int = 0
    num_ooms: int = 0


Outcome = Literal["ok", "out of memory", "crashed", "killed", "hung"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What became of a run. Everything but "ok" is a result too: the phases reached before it are kept."""

    outcome: Outcome
    detail: str = ""
    """One line: the CUDA message, the signal, or the exception."""
    phases: tuple[PhaseReading, ...] = ()
    facts: RunFacts | None = None
    software: Mapping[str, str] = field(default_factory=dict)
    """Versions the child itself saw: torch, its CUDA, and so on."""
    wall_s: float = 0.0

    def peak(self, quantity: str, phase: str | None = None) -> int | None:
        """Highest reading of "allocated", "active", "reserved", "device" or "process", of one phase or all."""
        readings = [
            value
            for reading in self.phases
            if phase in (None, reading.phase) and (value := getattr(reading, f"{quantity}_bytes")) is not None
        ]
        return max(readings, default=None)
