"""Every option a request has, declared once: command line, app and request files all read this table.

A path names where the value lives: ``train.batch_size`` is ``TrainingWorkload.batch_size``, ``hardware.gpus`` is
``HardwareWish.gpus``. An option with two paths means the same thing when training and when serving.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from planner import vocabulary as words

Kind = Literal["int", "count", "float", "usd", "bytes", "text", "list", "choice", "switch", "checkpointing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOption:
    """One option: how it is typed, and which fields of a request it sets."""

    flag: str
    paths: tuple[str, ...]
    kind: Kind
    help: str
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    also: tuple[str, ...] = ()
    """Other spellings the command line takes."""

    @property
    def name(self) -> str:
        """As a Python name: ``--batch-size`` is ``batch_size``."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def task(self) -> str | None:
        """The task it says something of; None where that is both, as ``--seq-len`` does, or neither."""
        holders = {path.partition(".")[0] for path in self.paths}
        holder = holders.pop() if len(holders) == 1 else None
        return holder if holder in ("train", "serve") and self.name != "seq_len" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Options that belong together in the help."""

    title: str
    options: tuple[RequestOption, ...]


def _int(flag: str, paths: str, text: str, *also: str) -> RequestOption:
    return RequestOption(flag=flag, paths=tuple(paths.split()), kind="int", help=text, also=also)


def _word(flag: str, paths: str, choices: tuple[str, ...], text: str) -> RequestOption:
    return RequestOption(flag=flag, paths=tuple(paths.split()), kind="choice", choices=choices, help=text)


def _switch(flag: str, paths: str, text: str) -> RequestOption:
    return RequestOption(flag=flag, paths=tuple(paths.split()), kind="switch", help=text)


def _other(kind: Kind, flag: str, paths: str, text: str, metavar: str | None = None) -> RequestOption:
    return RequestOption(flag=flag, paths=tuple(paths.split()), kind=kind, help=text, metavar=metavar)


SECTIONS = (
    Section(
        title="Work",
        options=(
            _word("--method", "train.method", words.METHODS, "How the model is fine-tuned; implies --task train."),
            _other("text", "--weight-dtype", "train.weight_dtype serve.weight_dtype",
                   "Storage of the base weights: bf16, int8, nf4-dq, awq-int4, gguf-q4_k_m… Instead of --bits."),
            _word("--compute-dtype", "train.compute_dtype serve.compute_dtype", words.COMPUTE_DTYPES,
                  "Dtype of the arithmetic."),
            _int("--batch-size", "train.batch_size serve.concurrency",
                 "Samples of one GPU's micro-batch; requests at once when serving.", "--concurrency"),
            _int("--seq-len", "train.seq_len", "Tokens of a sample; prompt and answer together when serving."),
            _other("count", "--tokens", "train.num_tokens", "Tokens of the data set.", "COUNT"),
            _int("--epochs", "train.num_epochs", "Times --tokens are trained on."),
            _word("--attention", "train.attention serve.attention", words.ATTENTION, "Attention kernel."),
        ),
    ),
    Section(
        title="Fine-tuning",
        options=(
            _int("--lora-rank", "train.adapter.rank serve.lora_rank", "Rank of LoRA and its relatives.", "--rank"),
            _other("list", "--lora-targets", "train.adapter.target_modules",
                   "Modules that get adapters: q_proj,v_proj or all-linear.", "NAMES"),
            _other("list", "--modules-to-save", "train.adapter.modules_to_save",
                   "Modules trained in full beside the adapters.", "NAMES"),
            _word("--adapter-dtype", "train.adapter.dtype", words.TRAINABLE_FORMATS, "Dtype of adapter weights."),
            _other("float", "--lora-dropout", "train.adapter.dropout", "Dropout in front of the adapters."),
            _int("--num-virtual-tokens", "train.adapter.num_virtual_tokens", "Tokens of prompt or prefix tuning."),
            _int("--bottleneck-size", "train.adapter.bottleneck_size", "Width of bottleneck adapters."),
            _word("--optimizer", "train.optimizer", words.OPTIMIZERS, "Optimizer; adamw is torch's foreach."),
            RequestOption(
                flag="--gradient-checkpointing", paths=("train.gradient_checkpointing",), kind="checkpointing",
                choices=words.CHECKPOINTING,
                help="Recompute activations: full (default), selective or offload; --no-… keeps them.",
            ),
            _int("--gradient-accumulation-steps", "train.gradient_accumulation_steps", "Micro-batches in a step."),
            _word("--gradient-accumulation-dtype", "train.gradient_accumulation_dtype", words.TRAINABLE_FORMATS,
                  "Dtype gradients are summed in."),
            _word("--loss", "train.loss", words.LOSSES, "Loss kernel: standard, chunked or fused."),
            _word("--objective", "train.objective", words.OBJECTIVES, "What is learnt: sft, dpo, grpo…"),
            _int("--target-seq-len", "train.target_seq_len", "Decoder tokens of encoder-decoder models."),
            _switch("--autocast", "train.autocast", "Train under torch.autocast."),
            _switch("--padding-mask", "train.padding_mask", "Batches carry a padding mask."),
            _switch("--keep-outputs", "train.keep_outputs", "The loop keeps model outputs into the next step."),
            _switch("--use-cache", "train.use_cache", "The training forward builds a KV cache."),
            _switch("--ema", "train.ema", "Keep an exponential moving average of the weights."),
            _int("--frozen-layers", "train.frozen_layers", "Leading layers without gradients."),
            _int("--num-generations", "train.num_generations", "GRPO completions of one prompt."),
            _int("--completion-len", "train.completion_len", "Tokens of one completion in RL objectives."),
            _switch("--use-vllm", "train.use_vllm", "GRPO generates with vLLM in the training process."),
            _other("float", "--vllm-gpu-memory-utilization", "train.vllm_gpu_memory_utilization",
                   "Share of the card that engine is started with."),
            _switch("--vllm-enable-sleep-mode", "train.vllm_enable_sleep_mode",
                    "That engine gives its memory back while the model trains."),
            _other("text", "--framework", "train.framework", "Trainer: transformers, torchtitan, litgpt…"),
            _other("text", "--framework-version", "train.framework_version serve.engine_version",
                   "Version of the trainer or the engine."),
            _other("text", "--torch-version", "train.torch_version", "Version of torch."),
            _switch("--compile", "train.compile", "Train under torch.compile."),
            _int("--eval-batch-size", "train.evaluation.batch_size", "Evaluate in the training process."),
            _int("--eval-seq-len", "train.evaluation.seq_len", "Tokens of an evaluation sample."),
            _int("--eval-samples", "train.evaluation.num_samples", "Samples of the evaluation set."),
            _switch("--eval-gathers-logits", "train.evaluation.gathers_logits",
                    "Evaluation concatenates the logits of all samples."),
            _int("--eval-accumulation-steps", "train.evaluation.accumulation_steps",
                 "Steps after which gathered logits move to the CPU."),
            _int("--eval-max-new-tokens", "train.evaluation.generate_max_new_tokens",
                 "Tokens generated in evaluation."),
        ),
    ),
    Section(
        title="Serving",
        options=(
            _int("--prompt-tokens", "serve.prompt_tokens", "Tokens of a prompt."),
            _int("--output-tokens", "serve.output_tokens", "Tokens of an answer."),
            _int("--max-model-len", "serve.max_model_len", "The engine's context limit."),
            _word("--engine", "serve.engine", words.ENGINES, "What serves the model."),
            _word("--kv-cache-dtype", "serve.kv_cache_dtype", words.KV_CACHE_DTYPES, "Storage of the KV cache."),
            _other("float", "--gpu-memory-utilization", "serve.gpu_memory_utilization",
                   "Share of the card vLLM or SGLang claims."),
            _int("--max-num-batched-tokens", "serve.max_num_batched_tokens", "Tokens of one prefill batch."),
            _int("--max-num-seqs", "serve.max_num_seqs", "Requests vLLM may run at once."),
            _switch("--cuda-graphs", "serve.cuda_graphs", "Capture CUDA graphs."),
            _int("--num-lora-adapters", "serve.num_lora_adapters", "LoRA adapters resident at once."),
            _other("text", "--draft-model", "serve.draft_model", "Draft model of speculative decoding.", "MODEL"),
            _int("--num-speculative-tokens", "serve.num_speculative_tokens", "Tokens drafted at once."),
        ),
    ),
    Section(
        title="Spread over GPUs",
        options=(
            _int("--dp-replicate", "parallelism.dp_replicate", "Replicas of everything (DDP)."),
            _int("--dp-shard", "parallelism.dp_shard", "Ranks that shard training states (FSDP, ZeRO)."),
            _int("--tp", "parallelism.tp", "Tensor-parallel ranks."),
            _int("--pp", "parallelism.pp", "Pipeline stages."),
            _int("--cp", "parallelism.cp", "Context-parallel ranks."),
            _int("--ep", "parallelism.ep", "Expert-parallel ranks, inside the data-parallel ones."),
            _int("--zero-stage", "parallelism.zero_stage", "What --dp-shard shards: 1, 2 or 3 (everything)."),
            _switch("--sequence-parallel", "parallelism.sequence_parallel", "Megatron's sequence parallelism."),
            _word("--pp-schedule", "parallelism.pp_schedule", words.PIPELINE_SCHEDULES, "Pipeline schedule."),
            _int("--num-microbatches", "parallelism.num_microbatches", "Micro-batches of a pipeline step."),
            _word("--cpu-offload", "parallelism.cpu_offload", words.CPU_OFFLOAD, "What lives outside the GPU."),
        ),
    ),
    Section(
        title="Hardware",
        options=(
            _other("list", "--gpu", "hardware.gpus", "Kind of GPU, by name or alias; may be repeated.", "NAME"),
            _int("--num-gpus", "hardware.num_gpus", "Exactly so many GPUs."),
            _int("--max-gpus", "hardware.max_gpus", "At most so many GPUs."),
            _other("bytes", "--min-memory", "hardware.min_memory_bytes", "Least memory of a GPU: 24GiB, 80GB."),
            _other("usd", "--max-usd-per-hour", "hardware.max_usd_per_hour", "Budget for the whole rental."),
            _other("list", "--provider", "hardware.providers", "Cloud to rent from; may be repeated.", "NAME"),
            _other("list", "--region", "hardware.regions", "Region to rent in; may be repeated.", "NAME"),
            _switch("--spot", "hardware.spot", "Consider interruptible offers too."),
        ),
    ),
)  # fmt: skip
OPTIONS: dict[str, RequestOption] = {option.name: option for section in SECTIONS for option in section.options}
COMMA_SEPARATED = ("--lora-targets", "--modules-to-save")
"""Lists typed as one argument; the other lists repeat their flag."""


@cache
def options_of(holder: str) -> tuple[RequestOption, ...]:
    """Options that set a field of ``holder``: train, serve, parallelism or hardware."""
    return tuple(
        option for option in OPTIONS.values() if any(path.startswith(f"{holder}.") for path in option.paths)
    )
