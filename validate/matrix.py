"""The runs of every suite as data, most informative first, and the founding documents' recipes at small scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from planner.request import AdapterSpec, EvaluationSpec, ServingWorkload, TrainingWorkload

LLAMA_1B, LLAMA_3B, LLAMA_8B = "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.1-8B"
QWEN_05B, QWEN_7B = "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-7B"
MISTRAL, PHI3, GEMMA = "mistralai/Mistral-7B-v0.1", "microsoft/Phi-3-mini-4k-instruct", "google/gemma-2-2b"
MOE = "ibm-granite/granite-3.0-1b-a400m-base"
FLAN_BASE, FLAN_LARGE, T5_SMALL = "google/flan-t5-base", "google/flan-t5-large", "google-t5/t5-small"
BERT_BASE, BERT_LARGE = "google-bert/bert-base-uncased", "google-bert/bert-large-uncased"
SMOL, GPT2, BLOOM = "HuggingFaceTB/SmolLM2-135M", "openai-community/gpt2", "bigscience/bloom-560m"

QV = AdapterSpec(target_modules=("q_proj", "v_proj"))
T5_QV = AdapterSpec(target_modules=("q", "v"))
BERT_QV = AdapterSpec(rank=8, target_modules=("query", "value"))
MIXED_LENGTHS = (
    700,
    512,
    333,
    702,
    128,
    640,
    64,
    511,
    702,
    256,
    480,
    90,
    701,
    350,
    222,
    610,
    702,
    45,
    512,
    128,
    702,
)
"""A history of padded batch lengths: longest batches come back between shorter ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run of a suite."""

    name: str
    model: str
    workload: TrainingWorkload | ServingWorkload
    steps: int = 3
    lengths: tuple[int, ...] = ()
    snapshot: bool = False
    """Keep the allocator's event history, as truth for its simulation."""
    runner: str = "loop"
    keeps_size: bool = False
    """Small enough to run on a CPU as it is."""


def train(name: str, model: str, **workload: Any) -> Case:
    """A training case: steps, lengths, snapshot and runner belong to the case, the rest to the workload."""
    own = {key: workload.pop(key) for key in ("steps", "lengths", "snapshot", "runner") if key in workload}
    if workload.get("method") == "qlora":
        workload.setdefault("weight_dtype", "nf4-dq")
    return Case(name=name, model=model, workload=TrainingWorkload(**workload), **own)


def serve(name: str, model: str, **workload: Any) -> Case:
    """An inference case through ``generate``."""
    return Case(name=name, model=model, workload=ServingWorkload(**workload))


def recipes() -> Iterator[Case]:
    """The documents' fine-tuning recipes, at the lengths and batches they use."""
    yield train("phi3-text-to-json", PHI3, method="lora", batch_size=2, seq_len=512, adapter=AdapterSpec(rank=16))
    yield train("mistral-r64-qv", MISTRAL, method="lora", seq_len=512, adapter=replace(QV, rank=64))
    yield train(
        "t5-small-text-to-sql-lora", T5_SMALL, method="lora", batch_size=8, seq_len=256, target_seq_len=128,
        gradient_checkpointing="none", adapter=T5_QV,
    )  # fmt: skip
    yield train(
        "t5-small-text-to-sql-qlora", T5_SMALL, method="qlora", batch_size=8, seq_len=256, target_seq_len=128,
        gradient_checkpointing="none", adapter=T5_QV,
    )  # fmt: skip
    yield train(
        "flan-t5-summarisation", FLAN_BASE, method="lora", batch_size=4, seq_len=512, target_seq_len=128,
        gradient_checkpointing="none", adapter=replace(T5_QV, rank=32),
    )  # fmt: skip
    yield train(
        "bert-rescoring", BERT_BASE, method="lora", batch_size=16, seq_len=128, gradient_checkpointing="none",
        objective="sequence-classification", adapter=BERT_QV, padding_mask=True,
    )  # fmt: skip
    yield train(
        "prompt-tuning", BLOOM, method="prompt-tuning", batch_size=8, seq_len=64, gradient_checkpointing="none",
        adapter=AdapterSpec(num_virtual_tokens=8),
    )  # fmt: skip


def quick() -> Iterator[Case]:
    """A first look at a card: each family once."""
    yield train("lora", LLAMA_1B, method="lora", seq_len=1024, snapshot=True)
    yield train("lora-no-checkpointing", LLAMA_1B, method="lora", seq_len=1024, gradient_checkpointing="none")
    yield train("qlora", LLAMA_1B, method="qlora", seq_len=1024)
    yield train("full", QWEN_05B, method="full", seq_len=1024, snapshot=True)
    yield train("full-no-checkpointing", QWEN_05B, method="full", seq_len=1024, gradient_checkpointing="none")
    yield train("lora-padded", LLAMA_1B, method="lora", seq_len=702, batch_size=4, padding_mask=True)
    yield serve("generate", LLAMA_1B, prompt_tokens=1024, output_tokens=64)
    yield serve("generate-batch", LLAMA_1B, prompt_tokens=1024, output_tokens=64, concurrency=8)
    yield train("seq2seq", FLAN_BASE, method="lora", batch_size=4, seq_len=512, target_seq_len=128, adapter=T5_QV,
                gradient_checkpointing="none")  # fmt: skip
    yield train("encoder", BERT_BASE, method="full", batch_size=16, seq_len=128, weight_dtype="fp32",
                compute_dtype="fp32", objective="sequence-classification",
                gradient_checkpointing="none")  # fmt: skip


def standard() -> Iterator[Case]:
    """The matrix a campaign is made of: more than sixty runs of models from 0.1B to 8B."""
    yield from quick()
    none = {"gradient_checkpointing": "none"}
    for model, tag in ((LLAMA_3B, "3b"), (LLAMA_8B, "8b"), (QWEN_7B, "qwen7b")):
        yield train(f"lora-{tag}", model, method="lora", seq_len=2048, adapter=AdapterSpec(rank=32))
        yield train(f"qlora-{tag}", model, method="qlora", seq_len=2048)
    yield train("full-3b", LLAMA_3B, method="full", seq_len=1024, batch_size=2)
    yield train("full-8b", LLAMA_8B, method="full", seq_len=1024, optimizer="adamw-8bit")
    yield train("lora-3b-history", LLAMA_3B, method="lora", batch_size=4, seq_len=702, lengths=MIXED_LENGTHS,
                padding_mask=True, keep_outputs=True, use_cache=True, snapshot=True, **none)  # fmt: skip
    yield train("qlora-8b-single-quantisation", LLAMA_8B, method="qlora", weight_dtype="nf4", seq_len=2048)
    for optimizer in ("adamw-fused", "adamw-forloop", "adamw-8bit", "paged-adamw-8bit", "adafactor", "sgd"):
        yield train(f"full-1b-{optimizer}", LLAMA_1B, method="full", seq_len=512, optimizer=optimizer)
    for method in ("dora", "ia3", "prompt-tuning", "p-tuning"):
        yield train(f"{method}-3b", LLAMA_3B, method=method, seq_len=1024)
    yield train("prefix-3b", LLAMA_3B, method="prefix-tuning", seq_len=1024, **none)
    for rank in (8, 64):
        yield train(f"lora-qv-r{rank}", LLAMA_3B, method="lora", seq_len=1024, adapter=replace(QV, rank=rank))
    for seq_len in (128, 512, 4096, 8192):
        yield train(f"lora-1b-{seq_len}", LLAMA_1B, method="lora", seq_len=seq_len, adapter=QV)
    for batch_size in (2, 16):
        yield train(
            f"lora-1b-batch{batch_size}", LLAMA_1B, method="lora", seq_len=512, batch_size=batch_size, **none
        )
    yield train("eager", LLAMA_1B, method="lora", seq_len=1024, attention="eager", **none)
    yield train("sdpa-padded", LLAMA_3B, method="lora", seq_len=702, batch_size=4, padding_mask=True, **none)
    yield train("outputs-kept", LLAMA_1B, method="lora", seq_len=1024, keep_outputs=True, use_cache=True, **none)
    yield train("fp16-autocast", LLAMA_1B, method="full", seq_len=512, weight_dtype="fp32", compute_dtype="fp16",
                autocast=True, **none)  # fmt: skip
    yield train("bf16-autocast", QWEN_05B, method="full", seq_len=512, weight_dtype="fp32", autocast=True, **none)
    yield train("fp32", QWEN_05B, method="full", seq_len=512, weight_dtype="fp32", compute_dtype="fp32", **none)
    yield train("accumulation", LLAMA_1B, method="full", seq_len=512, gradient_accumulation_steps=4)
    yield train("lora-dropout", LLAMA_1B, method="lora", seq_len=1024, adapter=AdapterSpec(dropout=0.05), **none)
    yield train("phi3-lora", PHI3, method="lora", seq_len=1024, snapshot=True)
    yield train("gemma2-lora", GEMMA, method="lora", seq_len=1024, attention="eager")
    yield train("moe-lora", MOE, method="lora", seq_len=1024, adapter=QV)
    yield train("moe-full", MOE, method="full", seq_len=512)
    yield train(
        "flan-t5-large-full", FLAN_LARGE, method="full", batch_size=4, seq_len=512, target_seq_len=128, **none
    )
    yield train("bert-large-full", BERT_LARGE, method="full", batch_size=16, seq_len=512, weight_dtype="fp32",
                compute_dtype="fp32", objective="sequence-classification", **none)  # fmt: skip
    gathering = EvaluationSpec(batch_size=4, seq_len=512, num_samples=40, gathers_logits=True)
    yield train("eval-gathers-logits", QWEN_05B, method="lora", seq_len=512, evaluation=gathering)
    yield train("trainer", LLAMA_1B, method="lora", seq_len=1024, runner="trainer")
    for weight_dtype in ("bf16", "int8", "nf4"):
        yield serve(f"generate-8b-{weight_dtype}", LLAMA_8B, weight_dtype=weight_dtype, prompt_tokens=2048,
                    output_tokens=64)  # fmt: skip
    yield serve("generate-qwen7b-long", QWEN_7B, prompt_tokens=14336, output_tokens=64)
    yield serve("generate-seq2seq", FLAN_LARGE, prompt_tokens=512, output_tokens=64, concurrency=4)
    yield from recipes()


def full() -> Iterator[Case]:
    """The standard matrix, and the cross of model, method, length and batch around it."""
    yield from standard()
    for model, tag in ((LLAMA_1B, "1b"), (LLAMA_3B, "3b"), (MISTRAL, "mistral"), (GEMMA, "gemma")):
        for method in ("lora", "qlora", "full"):
            for batch_size, seq_len in ((1, 512), (4, 1024), (2, 4096)):
                for checkpointing in ("full", "none"):
                    yield train(
                        f"{method}-{tag}-{batch_size}x{seq_len}-{checkpointing}", model, method=method,
                        batch_size=batch_size, seq_len=seq_len, gradient_checkpointing=checkpointing,
                    )  # fmt: skip


def small() -> Iterator[Case]:
    """Models of 0.06B to 0.5B at lengths a CPU manages, for holding formulas and traces against real tensors."""
    none: dict[str, Any] = {"gradient_checkpointing": "none"}
    text_to_sql: dict[str, Any] = {"batch_size": 4, "seq_len": 128, "target_seq_len": 64}
    cases = [
        train("smol-lora", SMOL, method="lora", seq_len=128),
        train("smol-lora-none", SMOL, method="lora", seq_len=128, batch_size=2, **none),
        train("smol-full", SMOL, method="full", seq_len=128, **none),
        train("smol-full-checkpointed", SMOL, method="full", seq_len=256, batch_size=2),
        train("smol-qlora", SMOL, method="qlora", seq_len=128),
        train("smol-qlora-none", SMOL, method="qlora", seq_len=128, **none),
        train("smol-padded", SMOL, method="lora", seq_len=96, batch_size=4, padding_mask=True, **none),
        train("smol-eager", SMOL, method="lora", seq_len=192, attention="eager", **none),
        train("smol-dora", SMOL, method="dora", seq_len=128, **none),
        train("smol-ia3", SMOL, method="ia3", seq_len=128, **none),
        train("smol-prompt", SMOL, method="prompt-tuning", seq_len=128, **none),
        train("smol-forloop", SMOL, method="full", seq_len=64, optimizer="adamw-forloop"),
        train("smol-fp32", SMOL, method="full", seq_len=64, weight_dtype="fp32", compute_dtype="fp32", **none),
        train("smol-autocast", SMOL, method="lora", seq_len=128, weight_dtype="fp32", autocast=True, **none),
        train("smol-kept", SMOL, method="lora", seq_len=128, keep_outputs=True, use_cache=True, **none),
        train("qwen-lora", QWEN_05B, method="lora", seq_len=64),
        train("qwen-lora-none", QWEN_05B, method="lora", seq_len=64, batch_size=2, **none),
        train("gpt2-full", GPT2, method="full", seq_len=128, batch_size=2, **none),
        train("t5-lora", T5_SMALL, method="lora", adapter=T5_QV, **text_to_sql, **none),
        train("t5-full", T5_SMALL, method="full", **text_to_sql, **none),
        train("t5-qlora", T5_SMALL, method="qlora", adapter=T5_QV, **text_to_sql, **none),
        train("bert-lora", BERT_BASE, method="lora", batch_size=8, seq_len=64, adapter=BERT_QV,
              objective="sequence-classification", **none),
        train("bert-full", BERT_BASE, method="full", batch_size=4, seq_len=128, weight_dtype="fp32",
              compute_dtype="fp32", objective="sequence-classification", **none),
        serve("smol-generate", SMOL, prompt_tokens=256, output_tokens=8),
        serve("smol-generate-4", SMOL, prompt_tokens=256, output_tokens=8, concurrency=4),
        serve("qwen-generate", QWEN_05B, prompt_tokens=128, output_tokens=8),
    ]  # fmt: skip
    yield from (replace(case, steps=2, keeps_size=True) for case in cases)
