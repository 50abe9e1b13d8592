"""What could be changed about a plan, one step at a time, and its price.

A step is paid for in answer quality (published), in the job itself, or in hardware; what it costs in time is
predicted where it is weighed (``planner.advice``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum

from planner.citation import Citation
from planner.dtypes import weight_format
from planner.request import Parallelism, ServingWorkload, TrainingWorkload

Workload = TrainingWorkload | ServingWorkload
SHORTEST_TO_HALVE = 1024
"""Tokens below which a shorter sample or prompt is no longer the same job."""
_DEGREES = frozenset(field.name for field in fields(Parallelism))

QLORA = Citation(
    title="Dettmers et al. 2023: NF4 fine-tuning matches 16 bits", url="https://arxiv.org/abs/2305.14314"
)
LORA = Citation(
    title="Biderman et al. 2024: LoRA learns less and forgets less", url="https://arxiv.org/abs/2405.09673"
)
ADAM_8BIT = Citation(title="Dettmers et al. 2021: 8-bit optimizers", url="https://arxiv.org/abs/2110.02861")
LLM_INT8 = Citation(title="Dettmers et al. 2022: LLM.int8()", url="https://arxiv.org/abs/2208.07339")
AWQ = Citation(title="Lin et al. 2023: AWQ", url="https://arxiv.org/abs/2306.00978")
FEW_BITS = Citation(
    title="Dettmers & Zettlemoyer 2022: 4 bits keep most accuracy, fewer do not",
    url="https://arxiv.org/abs/2212.09720",
)
FP8 = Citation(title="Micikevicius et al. 2022: FP8 formats", url="https://arxiv.org/abs/2209.05433")
FP8_CACHE = Citation(
    title="vLLM: FP8 KV cache", url="https://docs.vllm.ai/en/stable/features/quantization/quantized_kvcache/"
)


class Price(IntEnum):
    """What a change costs beside time; smaller is cheaper."""

    NOTHING = 0
    QUALITY = 1
    JOB = 2
    """The job is another one: fewer tokens at once, a shorter context."""
    HARDWARE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change: what is said, what it costs, and the fields of workload and spread it sets."""

    label: str
    option: str
    """As typed for ``plan``."""
    price: Price
    cost: str
    """The price in words; empty where it is time alone."""
    source: Citation | None
    sets: Mapping[str, object]


def _step(
    label: str, option: str, price: Price, cost: str = "", source: Citation | None = None, **sets: object
) -> Step:
    return Step(label=label, option=option, price=price, cost=cost, source=source, sets=sets)


def together(
    workload: Workload, spread: Parallelism, steps: Sequence[Step]
) -> tuple[Workload, Parallelism] | None:
    """All steps applied; None where two of them change the same field."""
    sets: dict[str, object] = {}
    for step in steps:
        if not sets.keys().isdisjoint(step.sets):
            return None
        sets |= step.sets
    of_spread = {name: sets.pop(name) for name in _DEGREES & sets.keys()}
    return replace(workload, **sets), replace(spread, **of_spread)  # type: ignore[arg-type]


def possible_steps(workload: Workload, spread: Parallelism) -> Iterator[Step]:
    """Every step that changes something about the plan."""
    if isinstance(workload, TrainingWorkload):
        yield from _training_steps(workload)
        yield from _sharding_steps(spread)
    else:
        yield from _serving_steps(workload, spread)


def _training_steps(workload: TrainingWorkload) -> Iterator[Step]:
    if workload.keep_outputs or workload.use_cache:
        yield _step(
            "let go of the outputs of the last step", "--no-keep-outputs --no-use-cache", Price.NOTHING,
            keep_outputs=False, use_cache=False,
        )  # fmt: skip
    if workload.loss == "standard":
        yield _step("compute the loss in a fused kernel (Liger)", "--loss fused", Price.NOTHING, loss="fused")
    if workload.attention == "eager":
        yield _step("use the sdpa attention kernel", "--attention sdpa", Price.NOTHING, attention="sdpa")
    if workload.gradient_checkpointing == "none":
        yield _step(
            "checkpoint activations", "--gradient-checkpointing full", Price.NOTHING, gradient_checkpointing="full"
        )
    yield from _batch_steps(workload)
    if workload.optimizer in ("adamw", "adamw-fused", "adamw-forloop"):
        yield _step(
            "use 8-bit AdamW", "--optimizer adamw-8bit", Price.NOTHING, "matches 32-bit states", ADAM_8BIT,
            optimizer="adamw-8bit",
        )  # fmt: skip
        yield _step(
            "use 8-bit AdamW, paged to the host", "--optimizer paged-adamw-8bit", Price.NOTHING,
            "matches 32-bit states", ADAM_8BIT, optimizer="paged-adamw-8bit",
        )  # fmt: skip
    yield from _method_steps(workload)
    if workload.seq_len >= SHORTEST_TO_HALVE:
        half = workload.seq_len // 2
        yield _step(
            "halve the sequence length", f"--seq-len {half}", Price.JOB, "longer samples are cut", seq_len=half
        )


def _batch_steps(workload: TrainingWorkload) -> Iterator[Step]:
    """The same samples in more, smaller micro-batches."""
    labels = {1: "accumulate over single samples"}
    for size in dict.fromkeys((workload.batch_size // 2, 1)) if workload.batch_size > 1 else ():
        times = workload.gradient_accumulation_steps * -(-workload.batch_size // size)
        yield _step(
            labels.get(size, "halve the micro-batch and accumulate twice as often"),
            f"--batch-size {size} --gradient-accumulation-steps {times}", Price.NOTHING,
            batch_size=size, gradient_accumulation_steps=times,
        )  # fmt: skip


def _method_steps(workload: TrainingWorkload) -> Iterator[Step]:
    """Fewer bits in the base weights, or fewer trained ones."""
    if workload.weight_dtype == "fp32" and workload.method != "full":
        yield _step(
            "hold the base weights in bf16", "--weight-dtype bf16 --compute-dtype bf16", Price.NOTHING,
            weight_dtype="bf16", compute_dtype="bf16",
        )  # fmt: skip
    if workload.weight_dtype == "nf4":
        yield _step(
            "quantise the scales too", "--weight-dtype nf4-dq", Price.NOTHING, "no loss reported", QLORA,
            weight_dtype="nf4-dq",
        )  # fmt: skip
    if workload.method == "full":
        yield _step(
            "train LoRA adapters instead of all weights", "--method lora", Price.QUALITY,
            "learns less on hard domains", LORA, method="lora",
        )  # fmt: skip
    if workload.method in ("full", "lora") and not weight_format(workload.weight_dtype).is_quantised:
        compute = "bf16" if workload.compute_dtype == "fp32" else workload.compute_dtype
        dtypes = "" if workload.weight_dtype == "bf16" else f" --weight-dtype nf4-dq --compute-dtype {compute}"
        yield _step(
            "train adapters on base weights in NF4 (QLoRA)", f"--method qlora{dtypes}", Price.QUALITY,
            "matched 16-bit adapters" if workload.method == "lora" else "learns less on hard domains", QLORA,
            method="qlora", weight_dtype="nf4-dq", compute_dtype=compute,
        )  # fmt: skip


def _sharding_steps(spread: Parallelism) -> Iterator[Step]:
    if spread.dp_replicate > 1 and spread.dp_shard == 1:
        yield _step(
            "shard states over the replicas (FSDP)", f"--dp-replicate 1 --dp-shard {spread.dp_replicate}",
            Price.NOTHING, dp_replicate=1, dp_shard=spread.dp_replicate,
        )  # fmt: skip
    if spread.dp_shard > 1 and spread.zero_stage < 3:
        yield _step("shard parameters as well (ZeRO-3)", "--zero-stage 3", Price.NOTHING, zero_stage=3)
    if spread.dp_shard > 1 and spread.zero_stage == 3 and spread.cpu_offload == "none":
        yield _step(
            "keep parameters and optimizer in host memory", "--cpu-offload parameters", Price.NOTHING,
            cpu_offload="parameters",
        )  # fmt: skip
    for times, word, rent in ((2, "twice", "twice the rent per hour"), (4, "four times", "four times the rent")):
        shards = times * spread.dp_shard
        yield _step(f"shard over {word} the GPUs", f"--dp-shard {shards}", Price.HARDWARE, rent, dp_shard=shards)


def _serving_steps(workload: ServingWorkload, spread: Parallelism) -> Iterator[Step]:
    bits = weight_format(workload.weight_dtype).bits
    pools = workload.engine in ("vllm", "sglang")
    if bits >= 16:
        eight, source = ("fp8", FP8) if pools else ("int8", LLM_INT8)
        yield _step(
            f"hold the weights in {eight}", f"--weight-dtype {eight}", Price.QUALITY, "no loss reported", source,
            weight_dtype=eight,
        )  # fmt: skip
    if bits > 4:
        four, source = ("awq-int4", AWQ) if pools else ("nf4", FEW_BITS)
        yield _step(
            f"hold the weights in {four}", f"--weight-dtype {four}", Price.QUALITY,
            "perplexity rises slightly, most on small models", source, weight_dtype=four,
        )  # fmt: skip
    if workload.kv_cache_dtype in ("bf16", "fp16", "fp32") and pools:
        yield _step(
            "hold the KV cache in fp8", "--kv-cache-dtype fp8", Price.QUALITY, "small, larger on long contexts",
            FP8_CACHE, kv_cache_dtype="fp8",
        )  # fmt: skip
    if workload.concurrency > 1:
        half = workload.concurrency // 2
        yield _step(
            "answer half as many requests at once", f"--batch-size {half}", Price.JOB, "the others queue",
            concurrency=half,
        )  # fmt: skip
    if workload.prompt_tokens >= SHORTEST_TO_HALVE:
        half = workload.prompt_tokens // 2
        yield _step(
            "halve the prompt", f"--prompt-tokens {half}", Price.JOB, "longer prompts are refused",
            prompt_tokens=half,
        )  # fmt: skip
    for times in (2, 4, 8):
        yield _step(
            f"cut the model over {times} times the GPUs", f"--tp {spread.tp * times}", Price.HARDWARE,
            f"{times} times the rent", tp=spread.tp * times,
        )  # fmt: skip
