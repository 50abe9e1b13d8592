"""The door of memory cases: the fields of a published request that decide its memory, checked."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class CaseParallelism(BaseModel):
    """How the job was spread, in torchtitan's names; absent degrees are 1."""

    model_config = ConfigDict(extra="allow")

    dp_replicate: int | None = None
    dp_shard: int | None = None
    tp: int = 1
    pp: int = 1
    cp: int = 1
    ep: int = 1
    zero_stage: int = 3
    cpu_offload: bool = False
    sequence_parallel: bool = False


class CaseServing(BaseModel):
    """What the engine was asked for and told."""

    model_config = ConfigDict(extra="allow")

    engine: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    concurrency: int = 1
    max_model_len: int | None = None
    kv_cache_dtype: str | None = None
    kv_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    mem_fraction_static: float | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    chunked_prefill_size: int | None = None
    n_ubatch: int | None = None
    flash_attention: bool | None = None
    cuda_graph_max_bs: int | None = None
    enforce_eager: bool = False


class MemoryRequest(BaseModel):
    """The fields of a memory case that decide the answer; what is not known is absent."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    checkpoint: str | None = None
    task: str
    method: str = "full"
    weight_dtype: str | None = None
    compute_dtype: str | None = None
    autocast: bool = False
    optimizer: str = "adamw"
    lora_rank: int | None = None
    lora_targets: list[str] | str | None = None
    lora_dtype: str | None = None
    lora_dropout: float | None = None
    modules_to_save: list[str] = Field(default_factory=list)
    num_virtual_tokens: int | None = None
    batch_size: int = 1
    seq_len: int | None = None
    seq_len_max: int | None = None
    padding: str | None = None
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    checkpointing_mode: str | None = None
    attention: str = "sdpa"
    loss: str = "standard"
    compile: bool = False
    optimizer_in_backward: bool = False
    activation_offloading: bool = False
    framework: str = "transformers"
    framework_version: str | None = None
    torch_version: str | None = None
    transformers_version: str | None = None
    gpu: str | None = None
    gpu_memory_bytes: int | None = None
    num_gpus: int = 1
    parallelism: CaseParallelism | None = None
    serve: CaseServing | None = None
    eval: dict[str, Any] | None = None
    model_head: str | None = None
    quant_group_size: int | None = None
    quant_kernel: str | None = None
