"""What is traced: a request with its model config and the device it is meant for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from planner.errors import UnsupportedError
from planner.request import Parallelism, PlanRequest, ServingWorkload, TrainingWorkload

Loop = Literal["plain", "trainer", "trl", "accelerate"]
TRACED_OBJECTIVES = ("sft", "pretrain", "sequence-classification", "dpo")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceJob:
    """One traced run. ``seq_lens`` holds the padded length of each step's micro-batches."""

    request: PlanRequest
    config: Mapping[str, Any]
    """The model's ``config.json``."""
    compute_capability: tuple[int, int] | None
    """Of the GPU the answer is for; None: an Ampere-class GPU."""
    seq_lens: tuple[int, ...]
    empty_cache_steps: int | None = None
    """``torch_empty_cache_steps`` of Trainer: the cache is emptied after every so many steps."""
    zero_grad_first: bool = False
    """The loop clears gradients before forward, so they live through the whole step."""
    upcast_quantised: bool = False
    """``peft.prepare_model_for_kbit_training``: what is not quantised becomes fp32."""
    rank: int = 0
    """Of the ranks of ``request.parallelism``, the one that is traced."""
    loop: Loop = "plain"
    """Whose training loop runs: ours, written as users write it, or that of a library."""
    device: str = "cuda"
    """"cpu" traces what a CPU run does, to be held against a real one."""

    @property
    def training(self) -> TrainingWorkload:
        workload = self.request.workload
        if not isinstance(workload, TrainingWorkload):
            raise UnsupportedError("only training steps are traced", hint=None)
        if workload.objective not in TRACED_OBJECTIVES:
            raise UnsupportedError(
                f"a step of {workload.objective} is not traced", hint="the analytic tier covers it"
            )
        if workload.objective == "dpo" and self.loop != "trl":
            raise UnsupportedError("dpo is traced as TRL runs it", hint="--framework trl")
        return workload

    @property
    def serving(self) -> ServingWorkload:
        if not isinstance(self.request.workload, ServingWorkload):
            raise UnsupportedError("nothing is generated here", hint=None)
        return self.request.workload


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptJob:
    """A user's own step: ``function`` of the file ``path``."""

    path: str
    function: str
    compute_capability: tuple[int, int] | None


def is_deepspeed(workload: TrainingWorkload) -> bool:
    return workload.framework.lower().endswith("deepspeed")


def refuse_unspread(workload: TrainingWorkload, parallelism: Parallelism) -> None:
    """Raise UnsupportedError, by name, for spreads that are not run."""
    spread = parallelism
    asked = {
        "tensor parallelism": spread.tp > 1,
        "pipeline parallelism": spread.pp > 1,
        "context parallelism": spread.cp > 1,
        "expert parallelism": spread.ep > 1,
        f"ZeRO stage {spread.zero_stage} (FSDP2 shards everything; stage 2 keeps parameters after forward)": (
            spread.dp_shard > 1 and spread.zero_stage < 2
        ),
        f"offload of the {spread.cpu_offload} to the CPU": spread.cpu_offload != "none",
        f"{workload.weight_dtype} weights under FSDP2": (
            spread.dp_shard > 1 and workload.weight_dtype not in ("fp32", "bf16", "fp16")
        ),
        "DeepSpeed": is_deepspeed(workload),
    }
    for what, wanted in asked.items():
        if wanted:
            raise UnsupportedError(f"{what} is not run here", hint="the analytic tier covers it")
