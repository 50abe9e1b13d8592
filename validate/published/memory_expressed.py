"""A memory case of the benchmark in the planner's own values: architecture, request, spread and GPU."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import ValidationError

from hardware_db.gpu import Gpu, Interconnect
from planner.errors import PlannerError, RequestError, UnsupportedError
from planner.model.architecture import ModelArchitecture
from planner.request import (
    AdapterSpec,
    EvaluationSpec,
    Parallelism,
    PlanRequest,
    ServingWorkload,
    TrainingWorkload,
)
from planner.units import GIB
from validate.published.cases import Case
from validate.published.memory_request import CaseServing, MemoryRequest

_CHECKPOINTING = {"selective-op": "selective", "unsloth-offload": "offload", "full": "full"}
_ATTENTION = {"unsloth (xformers/FA2)": "flash-attention-2"}
_METHODS = {
    **dict.fromkeys(("ln-tuning", "lntuning", "layernorm-tuning"), "layernorm"),
    **dict.fromkeys(("ptuning", "p-tuning-v1"), "p-tuning"),
    **dict.fromkeys(("adapter", "bottleneck-adapter"), "bottleneck"),
    "prompt": "prompt-tuning",
    "prefix": "prefix-tuning",
}
"""Other spellings of methods the engine knows."""
_ON_TRAINER = ("accelerate", "llama-factory", "octocoder")
"""Stacks that train with transformers' own Trainer and models."""
_ADAPTER_DTYPE = {"litgpt": "bf16", "fsdp_qlora": "bf16"}
"""Frameworks that cast adapters with the model; peft's default is fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCase:
    """A case in the planner's own values."""

    architecture: ModelArchitecture
    request: PlanRequest
    parallelism: Parallelism
    gpu: Gpu | None
    cuda_total_bytes: int | None
    """Memory as torch reports it, where the case prints it."""
    num_devices: int = 1
    """Devices the measured number sums over."""


def express(case: Case) -> MemoryCase:
    """The case as architecture, request, parallelism and GPU; raises PlannerError where it cannot be expressed."""
    from planner.model.registry import resolve
    from planner.model.unquantised import keeping, known_modules

    try:
        request = MemoryRequest.model_validate(case.request)
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(f"request.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if request.model is None:
        raise UnsupportedError("the case names no model")
    architecture = resolve(request.model).architecture
    if architecture is None:
        raise UnsupportedError(f"the architecture of {request.model} is not known")
    architecture = keeping(architecture, known_modules(request.checkpoint or "") or ())
    workload = _serving(request) if request.task == "serve" else _training(request)
    parallelism = _parallelism(case, request)
    gpu, printed = _gpu(request)
    return MemoryCase(
        architecture=architecture,
        request=PlanRequest(model=request.model, workload=workload, parallelism=parallelism),
        parallelism=parallelism,
        gpu=gpu,
        cuda_total_bytes=printed,
        num_devices=request.num_gpus if case.measured.per_gpu is False else 1,
    )


def _parallelism(case: Case, request: MemoryRequest) -> Parallelism:
    if case.measured.per_gpu is False:
        return Parallelism(pp=request.num_gpus)
    given = request.parallelism
    if given is None:
        if request.num_gpus == 1:
            return Parallelism()
        raise UnsupportedError(f"{request.num_gpus} GPUs, but how the job is spread over them is not published")
    model_ranks = given.tp * given.pp * given.cp
    dp_shard = given.dp_shard
    if dp_shard is None:
        dp_shard = max(request.num_gpus // (model_ranks * (given.dp_replicate or 1)), 1)
    return Parallelism(
        dp_replicate=given.dp_replicate or 1,
        dp_shard=dp_shard,
        tp=given.tp,
        pp=given.pp,
        cp=given.cp,
        ep=given.ep,
        zero_stage=given.zero_stage,
        sequence_parallel=given.sequence_parallel,
        cpu_offload="parameters" if given.cpu_offload else "none",
    )


def _training(request: MemoryRequest) -> TrainingWorkload:
    seq_len = request.seq_len or request.seq_len_max
    compute = request.compute_dtype or "bf16"
    checkpointing = "full" if request.gradient_checkpointing else "none"
    if request.gradient_checkpointing and request.checkpointing_mode:
        checkpointing = _CHECKPOINTING.get(request.checkpointing_mode, request.checkpointing_mode)
    if request.gradient_checkpointing and request.activation_offloading:
        checkpointing = "offload"
    evaluation = None
    if request.eval:
        evaluation = EvaluationSpec(
            batch_size=request.eval.get("generate_batch_size", 8),
            seq_len=request.eval.get("max_length"),
            generate_max_new_tokens=request.eval.get("max_new_tokens"),
        )
    return TrainingWorkload(
        method=_method(request.method),
        weight_dtype=request.weight_dtype or compute,
        compute_dtype="bf16" if compute == "fp8" else compute,
        autocast=request.autocast,
        batch_size=request.batch_size,
        seq_len=seq_len or 2048,
        padding_mask=request.padding is not None,
        gradient_accumulation_steps=request.gradient_accumulation_steps,
        gradient_checkpointing=checkpointing,
        attention=_ATTENTION.get(request.attention, request.attention),
        loss=request.loss,
        optimizer=request.optimizer,
        optimizer_in_backward=request.optimizer_in_backward,
        adapter=_adapter(request),
        objective="sequence-classification"
        if (request.model_head or "").endswith("SequenceClassification")
        else "sft",
        evaluation=evaluation,
        framework=_framework(request.framework, request.framework_version),
        framework_version=request.framework_version,
        torch_version=request.torch_version,
        compile=request.compile,
    )


def _method(name: str) -> str:
    spelled = name.lower().replace("_", "-")
    return _METHODS.get(spelled, spelled)


def _framework(name: str, version: str | None) -> str:
    """The stack whose traits hold: of "transformers+accelerate" those of transformers."""
    from planner.memory.frameworks import FRAMEWORK_NAMES

    if name in FRAMEWORK_NAMES:
        return name
    parts = name.lower().split("+")
    if "trl" in parts and _release(version) < 2:  # a higher number is another library's of the stack
        return "trl"
    return "transformers" if {"transformers", "trl"} & set(parts) or name in _ON_TRAINER else name


def _release(version: str | None) -> int:
    major = (version or "0").split(".")[0]
    return int(major) if major.isdigit() else 0


def _adapter(request: MemoryRequest) -> AdapterSpec:
    targets = request.lora_targets or "all-linear"
    saved = tuple(request.modules_to_save)
    if isinstance(targets, list) and request.framework == "unsloth":
        saved += tuple(name for name in targets if name in ("embed_tokens", "lm_head"))
        targets = [name for name in targets if name not in saved]
    return AdapterSpec(
        rank=request.lora_rank or AdapterSpec().rank,
        target_modules=targets if isinstance(targets, str) else tuple(targets),
        modules_to_save=saved,
        dtype=request.lora_dtype or _ADAPTER_DTYPE.get(request.framework, "fp32"),
        dropout=request.lora_dropout,
        num_virtual_tokens=request.num_virtual_tokens or AdapterSpec().num_virtual_tokens,
    )


def _serving(request: MemoryRequest) -> ServingWorkload:
    serve = request.serve or CaseServing()
    engine = serve.engine or request.framework
    compute = request.compute_dtype or _default_compute(request)
    weight_dtype = request.weight_dtype or compute
    if request.quant_group_size and weight_dtype.startswith(("gptq-", "awq-")):
        weight_dtype = f"{weight_dtype}-g{request.quant_group_size}"
    if weight_dtype == "fp8" and (request.checkpoint or "").startswith("meta-llama/"):
        weight_dtype = "fp8-fbgemm"
    prompt, output = serve.prompt_tokens, serve.output_tokens
    if prompt is None:
        prompt = serve.kv_tokens or serve.max_model_len or 2048
        output = output or 0
    return ServingWorkload(
        weight_dtype=weight_dtype,
        compute_dtype=compute,
        kv_cache_dtype=_cache_dtype(serve.kv_cache_dtype, compute),
        concurrency=serve.concurrency,
        prompt_tokens=prompt,
        output_tokens=output or 0,
        max_model_len=serve.max_model_len,
        engine=engine,
        engine_version=_engine_version(request, engine),
        attention="eager" if serve.flash_attention is False else request.attention,
        gpu_memory_utilization=serve.gpu_memory_utilization or serve.mem_fraction_static,
        max_num_batched_tokens=serve.max_num_batched_tokens or serve.chunked_prefill_size or serve.n_ubatch,
        max_num_seqs=serve.max_num_seqs,
        cuda_graphs=not serve.enforce_eager,
    )


_UNNAMED_VLLM = "0.7"
"""Logs that state their profile at INFO level are those of the first engine, in versions 0.6.4 to 0.10."""


def _engine_version(request: MemoryRequest, engine: str) -> str | None:
    if request.framework_version is not None or engine != "vllm":
        return request.framework_version
    return _UNNAMED_VLLM


def _default_compute(request: MemoryRequest) -> str:
    if request.weight_dtype in ("fp32", "bf16", "fp16"):
        return request.weight_dtype
    return "fp16" if (request.weight_dtype or "").startswith(("gguf", "awq", "gptq")) else "bf16"


def _cache_dtype(named: str | None, compute: str) -> str:
    if named in (None, "auto"):
        return compute
    return {"f16": "fp16", "f32": "fp32"}.get(named, named)


def _gpu(request: MemoryRequest) -> tuple[Gpu | None, int | None]:
    """The card, and its memory as torch printed it where it did."""
    from hardware_db.catalog import find_gpu

    if request.gpu is None:
        return None, None
    name = re.sub(r"\s*\(.*?\)", "", request.gpu)
    printed = re.search(r"([0-9.]+)\s*GiB", request.gpu)
    total_bytes = request.gpu_memory_bytes or (int(float(printed.group(1)) * GIB) if printed else None)
    try:
        gpu = find_gpu(name)
    except (PlannerError, LookupError, ValueError):
        return (_unnamed(request.gpu, total_bytes) if total_bytes else None), total_bytes
    return gpu, total_bytes


def _unnamed(name: str, memory_bytes: int) -> Gpu:
    """A card of which only the total memory is published."""
    return Gpu(
        id=name, name=name, aliases=(), vendor="nvidia", architecture=None, compute_capability=None, is_cuda=True,
        release=None, memory_gb=0.0, memory_bytes=memory_bytes, memory_bytes_derived=False, memory_type=None,
        bandwidth_bytes_per_s=None, dense_flops_per_s={}, supports_bf16=None,
        interconnect=Interconnect(nvlink_bytes_per_s=None, pcie_generation=None, pcie_lanes=None), tdp_w=None,
        form_factor=None, buy_prices=(), sources={}, unverified=frozenset(), notes="",
    )  # fmt: skip
