"""A published speed in the planner's own values: architecture, device, spread and workload."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hardware_db import catalog
from hardware_db.gpu import Gpu
from planner.errors import UnsupportedError
from planner.memory.ops import ceil_div
from planner.model import registry
from planner.model.architecture import ModelArchitecture
from planner.model.hf_config import architecture_from_config
from planner.request import AdapterSpec, Parallelism, ServingWorkload, TrainingWorkload
from planner.throughput import serving
from planner.throughput.constants import constant
from planner.throughput.device import Device, device_of

NARROW = {"fp8": "fp8", "mxfp8": "fp8", "nvfp4": "fp4", "fp4": "fp4"}
"""What matrix products run in where a case computes in such a dtype."""
_FUSED_FRAMEWORKS = ("megatron", "nemo")
_NEMO_LORA_TARGETS = ("q_proj", "k_proj", "v_proj")
"""NeMo adapts ``attention_qkv`` by default: https://docs.nvidia.com/nemo-framework/user-guide/24.07/."""
_CHIP_RATES = (
    "fp32_flops_per_s", "fp16_flops_per_s", "fp16_acc16_flops_per_s", "bf16_flops_per_s", "fp8_flops_per_s",
    "int8_flops_per_s", "fp4_flops_per_s", "bandwidth_bytes_per_s", "sm_cycles_per_s",
)  # fmt: skip


def case_architecture(request: Mapping[str, Any]) -> ModelArchitecture:
    shapes = request.get("model_config")
    if not shapes:
        return _named(request["model"])
    seq_len = request.get("seq_len", 2048)
    if "mpt" in request["model"].lower():
        config = {"model_type": "mpt", "max_seq_len": seq_len, "tie_word_embeddings": True, **shapes}
    else:
        config = {
            "model_type": "gpt2", "n_embd": shapes["d_model"], "n_layer": shapes["n_layers"],
            "n_head": shapes["n_heads"], "vocab_size": shapes["vocab_size"], "n_positions": seq_len,
        }  # fmt: skip
    return architecture_from_config(config, name=request["model"], source="shapes given by the case")


@cache
def _named(model: str) -> ModelArchitecture:
    model = _case_models()["same_shapes"].get(model, model)
    if model in _case_models()["configs"]:
        entry = _case_models()["configs"][model]
        return architecture_from_config(entry["config"], name=model, source=entry["source"])
    found = registry.resolve(model).architecture
    if found is None:
        raise UnsupportedError(f"only the size of {model} is known")
    return found


@cache
def _case_models() -> Mapping[str, Any]:
    """Models of published speeds that the registry does not list: shapes with their source."""
    text = (Path(__file__).parent / "data" / "case_models.json").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = json.loads(text)
    return loaded


def gpu_of(text: str) -> Gpu:
    """The GPU a case names; power limits and remarks in parentheses are dropped."""
    name = re.sub(r"\(.*?\)", "", text).strip()
    try:
        return catalog.find_gpu(name)
    except catalog.UnknownGpuError as error:
        raise UnsupportedError(f"the GPU {name!r} is not in the catalogue") from error


def case_device(text: str) -> Device:
    """Rates of the GPU a case names, slowed where the card runs below its usual power.

    Under a power cap the clock falls roughly with the cap's square root, memory not at all.
    """
    gpu = gpu_of(text)
    device = device_of(gpu)
    if "one GCD" in text:
        halves = {field: getattr(device, field) / 2 for field in _CHIP_RATES}
        device = replace(device, **halves)
    stated = re.search(r"(\d{3,4})\s*W", text)
    if stated and gpu.tdp_w:
        slowed = (int(stated.group(1)) / gpu.tdp_w) ** constant("power_exponent")
        rates = {field: getattr(device, field) * slowed for field in _CHIP_RATES if field.endswith("flops_per_s")}
        device = replace(device, **rates)
    return device


def case_parallelism(request: Mapping[str, Any]) -> Parallelism:
    given = dict(request.get("parallelism") or {})
    num_gpus = request.get("num_gpus", 1)
    tp, pp, cp = given.get("tp", 1), given.get("pp", 1), given.get("cp", 1)
    ranks = max(num_gpus // (tp * pp * cp), 1)
    stage = given.get("zero_stage")
    shard = given.get("dp_shard")
    if shard is None:
        fused = str(request.get("framework", "")).startswith(_FUSED_FRAMEWORKS)
        sharded = stage is not None or (fused and given.get("dp", 1) > 1)
        shard, stage = (ranks, stage if stage is not None else 1) if sharded else (1, 3)
    if given.get("fsdp_strategy") == "SHARD_GRAD_OP":
        stage = 2
    offload = given.get("cpu_offload")
    return Parallelism(
        dp_shard=shard, dp_replicate=max(ranks // shard, 1), tp=tp, pp=pp, cp=cp, ep=given.get("ep", 1),
        zero_stage=3 if stage is None else stage, pp_virtual_stages=given.get("vp", 1),
        pp_schedule="interleaved-1f1b" if given.get("vp", 1) > 1 else "1f1b",
        sequence_parallel=bool(given.get("sequence_parallel")), cpu_offload="parameters" if offload else "none",
    )  # fmt: skip


def training_workload(request: Mapping[str, Any], parallelism: Parallelism) -> TrainingWorkload:
    """The workload of a training case."""
    compute = request.get("compute_dtype", "bf16")
    framework = request.get("framework", "transformers")
    batch = request.get("batch_size", 1)
    ranks = parallelism.dp_replicate * parallelism.dp_shard
    accumulated = request.get("gradient_accumulation_steps")
    if accumulated is None and request.get("global_batch_size"):
        accumulated = ceil_div(request["global_batch_size"], batch * ranks)
    mode = request.get("checkpointing_mode", "")
    checkpointing = "full" if request.get("gradient_checkpointing") else "none"
    if "selective" in mode:
        checkpointing = "selective"
    seq_len = _padded_length(request, batch)
    targets = request.get("lora_targets") or (_NEMO_LORA_TARGETS if framework == "nemo" else None)
    attention = str(request.get("attention", "sdpa"))
    if attention.startswith("flash"):
        attention = "flash-attention-1" if attention == "flash-attention" else "flash-attention-2"
    return TrainingWorkload(
        method=request.get("method", "full"),
        weight_dtype=request.get("weight_dtype", "bf16"),
        compute_dtype="bf16" if compute in NARROW else compute,
        matmul_dtype=NARROW.get(compute),
        autocast=bool(request.get("autocast")),
        batch_size=batch,
        seq_len=int(seq_len),
        gradient_accumulation_steps=accumulated or 1,
        gradient_checkpointing=checkpointing,
        attention=attention,
        loss="fused" if framework.startswith(_FUSED_FRAMEWORKS) else request.get("loss", "standard"),
        optimizer=request.get("optimizer", "adamw"),
        adapter=AdapterSpec(
            rank=request.get("lora_rank", 16),
            target_modules=tuple(targets) if targets else "all-linear",
            modules_to_save=tuple(request.get("modules_to_save", ())),
            dtype="fp32" if framework in ("peft", "transformers") else "bf16",
        ),
        framework=framework,
        compile=bool(request.get("compile")),
    )  # fmt: skip


def _padded_length(request: Mapping[str, Any], batch: int) -> int:
    """Tokens of a sample as it passes the model: stated, or padded towards the longest of its batch."""
    mean, longest = request.get("seq_len_mean"), request.get("seq_len_max")
    if mean is not None and longest is not None and not request.get("packing"):
        return int(mean + (longest - mean) * (1 - 1 / batch) / 2)
    length = mean or request.get("seq_len") or longest
    if length is None:
        raise UnsupportedError("the case gives no sequence length")
    return int(length)


def serving_workload(request: Mapping[str, Any], concurrency: int) -> ServingWorkload:
    """The workload of a serving case."""
    serve = request["serve"]
    weight = request.get("weight_dtype", "bf16")
    if weight == "int4":
        weight = "gptq-int4"
    if weight == "int8" and serve.get("engine") not in ("transformers", "litgpt"):
        weight = "gptq-int8-gch"  # weight-only with a scale per row; LLM.int8 leaves fused experts alone
    if request.get("quant_group_size") and weight.startswith(("gptq", "awq")):
        weight = f"{weight}-g{request['quant_group_size']}"
    compute = request.get("compute_dtype", "bf16")
    cache = serve.get("kv_cache_dtype") or ("bf16" if compute in NARROW else compute)
    if weight in ("fp8", "nvfp4") and "kv_cache_dtype" not in serve:
        cache = "fp8"
    return ServingWorkload(
        weight_dtype=weight,
        compute_dtype="bf16" if compute in ("int8", *NARROW) else compute,
        kv_cache_dtype="fp16" if cache == "int8" and weight.startswith("gguf") else cache,
        concurrency=concurrency,
        prompt_tokens=serve.get("prompt_tokens") or 0,
        output_tokens=serve.get("output_tokens") or 0,
        engine=serve.get("engine", request.get("framework", "transformers")),
        engine_version=request.get("framework_version"),
        max_num_batched_tokens=serve.get("n_ubatch"),
        cuda_graphs=not serve.get("enforce_eager", False),
        attention=request.get("attention", "sdpa"),
    )


def largest_concurrency(
    request: Mapping[str, Any], architecture: ModelArchitecture, parallelism: Parallelism, gpu: Gpu
) -> int:
    """Requests whose cache fits beside the weights, at most what engines and the test allow.

    A request holds its prompt and, on average over its life, half of its answer.
    """
    workload = serving_workload(request, 1)
    share = gpu.memory_bytes * 0.9 - _weights_bytes(architecture, workload) / parallelism.tp
    middle = workload.prompt_tokens + workload.output_tokens / 2
    per_token = serving.kv_bytes_per_token(architecture, workload.kv_cache_dtype) / parallelism.tp
    limit = min(2048, request["serve"].get("num_requests", 2048))
    return int(max(1, min(limit, share / (middle * per_token))))


def replicas(request: Mapping[str, Any], architecture: ModelArchitecture, gpu: Gpu) -> Parallelism:
    """Several GPUs when nobody says: as few ranks per replica as leave half of the card to the cache."""
    num_gpus = request["num_gpus"]
    weights = _weights_bytes(architecture, serving_workload(request, 1))
    tp = 1
    while tp < num_gpus and weights / tp > 0.55 * gpu.memory_bytes:
        tp *= 2
    return Parallelism(tp=tp, dp_replicate=max(num_gpus // tp, 1))


def _weights_bytes(architecture: ModelArchitecture, workload: ServingWorkload) -> float:
    from planner.memory.terms.weights import weight_terms

    terms = weight_terms(architecture, workload.weight_dtype, workload.compute_dtype)
    return float(sum(term.size_bytes for term in terms))
