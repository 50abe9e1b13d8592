"""From typed values to requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

from planner import checks, plan
from planner.bits import ENGINE_BITS, bits_choice, training_format
from planner.dtypes import weight_format
from planner.errors import RequestError, UnsupportedError
from planner.model import registry
from planner.model.registry import ResolvedModel
from planner.request import (
    EvaluationSpec,
    HardwareWish,
    Parallelism,
    PlanRequest,
    ServingWorkload,
    TrainingWorkload,
)
from tui.request_options import OPTIONS, options_of

DEFAULT_BITS = "16"
DEFAULT_BITS_OF = {"qlora": "4", "qdora": "4", "autoawq": "4"}
"""Methods and engines that mean a width of their own."""
DEQUANTISED = "bf16"
"""What MXFP4 checkpoints are loaded in to be trained: transformers trains none of them packed.

Source: https://huggingface.co/docs/transformers/quantization/mxfp4
"""
Values = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The requests behind one command, and what the overview leaves out and why."""

    requests: tuple[PlanRequest, ...]
    refusals: tuple[str, ...] = ()


def model_name(values: Values) -> str:
    """The model the values name, with ``--params 7B`` as "params:7B"."""
    model, params = values.get("model"), values.get("params")
    if model is not None and params is not None:
        raise RequestError("--model and --params exclude each other", hint="name a model, or only a size")
    if params is not None:
        return f"params:{params}"
    if not model or not model.strip():
        raise RequestError("no model is named", hint="plan --model llama-70b --bits 4")
    return str(model)


def build(values: Values) -> Asked:
    """The requests of an overview, or the single one that ``--task`` and ``--method`` name."""
    task = _task(values)
    if task == "serve" or values.get("method") is not None:
        return Asked(requests=(build_one(values),))
    serve_dtype, train_dtype = _weight_dtypes(values)
    training = None if train_dtype is None else _training(values, train_dtype)
    requests, refusals = plan.overview_requests(_base(values), _serving(values, serve_dtype), training)
    if task is not None:
        requests = tuple(request for request in requests if request.task == task)
        if not requests:
            raise UnsupportedError(*refusals)
    return Asked(requests=requests, refusals=refusals)


def build_one(values: Values) -> PlanRequest:
    """The one request the values describe; without ``--task`` and ``--method`` adapters are trained."""
    serve_dtype, train_dtype = _weight_dtypes(values)
    if _task(values) == "serve":
        return replace(_base(values), workload=_serving(values, serve_dtype))
    stored = training_format(_bits(values)) if train_dtype is None else weight_format(train_dtype)
    method = values.get("method") or "lora"
    if method == "lora" and stored.scheme == "bitsandbytes" and stored.bits == 4:
        method = "qlora"  # LoRA over 4-bit weights is what QLoRA names
    return replace(_base(values), workload=replace(_training(values, stored.name), method=method))


def _task(values: Values) -> str | None:
    task = values.get("task")
    if values.get("method") is not None:
        if task == "serve":
            raise RequestError("--method belongs to --task train", hint="leave one of them out")
        return "train"
    return _implied_task(values) if task is None else str(task)


def _implied_task(values: Values) -> str | None:
    """The task whose own options are named; None where both tasks' are or neither's."""
    named = [option for option in OPTIONS.values() if values.get(option.name) is not None]
    tasks = {option.task for option in named if option.task is not None}
    return tasks.pop() if len(tasks) == 1 else None


def _bits(values: Values) -> str:
    bits = values.get("bits")
    if bits is not None and values.get("weight_dtype") is not None:
        raise RequestError("--bits and --weight-dtype exclude each other", hint="--bits 4 is --weight-dtype nf4")
    if bits is None:
        return DEFAULT_BITS_OF.get(values.get("method") or values.get("engine") or "", DEFAULT_BITS)
    return str(bits)


def _weight_dtypes(values: Values) -> tuple[str, str | None]:
    """Storage when serving and when training; None where such weights are for inference only."""
    named = values.get("weight_dtype")
    bits = _bits(values)
    if named is None and values.get("bits") is None and values.get("method") is None:
        named = _resolved(model_name(values)).checkpoint_weight_dtype
        if named == "mxfp4":
            return named, DEQUANTISED
    if named is None:
        choice = bits_choice(bits)
        own = ENGINE_BITS.get(values.get("engine") or "", {})
        return own.get(bits, choice.serve), choice.train
    stored = weight_format(named)
    return stored.name, None if stored.scheme in ("gguf", "bitnet") and values.get(
        "method"
    ) is None else stored.name


def _base(values: Values) -> PlanRequest:
    hardware = _applied(HardwareWish(), "hardware", values)
    spread = any(values.get(option.name) is not None for option in options_of("parallelism"))
    parallelism = _applied(Parallelism(), "parallelism", values) if spread else None
    return PlanRequest(
        model=model_name(values),
        workload=ServingWorkload(),
        parallelism=_filled(parallelism, hardware.num_gpus, values),
        hardware=hardware,
        calibrated=values.get("calibration", True) is not False,
    )


def _filled(parallelism: Parallelism | None, num_gpus: int | None, values: Values) -> Parallelism | None:
    """GPUs asked for beyond the degrees named become data-parallel ranks."""
    if parallelism is None or num_gpus is None or parallelism.num_gpus < 1 or num_gpus % parallelism.num_gpus:
        return parallelism
    spare = num_gpus // parallelism.num_gpus
    if values.get("dp_shard") is None and _task(values) == "train":
        return replace(parallelism, dp_shard=spare)
    return replace(parallelism, dp_replicate=spare) if values.get("dp_replicate") is None else parallelism


def _serving(values: Values, weight_dtype: str) -> ServingWorkload:
    compute = values.get("compute_dtype") or plan.compute_dtype_of(weight_dtype)
    engine = "llama.cpp" if weight_format(weight_dtype).scheme == "gguf" else ServingWorkload().engine
    workload = ServingWorkload(
        engine=engine, weight_dtype=weight_dtype, compute_dtype=compute, kv_cache_dtype=compute
    )
    model = _resolved(model_name(values)).architecture
    if model is not None and model.kind == "encoder":
        workload = replace(workload, output_tokens=0)
    workload = _applied(workload, "serve", {**values, "weight_dtype": weight_dtype})
    seq_len = values.get("seq_len")
    if values.get("prompt_tokens") is not None:
        return workload
    if seq_len is None:
        limit = min(_max_positions(values), workload.max_model_len or checks.MAX_TOKENS)
        if workload.context_tokens <= limit:
            return workload
        seq_len = limit
    checks.check_range("seq_len", seq_len, 1, checks.MAX_TOKENS)
    answer = values.get("output_tokens")
    answer = min(workload.output_tokens, seq_len // 2) if answer is None else answer
    if answer >= seq_len:
        raise RequestError(f"an answer of {answer} tokens leaves no prompt in {seq_len}", hint="raise --seq-len")
    return replace(workload, prompt_tokens=seq_len - answer, output_tokens=answer)


def _training(values: Values, weight_dtype: str) -> TrainingWorkload:
    compute = values.get("compute_dtype") or plan.compute_dtype_of(weight_dtype)
    workload = TrainingWorkload(weight_dtype=weight_dtype, compute_dtype=compute)
    workload = replace(workload, seq_len=min(workload.seq_len, _max_positions(values)))
    return _applied(workload, "train", {**values, "weight_dtype": weight_dtype})


@lru_cache(maxsize=16)
def _resolved(model: str) -> ResolvedModel:
    """The model whose nature decides defaults; asked for once per option set, so it is kept."""
    return registry.resolve(model)


def _max_positions(values: Values) -> int:
    """Positions the model was made for: what is not typed does not exceed them."""
    model = _resolved(model_name(values)).architecture
    return (model.max_position_embeddings if model else None) or checks.MAX_TOKENS


def _applied(target: T, holder: str, values: Values) -> T:
    """``target`` with every typed value of the options that set a field of ``holder``."""
    for option in options_of(holder):
        value = values.get(option.name)
        if value is None:
            continue
        for path in option.paths:
            first, *fields = path.split(".")
            if first == holder:
                target = _with(target, fields, value)
    return target


def _with(target: T, fields: Sequence[str], value: Any) -> T:
    first, *rest = fields
    if rest:
        inner = getattr(target, first)
        value = _with(EvaluationSpec() if inner is None else inner, rest, value)
    changed: T = replace(target, **{first: value})  # type: ignore[type-var]
    return changed
