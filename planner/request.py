"""What the user asks: a model, a workload, how it is spread, and the hardware wished for.

Names follow Hugging Face (``config.json``, ``TrainingArguments``, ``peft``) and torchtitan (parallelism).
Values are checked where requests enter (``planner.checks``); here they are only held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """What a parameter-efficient method adds. Fields a method does not use keep their defaults."""

    rank: int = 16
    target_modules: tuple[str, ...] | str = "all-linear"
    """Module names as in peft's ``target_modules``, or "all-linear"."""
    modules_to_save: tuple[str, ...] = ()
    dtype: str = "fp32"
    """peft keeps adapter weights in fp32 by default (``autocast_adapter_dtype``)."""
    dropout: float | None = None
    """In front of the adapter; None: the framework's default."""
    num_virtual_tokens: int = 20
    """Prompt tuning, prefix tuning and p-tuning."""
    bottleneck_size: int = 64
    """Bottleneck adapters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """An evaluation loop inside the training process."""

    batch_size: int = 8
    seq_len: int | None = None
    num_samples: int = 100
    gathers_logits: bool = False
    """Trainer without ``prediction_loss_only``: logits of the whole evaluation set are concatenated."""
    accumulation_steps: int | None = None
    """``eval_accumulation_steps``: gathered tensors move to the CPU after so many steps."""
    generate_max_new_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingWorkload:
    """One optimizer step on one data-parallel rank, repeated."""

    method: str = "lora"
    weight_dtype: str = "bf16"
    """Storage format of the base weights, a name of ``planner.dtypes``."""
    compute_dtype: str = "bf16"
    matmul_dtype: str | None = None
    """"fp8" or "fp4" where matrix products run narrower than ``compute_dtype`` (TransformerEngine, torchao)."""
    autocast: bool = False
    batch_size: int = 1
    """Micro-batch of one data-parallel rank, in samples."""
    seq_len: int = 2048
    target_seq_len: int | None = None
    """Decoder length of encoder-decoder models; None: the same as ``seq_len``."""
    padding_mask: bool = False
    """True where batches carry a real padding mask, which changes the attention kernel."""
    gradient_accumulation_steps: int = 1
    gradient_accumulation_dtype: str | None = None
    gradient_checkpointing: str = "full"
    """"none", "full", "selective" or "offload"."""
    attention: str = "sdpa"
    """"eager", "sdpa" or "flash-attention-2"."""
    loss: str = "standard"
    """"standard", "chunked" or "fused"."""
    optimizer: str = "adamw"
    """"adamw" is torch's foreach default; the others are named in ``planner.memory.terms.optimizer``."""
    adapter: AdapterSpec = field(default_factory=AdapterSpec)
    optimizer_in_backward: bool = False
    """True where each parameter is updated as soon as its gradient exists, which is then freed (torchtune)."""
    keep_outputs: bool = False
    """True where the loop keeps ``outputs`` alive into the next step (logits and KV cache stay)."""
    use_cache: bool = False
    """True where the training forward also builds a KV cache (transformers' default without checkpointing)."""
    ema: bool = False
    frozen_layers: int = 0
    """Number of leading layers without gradients in full fine-tuning."""
    num_tokens: int | None = None
    """Tokens of the data set; hours and their price depend on it, memory does not."""
    num_epochs: int = 1
    """Times the data set is trained on."""
    objective: str = "sft"
    """"sft", "pretrain", "dpo", "orpo", "kto", "ppo", "grpo", "reward", "sequence-classification"…"""
    num_generations: int = 8
    """GRPO completions per prompt."""
    completion_len: int = 256
    """Tokens generated per completion in RL objectives."""
    use_vllm: bool = False
    """GRPO generates with vLLM in the training process (TRL's ``vllm_mode="colocate"``)."""
    vllm_gpu_memory_utilization: float | None = None
    """Share of the card that engine is started with; None: TRL's 0.3."""
    vllm_enable_sleep_mode: bool = False
    """Whether that engine gives its memory back while the model trains."""
    evaluation: EvaluationSpec | None = None
    framework: str = "transformers"
    framework_version: str | None = None
    torch_version: str | None = None
    compile: bool = False

    @property
    def trained_tokens(self) -> int | None:
        """Tokens the whole job trains on, every epoch counted; None where its length is not named."""
        return None if self.num_tokens is None else self.num_tokens * self.num_epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingWorkload:
    """A model answering ``concurrency`` requests at once."""

    weight_dtype: str = "bf16"
    compute_dtype: str = "bf16"
    kv_cache_dtype: str = "bf16"
    concurrency: int = 1
    prompt_tokens: int = 2048
    output_tokens: int = 512
    max_model_len: int | None = None
    """The engine's context limit; None: prompt + output."""
    engine: str = "transformers"
    """"transformers", "vllm", "sglang", "llama.cpp", "litgpt", "autoawq"."""
    engine_version: str | None = None
    attention: str = "sdpa"
    gpu_memory_utilization: float | None = None
    """vLLM's ``gpu_memory_utilization`` or SGLang's ``mem_fraction_static``."""
    max_num_batched_tokens: int | None = None
    """vLLM's profile-run size, SGLang's chunked prefill, llama.cpp's ``n_ubatch``."""
    max_num_seqs: int | None = None
    """Requests vLLM runs at once; its profile run samples for as many. None: the engine's default."""
    cuda_graphs: bool = True
    num_lora_adapters: int = 0
    lora_rank: int = 16
    draft_model: str | None = None
    num_speculative_tokens: int = 0

    @property
    def context_tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """How the job is spread, in torchtitan's names. The product of the degrees is the number of GPUs."""

    dp_replicate: int = 1
    dp_shard: int = 1
    tp: int = 1
    pp: int = 1
    cp: int = 1
    ep: int = 1
    """Expert parallelism lives inside the data-parallel ranks and does not multiply the GPU count."""
    zero_stage: int = 3
    """What ``dp_shard`` shards: 1 optimizer states, 2 and gradients, 3 and parameters (FSDP full shard)."""
    sequence_parallel: bool = False
    pp_schedule: str = "1f1b"
    num_microbatches: int | None = None
    pp_virtual_stages: int = 1
    """Model chunks per pipeline rank of the interleaved schedule."""
    cpu_offload: str = "none"
    """"none", "optimizer", "parameters" or "nvme"."""

    @property
    def num_gpus(self) -> int:
        return self.dp_replicate * self.dp_shard * self.tp * self.pp * self.cp


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareWish:
    """Limits on the hardware of the answer; empty and None mean no limit."""

    gpus: tuple[str, ...] = ()
    num_gpus: int | None = None
    max_gpus: int | None = None
    max_usd_per_hour: Decimal | None = None
    max_usd: Decimal | None = None
    max_hours: float | None = None
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    spot: bool = False
    min_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """One question: this model, this workload, spread so, on such hardware."""

    model: str
    """Registry name or alias, hub id, directory with ``config.json``, or "params:7B" for a size alone."""
    workload: TrainingWorkload | ServingWorkload
    parallelism: Parallelism | None = None
    """None: the planner picks the smallest spread that fits."""
    hardware: HardwareWish = field(default_factory=HardwareWish)
    calibrated: bool = True

    @property
    def task(self) -> str:
        return "train" if isinstance(self.workload, TrainingWorkload) else "serve"
