"""The knobs of the job panel: what each one reads from a request, writes into it, and allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from planner import vocabulary
from planner.request import Parallelism, PlanRequest, ServingWorkload, TrainingWorkload
from tui.app.knob import Knob, Value

Read = Callable[[PlanRequest], Value]
Write = Callable[[PlanRequest, Value], PlanRequest]
Access = tuple[Read, Write]
Applies = Callable[[PlanRequest], bool]


def _workload(request: PlanRequest) -> Any:
    return request.workload


def _field(name: str) -> Access:
    def read(request: PlanRequest) -> Value:
        value: Value = getattr(_workload(request), name)
        return value

    def write(request: PlanRequest, value: Value) -> PlanRequest:
        return replace(request, workload=replace(_workload(request), **{name: value}))

    return read, write


def _adapter_field(
    name: str,
) -> Access:
    def read(request: PlanRequest) -> Value:
        value = getattr(_workload(request).adapter, name)
        return value if isinstance(value, str | int) else ",".join(value)

    def write(request: PlanRequest, value: Value) -> PlanRequest:
        new: object = value
        if name == "target_modules" and isinstance(value, str) and value != "all-linear":
            new = tuple(value.split(","))
        workload = _workload(request)
        return replace(request, workload=replace(workload, adapter=replace(workload.adapter, **{name: new})))

    return read, write


def _parallel_field(
    name: str,
) -> Access:
    def read(request: PlanRequest) -> Value:
        return int(getattr(request.parallelism, name)) if request.parallelism else 0

    def write(request: PlanRequest, value: Value) -> PlanRequest:
        spread = request.parallelism or Parallelism()
        degree = int(value)
        changed: dict[str, Any] = {name: max(1, degree)}
        spread = replace(spread, **changed)
        return replace(request, parallelism=None if spread == Parallelism() and degree == 0 else spread)

    return read, write


def _read_count(request: PlanRequest) -> Value:
    return request.hardware.num_gpus or 0


def _write_count(request: PlanRequest, value: Value) -> PlanRequest:
    return replace(request, hardware=replace(request.hardware, num_gpus=int(value) or None))


def _read_offload(request: PlanRequest) -> Value:
    return request.parallelism.cpu_offload if request.parallelism else "none"


def _write_offload(request: PlanRequest, value: Value) -> PlanRequest:
    spread = replace(request.parallelism or Parallelism(), cpu_offload=str(value))
    return replace(request, parallelism=None if spread == Parallelism() else spread)


def _read_tokens(request: PlanRequest) -> Value:
    return int(_workload(request).num_tokens or 0)


def _write_tokens(request: PlanRequest, value: Value) -> PlanRequest:
    """Without tokens there are no epochs of them."""
    tokens, workload = int(value) or None, _workload(request)
    epochs = workload.num_epochs if tokens else 1
    return replace(request, workload=replace(workload, num_tokens=tokens, num_epochs=epochs))


def _names_tokens(request: PlanRequest) -> bool:
    return request.task == "train" and _workload(request).num_tokens is not None


def _task(request: PlanRequest) -> Value:
    return request.task


def _set_task(request: PlanRequest, task: Value) -> PlanRequest:
    if task == request.task:
        return request
    workload = ServingWorkload() if task == "serve" else TrainingWorkload()
    return replace(request, workload=workload, parallelism=None)


def _set_method(request: PlanRequest, method: Value) -> PlanRequest:
    """A method brings a storage format it can train with."""
    workload = _workload(request)
    quantised = workload.weight_dtype not in vocabulary.TRAINABLE_FORMATS
    weight_dtype = workload.weight_dtype
    if method in vocabulary.QUANTISED_METHODS and not quantised:
        weight_dtype = "nf4-dq"
    elif method not in vocabulary.QUANTISED_METHODS and quantised:
        weight_dtype = "bf16"
    return replace(request, workload=replace(workload, method=str(method), weight_dtype=weight_dtype))


def _set_weights(request: PlanRequest, weight_dtype: Value) -> PlanRequest:
    """Quantised weights train behind adapters only, so LoRA becomes QLoRA and back."""
    workload = _workload(request)
    if request.task == "train":
        quantised = weight_dtype not in vocabulary.TRAINABLE_FORMATS
        method = workload.method
        if quantised and method not in vocabulary.QUANTISED_METHODS:
            method = "qlora"
        elif not quantised and method in vocabulary.QUANTISED_METHODS:
            method = "lora"
        return replace(request, workload=replace(workload, method=method, weight_dtype=str(weight_dtype)))
    return replace(request, workload=replace(workload, weight_dtype=str(weight_dtype)))


def _trains(request: PlanRequest) -> bool:
    return request.task == "train"


def _serves(request: PlanRequest) -> bool:
    return request.task == "serve"


def _is(methods: tuple[str, ...]) -> Applies:
    return lambda request: request.task == "train" and _workload(request).method in methods


def _knob(
    key: str,
    label: str,
    group: str,
    access: Access,
    *,
    choices: tuple[Value, ...] = (),
    applies: Applies = lambda request: True,
    minimum: int = 1,
    unset: str = "",
    first: int = 1,
) -> Knob:
    read, write = access
    return Knob(
        key=key,
        label=label,
        group=group,
        read=read,
        write=write,
        choices=choices,
        applies=applies,
        minimum=minimum,
        unset=unset,
        first=first,
    )


WEIGHT_CHOICES: tuple[Value, ...] = (
    "fp32",
    "bf16",
    "fp16",
    "fp8",
    "int8",
    "nf4",
    "nf4-dq",
    "gptq-int4",
    "awq-int4",
    "mxfp4",
)
TARGET_CHOICES: tuple[Value, ...] = ("all-linear", "q_proj,v_proj", "q_proj,k_proj,v_proj,o_proj")

KNOBS: tuple[Knob, ...] = (
    Knob(
        key="model",
        label="model",
        group="Model",
        read=lambda request: request.model,
        write=lambda request, name: replace(request, model=str(name)),
    ),
    _knob("task", "task", "Model", (_task, _set_task), choices=("serve", "train")),
    _knob("weights", "weights", "Model", (_field("weight_dtype")[0], _set_weights), choices=WEIGHT_CHOICES),
    _knob("compute", "compute", "Model", _field("compute_dtype"), choices=vocabulary.COMPUTE_DTYPES),
    _knob("engine", "engine", "Serving", _field("engine"), choices=vocabulary.ENGINES, applies=_serves),
    _knob("concurrency", "concurrency", "Serving", _field("concurrency"), applies=_serves),
    _knob("prompt", "prompt tokens", "Serving", _field("prompt_tokens"), applies=_serves),
    _knob("output", "output tokens", "Serving", _field("output_tokens"), applies=_serves, minimum=0),
    _knob(
        "kv", "KV cache", "Serving", _field("kv_cache_dtype"), choices=vocabulary.KV_CACHE_DTYPES, applies=_serves
    ),
    _knob(
        "method",
        "method",
        "Training",
        (_field("method")[0], _set_method),
        choices=vocabulary.METHODS,
        applies=_trains,
    ),
    _knob("batch", "batch", "Training", _field("batch_size"), applies=_trains),
    _knob("seq", "context", "Training", _field("seq_len"), applies=_trains),
    _knob(
        "tokens",
        "tokens/epoch",
        "Training",
        (_read_tokens, _write_tokens),
        applies=_trains,
        minimum=0,
        unset="not set",
        first=10_000_000,
    ),
    _knob("epochs", "epochs", "Training", _field("num_epochs"), applies=_names_tokens),
    _knob("accumulation", "accumulation", "Training", _field("gradient_accumulation_steps"), applies=_trains),
    _knob("rank", "rank", "Training", _adapter_field("rank"), applies=_is(vocabulary.RANKED_METHODS)),
    _knob(
        "targets",
        "targets",
        "Training",
        _adapter_field("target_modules"),
        choices=TARGET_CHOICES,
        applies=_is(vocabulary.RANKED_METHODS),
    ),
    _knob(
        "virtual",
        "virtual tokens",
        "Training",
        _adapter_field("num_virtual_tokens"),
        applies=_is(vocabulary.PROMPT_METHODS),
    ),
    _knob(
        "optimizer", "optimizer", "Training", _field("optimizer"), choices=vocabulary.OPTIMIZERS, applies=_trains
    ),
    _knob(
        "checkpointing",
        "checkpointing",
        "Training",
        _field("gradient_checkpointing"),
        choices=vocabulary.CHECKPOINTING,
        applies=_trains,
    ),
    _knob("loss", "loss", "Training", _field("loss"), choices=vocabulary.LOSSES, applies=_trains),
    _knob(
        "objective", "objective", "Training", _field("objective"), choices=vocabulary.OBJECTIVES, applies=_trains
    ),
    _knob("attention", "attention", "Kernels", _field("attention"), choices=vocabulary.ATTENTION),
    _knob("mask", "padding mask", "Kernels", _field("padding_mask"), choices=(False, True), applies=_trains),
    _knob("autocast", "autocast", "Kernels", _field("autocast"), choices=(False, True), applies=_trains),
    _knob("gpus", "GPUs", "Spread", (_read_count, _write_count), minimum=0, unset="fewest"),
    _knob("tp", "tensor par.", "Spread", _parallel_field("tp"), minimum=0, unset="auto"),
    _knob("pp", "pipeline par.", "Spread", _parallel_field("pp"), minimum=0, unset="auto"),
    _knob("shard", "data shard", "Spread", _parallel_field("dp_shard"), minimum=0, unset="auto", applies=_trains),
    _knob("replicas", "replicas", "Spread", _parallel_field("dp_replicate"), minimum=0, unset="auto"),
    _knob("cp", "context par.", "Spread", _parallel_field("cp"), minimum=0, unset="auto"),
    _knob("ep", "expert par.", "Spread", _parallel_field("ep"), minimum=0, unset="auto"),
    _knob(
        "offload",
        "offload",
        "Spread",
        (_read_offload, _write_offload),
        choices=vocabulary.CPU_OFFLOAD,
        applies=_trains,
    ),
)
