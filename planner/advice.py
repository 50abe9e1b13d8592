"""What to change so that a plan fits, what saves next when it does, and what to beware of.

A change is priced in seconds per step (predicted), in answer quality (published), or in the job itself. The
ranking prefers changes that cost nothing, then time, then quality, then the job, then more hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import combinations

from hardware_db.gpu import Gpu
from planner.citation import Citation
from planner.dtypes import weight_format
from planner.errors import PlannerError, UnsupportedError
from planner.memory import engine
from planner.memory.estimate import Estimate
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism, ServingWorkload, TrainingWorkload
from planner.throughput import TrainingThroughput, throughput

Workload = TrainingWorkload | ServingWorkload
Estimated = Callable[[Workload, Parallelism], Estimate]
"""Device memory of the worst rank on the GPU in question."""
_FREE_SLOWDOWN = 1.02
_MOST_TOGETHER = 3
_SLOW_LINK_SHARE = 0.3


class Price(IntEnum):
    """What a change costs beside time; smaller is cheaper."""

    NOTHING = 0
    QUALITY = 1
    JOB = 2
    """The job is another one: fewer tokens at once, a shorter context."""
    HARDWARE = 3


QLORA = Citation(
    title="Dettmers et al. 2023: NF4 fine-tuning matches 16 bits", url="https://arxiv.org/abs/2305.14314"
)
LORA = Citation(
    title="Biderman et al. 2024: LoRA learns less and forgets less", url="https://arxiv.org/abs/2405.09673"
)
ADAM_8BIT = Citation(title="Dettmers et al. 2021: 8-bit optimizers", url="https://arxiv.org/abs/2110.02861")
LLM_INT8 = Citation(title="Dettmers et al. 2022: LLM.int8()", url="https://arxiv.org/abs/2208.07339")
AWQ = Citation(title="Lin et al. 2023: AWQ", url="https://arxiv.org/abs/2306.00978")
LOW_BITS = Citation(
    title="Dettmers & Zettlemoyer 2022: below 4 bits accuracy falls", url="https://arxiv.org/abs/2212.09720"
)
BITNET = Citation(title="Ma et al. 2024: BitNet b1.58 is trained so", url="https://arxiv.org/abs/2402.17764")
FP8 = Citation(title="Micikevicius et al. 2022: FP8 formats", url="https://arxiv.org/abs/2209.05433")
FP8_CACHE = Citation(
    title="vLLM: FP8 KV cache", url="https://docs.vllm.ai/en/stable/features/quantization/quantized_kvcache/"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change: what is said, what it costs, and the workload or spread it leads to."""

    label: str
    price: Price
    cost: str
    """The price in words; empty where it is time alone."""
    source: Citation | None
    workload: Workload
    parallelism: Parallelism


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One or several steps together, evaluated."""

    labels: tuple[str, ...]
    workload: Workload
    parallelism: Parallelism
    fits: bool
    saved_bytes: int
    """Less expected memory per GPU."""
    slowdown: float | None
    """Time of a token against before, over all GPUs; None where speed is not modelled."""
    price: Price
    costs: tuple[str, ...]
    sources: tuple[Citation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """A warning and where it is from."""

    text: str
    source: Citation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """For one plan on one kind of GPU."""

    fits: bool
    """Even the high end of the memory fits."""
    changes: tuple[Change, ...]
    """Where it does not fit: changes that make it fit, cheapest first. Where it does: single savings."""
    warnings: tuple[Warned, ...]


def advise(
    architecture: ModelArchitecture,
    workload: Workload,
    parallelism: Parallelism,
    gpu: Gpu,
    *,
    estimated: Estimated | None = None,
) -> Advice:
    """Advice for a plan; raises UnsupportedError where its memory is not modelled.

    ``estimated`` sizes the plan and its changes; None: the bare formulas.
    """

    def by_formula(workload: Workload, spread: Parallelism) -> Estimate:
        return engine.estimate(architecture, workload, spread, gpu)

    estimated = estimated or by_formula
    before = estimated(workload, parallelism)
    rate = _tokens_per_s(architecture, workload, parallelism, gpu)
    fits = before.high_bytes <= gpu.memory_bytes
    steps = list(_steps(workload, parallelism))
    found: list[Change] = []
    for size in range(1, 2 if fits else _MOST_TOGETHER + 1):
        for chosen in combinations(steps, size):
            change = _evaluated(
                architecture, workload, parallelism, gpu, chosen, before.expected_bytes, rate, estimated
            )
            if change is not None and (fits or change.fits):
                found.append(change)
        if found and not fits:
            break  # more steps at once cost more than fewer
    found.sort(key=_cost)
    warnings = tuple(_warnings(architecture, workload, parallelism, gpu))
    return Advice(fits=fits, changes=tuple(found), warnings=warnings)


def _cost(change: Change) -> tuple[int, float, int]:
    slowdown = change.slowdown or 1.0
    return change.price, slowdown if slowdown > _FREE_SLOWDOWN else 1.0, -change.saved_bytes


def _tokens_per_s(
    architecture: ModelArchitecture, workload: Workload, spread: Parallelism, gpu: Gpu
) -> float | None:
    try:
        speed = throughput(architecture, workload, spread, gpu)
    except UnsupportedError:
        return None
    if isinstance(speed, TrainingThroughput):
        return speed.tokens_per_s.expected
    return speed.output_tokens_per_s.expected


def _evaluated(
    architecture: ModelArchitecture, workload: Workload, spread: Parallelism, gpu: Gpu, steps: tuple[Step, ...],
    before_bytes: int, rate: float | None, estimated: Estimated,
) -> Change | None:  # fmt: skip
    together = _together(workload, spread, steps)
    if together is None:
        return None
    changed, changed_spread = together
    try:
        needed = estimated(changed, changed_spread)
    except PlannerError:
        return None
    if needed.expected_bytes >= before_bytes:
        return None
    after = _tokens_per_s(architecture, changed, changed_spread, gpu)
    per_gpu = changed_spread.num_gpus / spread.num_gpus
    return Change(
        labels=tuple(step.label for step in steps),
        workload=changed,
        parallelism=changed_spread,
        fits=needed.high_bytes <= gpu.memory_bytes,
        saved_bytes=before_bytes - needed.expected_bytes,
        slowdown=rate * per_gpu / after if rate and after else None,
        price=max(step.price for step in steps),
        costs=tuple(step.cost for step in steps if step.cost),
        sources=tuple(step.source for step in steps if step.source is not None),
    )


def _together(
    workload: Workload, spread: Parallelism, steps: tuple[Step, ...]
) -> tuple[Workload, Parallelism] | None:
    """All steps applied; None where two of them change the same field."""
    fields: dict[str, object] = {}
    degrees: dict[str, object] = {}
    for step in steps:
        for name in type(workload).__dataclass_fields__:
            value = getattr(step.workload, name)
            if value != getattr(workload, name):
                if name in fields:
                    return None
                fields[name] = value
        for name in Parallelism.__dataclass_fields__:
            value = getattr(step.parallelism, name)
            if value != getattr(spread, name):
                if name in degrees:
                    return None
                degrees[name] = value
    return replace(workload, **fields), replace(spread, **degrees)  # type: ignore[arg-type]


def _steps(workload: Workload, spread: Parallelism) -> Iterator[Step]:
    if isinstance(workload, TrainingWorkload):
        yield from _training_steps(workload, spread)
        yield from _sharding_steps(workload, spread)
    else:
        yield from _serving_steps(workload, spread)


def _training_steps(workload: TrainingWorkload, spread: Parallelism) -> Iterator[Step]:
    def step(label: str, price: Price, cost: str = "", source: Citation | None = None, **fields: object) -> Step:
        changed = replace(workload, **fields)  # type: ignore[arg-type]
        return Step(label=label, price=price, cost=cost, source=source, workload=changed, parallelism=spread)

    if workload.loss == "standard":
        yield step("compute the loss in a fused kernel (Liger)", Price.NOTHING, loss="fused")
    if workload.attention == "eager":
        yield step("use the sdpa attention kernel", Price.NOTHING, attention="sdpa")
    if workload.gradient_checkpointing == "none":
        yield step("checkpoint activations", Price.NOTHING, gradient_checkpointing="full")
    if workload.batch_size > 1:
        accumulated = workload.gradient_accumulation_steps * 2
        yield step(
            "halve the micro-batch and accumulate twice as often", Price.NOTHING,
            batch_size=workload.batch_size // 2, gradient_accumulation_steps=accumulated,
        )  # fmt: skip
    if workload.optimizer in ("adamw", "adamw-fused", "adamw-forloop"):
        yield step("use 8-bit AdamW", Price.NOTHING, "matches 32-bit states", ADAM_8BIT, optimizer="adamw-8bit")
    if workload.weight_dtype == "fp32" and workload.method != "full":
        yield step("hold the base weights in bf16", Price.NOTHING, weight_dtype="bf16", compute_dtype="bf16")
    if workload.weight_dtype == "nf4":
        yield step("quantise the scales too", Price.NOTHING, "no loss reported", QLORA, weight_dtype="nf4-dq")
    if workload.method == "full":
        yield step(
            "train LoRA adapters instead of all weights", Price.QUALITY, "learns less on hard domains", LORA,
            method="lora",
        )  # fmt: skip
    elif workload.method == "lora" and not weight_format(workload.weight_dtype).is_quantised:
        yield step(
            "quantise the base weights to NF4 (QLoRA)", Price.QUALITY, "matched 16-bit adapters", QLORA,
            method="qlora", weight_dtype="nf4-dq",
        )  # fmt: skip
    if workload.seq_len >= 1024:
        yield step("halve the sequence length", Price.JOB, "longer samples are cut", seq_len=workload.seq_len // 2)


def _sharding_steps(workload: TrainingWorkload, spread: Parallelism) -> Iterator[Step]:
    def step(label: str, price: Price, cost: str, source: Citation | None = None, **degrees: object) -> Step:
        changed = replace(spread, **degrees)  # type: ignore[arg-type]
        return Step(label=label, price=price, cost=cost, source=source, workload=workload, parallelism=changed)

    if spread.dp_replicate > 1 and spread.dp_shard == 1:
        yield step(
            "shard states over the replicas (FSDP)",
            Price.NOTHING,
            "",
            dp_replicate=1,
            dp_shard=spread.dp_replicate,
        )
    if spread.dp_shard > 1 and spread.zero_stage < 3:
        yield step("shard parameters as well (ZeRO-3)", Price.NOTHING, "", zero_stage=3)
    if spread.dp_shard > 1 and spread.zero_stage == 3 and spread.cpu_offload == "none":
        yield step("keep parameters and optimizer in host memory", Price.NOTHING, "", cpu_offload="parameters")
    yield step(
        "shard over twice the GPUs", Price.HARDWARE, "twice the rent per hour", dp_shard=2 * spread.dp_shard
    )
    yield step(
        "shard over four times the GPUs", Price.HARDWARE, "four times the rent", dp_shard=4 * spread.dp_shard
    )


def _serving_steps(workload: ServingWorkload, spread: Parallelism) -> Iterator[Step]:
    def step(label: str, price: Price, cost: str, source: Citation | None = None, **fields: object) -> Step:
        changed = replace(workload, **fields)  # type: ignore[arg-type]
        return Step(label=label, price=price, cost=cost, source=source, workload=changed, parallelism=spread)

    bits = weight_format(workload.weight_dtype).bits
    pools = workload.engine in ("vllm", "sglang")
    if bits >= 16:
        eight = "fp8" if pools else "int8"
        source = FP8 if pools else LLM_INT8
        yield step(f"hold the weights in {eight}", Price.QUALITY, "no loss reported", source, weight_dtype=eight)
    if bits > 4:
        four = "awq-int4" if pools else "nf4"
        yield step(
            f"hold the weights in {four}", Price.QUALITY, "perplexity rises slightly, most on small models", AWQ,
            weight_dtype=four,
        )  # fmt: skip
    if workload.kv_cache_dtype in ("bf16", "fp16", "fp32") and pools:
        yield step("hold the KV cache in fp8", Price.QUALITY, "small, larger on long contexts", FP8_CACHE,
                   kv_cache_dtype="fp8")  # fmt: skip
    if workload.concurrency > 1:
        yield step("answer half as many requests at once", Price.JOB, "the others queue",
                   concurrency=workload.concurrency // 2)  # fmt: skip
    if workload.prompt_tokens >= 1024:
        yield step("halve the prompt", Price.JOB, "longer prompts are refused",
                   prompt_tokens=workload.prompt_tokens // 2)  # fmt: skip
    for times in (2, 4, 8):
        yield Step(
            label=f"cut the model over {times} times the GPUs", price=Price.HARDWARE,
            cost=f"{times} times the rent", source=None, workload=workload,
            parallelism=replace(spread, tp=spread.tp * times),
        )  # fmt: skip


def _warnings(
    architecture: ModelArchitecture, workload: Workload, spread: Parallelism, gpu: Gpu
) -> Iterator[Warned]:
    stored = weight_format(workload.weight_dtype)
    if stored.scheme == "bitnet":
        yield Warned(text="1.58-bit weights are for models trained so; others break", source=BITNET)
    elif stored.is_quantised and stored.bits < 4:
        yield Warned(text=f"{stored.name}: accuracy falls below 4 bits", source=LOW_BITS)
    if workload.compute_dtype == "bf16" and gpu.supports_bf16 is False:
        yield Warned(text=f"{gpu.name} has no bf16 units: products run emulated, compute in fp16 there")
    narrow = stored.name == "fp8" or getattr(workload, "matmul_dtype", None) == "fp8"
    if narrow and not gpu.dense_flops_per_s.get("fp8"):
        yield Warned(text=f"{gpu.name} has no fp8 units: weights take less room, but products run in 16 bits")
    if spread.num_gpus == 1:
        return
    try:
        speed = throughput(architecture, workload, spread, gpu)
    except UnsupportedError:
        return
    training = isinstance(speed, TrainingThroughput)
    parts = speed.parts if isinstance(speed, TrainingThroughput) else speed.decode_parts
    total_s = speed.step_time_s.expected if isinstance(speed, TrainingThroughput) else speed.tpot_s.expected
    waiting_s = sum(part.seconds for part in parts if part.kind == "communication")
    if waiting_s > _SLOW_LINK_SHARE * total_s:
        unit = "step" if training else "token"
        yield Warned(
            text=f"the link between {gpu.name}s is busy {min(waiting_s / total_s, 1):.0%} of a {unit}:"
            " NVLink machines or fewer, larger GPUs are faster"
        )
