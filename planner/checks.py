"""The door: values a request may hold, and combinations that cannot be meant.

``check_request`` raises ``RequestError`` with one line and the way out, and returns what is merely doubtful.
"""

from __future__ import annotations

import math
from decimal import Decimal

from planner import vocabulary
from planner.errors import RequestError, UnsupportedError
from planner.model.architecture import GroupedQueryAttention, LatentAttention, ModelArchitecture, MoeMlp
from planner.request import HardwareWish, Parallelism, PlanRequest, ServingWorkload, TrainingWorkload

MAX_BATCH = 1_048_576
MAX_TOKENS = 134_217_728
MAX_RANK = 65_536
MAX_GPUS = 131_072
MAX_USD = Decimal(10) ** 12
MAX_PARAMS = 10**15

_TRAINING_RANGES: tuple[tuple[str, int, int], ...] = (
    ("batch_size", 1, MAX_BATCH),
    ("seq_len", 1, MAX_TOKENS),
    ("target_seq_len", 1, MAX_TOKENS),
    ("gradient_accumulation_steps", 1, MAX_BATCH),
    ("frozen_layers", 0, 100_000),
    ("num_generations", 1, MAX_BATCH),
    ("completion_len", 1, MAX_TOKENS),
    ("num_tokens", 1, 10**18),
    ("num_epochs", 1, 10_000),
)
_ADAPTER_RANGES: tuple[tuple[str, int, int], ...] = (
    ("rank", 1, MAX_RANK),
    ("num_virtual_tokens", 1, MAX_TOKENS),
    ("bottleneck_size", 1, MAX_RANK),
)
_EVALUATION_RANGES: tuple[tuple[str, int, int], ...] = (
    ("batch_size", 1, MAX_BATCH),
    ("seq_len", 1, MAX_TOKENS),
    ("num_samples", 1, 10**12),
    ("accumulation_steps", 1, MAX_BATCH),
    ("generate_max_new_tokens", 1, MAX_TOKENS),
)
_SERVING_RANGES: tuple[tuple[str, int, int], ...] = (
    ("concurrency", 1, MAX_BATCH),
    ("prompt_tokens", 1, MAX_TOKENS),
    ("output_tokens", 0, MAX_TOKENS),
    ("max_model_len", 1, MAX_TOKENS),
    ("max_num_batched_tokens", 1, MAX_TOKENS),
    ("max_num_seqs", 1, MAX_BATCH),
    ("num_lora_adapters", 0, 100_000),
    ("lora_rank", 1, MAX_RANK),
    ("num_speculative_tokens", 0, 1024),
)
_PARALLEL_RANGES: tuple[tuple[str, int, int], ...] = (
    ("dp_replicate", 1, MAX_GPUS),
    ("dp_shard", 1, MAX_GPUS),
    ("tp", 1, 4096),
    ("pp", 1, 4096),
    ("cp", 1, 4096),
    ("ep", 1, 4096),
    ("zero_stage", 0, 3),
    ("num_microbatches", 1, MAX_BATCH),
)
_NAMES = {
    "batch_size": "batch size",
    "seq_len": "sequence length",
    "rank": "LoRA rank",
    "lora_rank": "LoRA rank",
    "num_gpus": "number of GPUs",
    "max_gpus": "largest number of GPUs",
    "concurrency": "batch size",
    "to": "export target",
    "by": "way to rank",
    "solve": "value to solve for",
}


def _human(name: str) -> str:
    return _NAMES.get(name, name.replace("_", " "))


def check_range(name: str, value: object, low: int, high: int) -> None:
    """Refuse a whole number outside ``low``..``high``; None passes."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{_human(name)} must be a whole number, not {value!r}")
    if value < low:
        raise RequestError(f"{_human(name)} must be at least {low}, not {value}")
    if value > high:
        raise RequestError(f"{_human(name)} {value:,} is beyond anything that exists", hint=f"at most {high:,}")


def check_choice(name: str, value: str | None, choices: tuple[str, ...]) -> None:
    """Refuse a word outside ``choices``, naming near misses."""
    if value is None or value in choices:
        return
    from difflib import get_close_matches

    if name == "method" and value.lower() in vocabulary.OBJECTIVES:
        hint = f"that is an objective: --objective {value.lower()}, with the method that trains it"
        raise RequestError(f"there is no method {value!r}", hint=hint)
    if name == "engine" and (other := vocabulary.UNMODELLED_ENGINES.get(value.lower().replace(" ", "-"))):
        raise UnsupportedError(f"{value} is not modelled as an engine", hint=other)
    near = get_close_matches(str(value).lower(), choices, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(choices)}"
    raise RequestError(f"there is no {_human(name)} {value!r}", hint=hint)


def _check_ranges(holder: object, ranges: tuple[tuple[str, int, int], ...]) -> None:
    for name, low, high in ranges:
        check_range(name, getattr(holder, name), low, high)


def _check_fraction(name: str, value: float | None, *, low_open: bool, high_open: bool) -> None:
    if value is None:
        return
    inside = math.isfinite(value) and 0 <= value <= 1
    if not inside or (low_open and value == 0) or (high_open and value == 1):
        raise RequestError(f"{_human(name)} must lie between 0 and 1, not {value}")


def check_hardware(wish: HardwareWish) -> None:
    """Limits on hardware are positive and finite."""
    check_range("num_gpus", wish.num_gpus, 1, MAX_GPUS)
    check_range("max_gpus", wish.max_gpus, 1, MAX_GPUS)
    check_range("min_memory_bytes", wish.min_memory_bytes, 0, 10**15)
    for name, usd in (("max_usd_per_hour", wish.max_usd_per_hour), ("max_usd", wish.max_usd)):
        if usd is not None and not (usd.is_finite() and 0 < usd <= MAX_USD):
            raise RequestError(f"{_human(name)} must be a positive amount, not {usd}")
    if wish.max_hours is not None and not (math.isfinite(wish.max_hours) and wish.max_hours > 0):
        raise RequestError(f"max hours must be positive, not {wish.max_hours}")
    if wish.num_gpus is not None and wish.max_gpus is not None and wish.num_gpus > wish.max_gpus:
        raise RequestError(f"{wish.num_gpus} GPUs are asked for, but at most {wish.max_gpus} allowed")


def check_training(workload: TrainingWorkload) -> None:
    """Values and combinations of a training workload."""
    _check_ranges(workload, _TRAINING_RANGES)
    _check_ranges(workload.adapter, _ADAPTER_RANGES)
    if workload.evaluation is not None:
        _check_ranges(workload.evaluation, _EVALUATION_RANGES)
    if workload.num_epochs > 1 and workload.num_tokens is None:
        raise RequestError("epochs of how many tokens is not said", hint="add --tokens 2.4M, or --dataset FILE")
    for name, value, choices in (
        ("method", workload.method, vocabulary.METHODS),
        ("optimizer", workload.optimizer, vocabulary.OPTIMIZERS),
        ("gradient_checkpointing", workload.gradient_checkpointing, vocabulary.CHECKPOINTING),
        ("attention", workload.attention, vocabulary.ATTENTION),
        ("loss", workload.loss, vocabulary.LOSSES),
        ("objective", workload.objective, vocabulary.OBJECTIVES),
        ("compute_dtype", workload.compute_dtype, vocabulary.COMPUTE_DTYPES),
        ("adapter dtype", workload.adapter.dtype, vocabulary.TRAINABLE_FORMATS),
        ("gradient_accumulation_dtype", workload.gradient_accumulation_dtype, vocabulary.TRAINABLE_FORMATS),
    ):
        check_choice(name, value, choices)
    _check_fraction("dropout", workload.adapter.dropout, low_open=False, high_open=True)
    share = workload.vllm_gpu_memory_utilization
    _check_fraction("vllm_gpu_memory_utilization", share, low_open=True, high_open=False)
    if workload.use_vllm and workload.objective != "grpo":
        raise RequestError(
            f"vLLM generates completions for grpo, not for {workload.objective}", hint="use --objective grpo"
        )
    targets = workload.adapter.target_modules
    if not isinstance(targets, str) and not all(target.strip() for target in targets):
        raise RequestError("a LoRA target is empty", hint="name modules, such as q_proj,v_proj, or all-linear")
    if not targets and workload.method in vocabulary.RANKED_METHODS:
        raise RequestError("no LoRA targets are named", hint="name modules, such as q_proj,v_proj, or all-linear")
    check_trainable(workload.method, workload.weight_dtype)
    if workload.attention == "flash-attention-2" and workload.compute_dtype == "fp32" and not workload.autocast:
        raise RequestError("flash-attention-2 computes in half precision only", hint="use --compute-dtype bf16")


def check_trainable(method: str, weight_dtype: str) -> None:
    """Quantised weights train only behind adapters; say the way out."""
    quantised = weight_dtype not in vocabulary.TRAINABLE_FORMATS
    if quantised and method in vocabulary.FULL_METHODS:
        raise RequestError(
            f"{method} fine-tuning of {weight_dtype} weights is not possible: quantised weights take no gradient",
            hint="train adapters over them with --method qlora, or the whole model with --bits 16",
        )
    if quantised and weight_dtype.startswith(("gguf", "bitnet")):
        raise UnsupportedError(
            f"{weight_dtype} weights are for inference: no trainer of adapters over them is modelled",
            hint="use --bits 4 (nf4) for QLoRA",
        )
    if not quantised and method in vocabulary.QUANTISED_METHODS:
        raise RequestError(
            f"{method} trains over quantised weights, not {weight_dtype}",
            hint="use --bits 4, or --method lora",
        )


def check_serving(workload: ServingWorkload) -> None:
    """Values and combinations of a serving workload."""
    _check_ranges(workload, _SERVING_RANGES)
    for name, value, choices in (
        ("engine", workload.engine, vocabulary.ENGINES),
        ("attention", workload.attention, vocabulary.ATTENTION),
        ("compute_dtype", workload.compute_dtype, vocabulary.COMPUTE_DTYPES),
        ("kv_cache_dtype", workload.kv_cache_dtype, vocabulary.KV_CACHE_DTYPES),
    ):
        check_choice(name, value, choices)
    _check_fraction("gpu_memory_utilization", workload.gpu_memory_utilization, low_open=True, high_open=False)
    limit = workload.max_model_len
    if limit is not None and workload.context_tokens > limit:
        raise RequestError(
            f"prompt and output need {workload.context_tokens:,} tokens, but the engine's limit is {limit:,}",
            hint="raise --max-model-len or shorten --prompt-tokens",
        )


def check_parallelism(parallelism: Parallelism, model: ModelArchitecture | None) -> None:
    """Degrees are positive and divide what they cut."""
    _check_ranges(parallelism, _PARALLEL_RANGES)
    check_choice("cpu_offload", parallelism.cpu_offload, vocabulary.CPU_OFFLOAD)
    check_choice("pp_schedule", parallelism.pp_schedule, vocabulary.PIPELINE_SCHEDULES)
    check_range("num_gpus", parallelism.num_gpus, 1, MAX_GPUS)
    if model is None:
        return
    for heads in attention_heads(model):
        if heads % parallelism.tp:
            raise RequestError(
                f"tp {parallelism.tp} does not divide the {heads} attention heads of {model.name}",
                hint=f"use one of {', '.join(str(n) for n in divisors(heads))}",
            )
    if parallelism.pp > model.num_layers:
        raise RequestError(f"pp {parallelism.pp} is more than the {model.num_layers} layers of {model.name}")
    experts = [group.mlp.num_experts for group in model.groups if isinstance(group.mlp, MoeMlp)]
    if parallelism.ep > 1 and not experts:
        raise RequestError(f"{model.name} has no experts to spread", hint="leave out --ep")
    if experts and parallelism.ep > min(experts):
        raise RequestError(f"ep {parallelism.ep} is more than the {min(experts)} experts of {model.name}")


def attention_heads(model: ModelArchitecture) -> tuple[int, ...]:
    """Distinct numbers of query heads, which tensor parallelism must divide."""
    mixers = (group.mixer for group in model.groups)
    heads = {
        mixer.num_attention_heads for mixer in mixers if isinstance(mixer, GroupedQueryAttention | LatentAttention)
    }
    return tuple(sorted(heads))


def divisors(number: int) -> tuple[int, ...]:
    return tuple(candidate for candidate in range(1, number + 1) if number % candidate == 0)


def check_request(request: PlanRequest, model: ModelArchitecture | None = None) -> tuple[str, ...]:
    """Raise on a request that cannot be meant; return what is merely doubtful, one line each."""
    if not request.model.strip():
        raise RequestError("no model is named", hint="plan --model llama-70b --bits 4")
    workload = request.workload
    if isinstance(workload, TrainingWorkload):
        check_training(workload)
    else:
        check_serving(workload)
    check_hardware(request.hardware)
    wanted = request.hardware.num_gpus
    if request.parallelism is not None:
        check_parallelism(request.parallelism, model)
        spread = request.parallelism.num_gpus
        if wanted is not None and spread != wanted:
            raise RequestError(
                f"the parallel degrees multiply to {spread} GPUs, but {wanted} are asked for",
                hint="leave out --num-gpus or change a degree",
            )
        if isinstance(workload, ServingWorkload) and request.parallelism.dp_shard > 1:
            raise RequestError("dp_shard splits training states; serving has none", hint="use --tp or --pp")
    return () if model is None else _doubts(workload, model)


def _doubts(workload: TrainingWorkload | ServingWorkload, model: ModelArchitecture) -> tuple[str, ...]:
    warnings = []
    tokens = workload.seq_len if isinstance(workload, TrainingWorkload) else workload.context_tokens
    limit = model.max_position_embeddings
    if limit is not None and tokens > limit:
        warnings.append(f"{tokens:,} tokens are more than the {limit:,} positions {model.name} was made for")
    target = workload.target_seq_len if isinstance(workload, TrainingWorkload) else None
    if target is not None and model.kind != "encoder-decoder":
        warnings.append(f"{model.name} has no encoder-decoder pair: the target length is ignored")
    return tuple(warnings)
