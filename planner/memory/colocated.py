"""vLLM inside a training process, as TRL's ``vllm_mode="colocate"`` starts it to generate completions.

The engine is started with a share of the card. What its profile run leaves of that share becomes its pool; weights
and pool stay beside the training step, or are given back until the next completions in sleep mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from hardware_db.gpu import Gpu
from planner.citation import Citation
from planner.dtypes import weight_format
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int, maximum
from planner.memory.terms import vllm_start
from planner.memory.terms.kv_cache import CachePolicy, cache_size
from planner.memory.terms.weights import weight_terms
from planner.model.architecture import ModelArchitecture
from planner.request import ServingWorkload, TrainingWorkload
from planner.units import MIB

_SLEEP = Citation(title="vLLM: sleep mode", url="https://docs.vllm.ai/en/latest/features/sleep_mode.html")
_COLOCATE = Citation(
    title="TRL: vllm_mode colocate, vllm_gpu_memory_utilization and sleep level 2",
    url="https://github.com/huggingface/trl/blob/v1.16.0/trl/generation/vllm_generation.py",
)
_DEFAULT_SHARE = Fraction(3, 10)
_BATCHED_TOKENS = 4096
"""``max_num_batched_tokens`` TRL starts the engine with."""
_ASLEEP_BYTES = 256 * MIB
"""vLLM's log of falling asleep: 0.75 GiB still in use on an H100, half a GiB of it the CUDA context."""


def colocated_terms(
    architecture: ModelArchitecture, workload: TrainingWorkload, gpu: Gpu | None
) -> tuple[MemoryTerm, ...]:
    """Weights and pool of the engine beside the trained model, and the scratch of its passes.

    Without a GPU the pool is the cache of the completions alone.
    """
    packed = weight_format(workload.weight_dtype).scheme == "bitsandbytes"
    engine = ServingWorkload(
        engine="vllm",
        weight_dtype=workload.weight_dtype if packed else workload.compute_dtype,
        compute_dtype=workload.compute_dtype,
        max_num_batched_tokens=_BATCHED_TOKENS,
        max_num_seqs=workload.batch_size * workload.gradient_accumulation_steps,
    )
    terms = weight_terms(architecture, engine.weight_dtype, engine.compute_dtype)
    weights: Int = sum((term.size_bytes for term in terms), start=0)
    passes = vllm_start.profile_term(architecture, engine, gpu, 1)
    policy = CachePolicy(dtype=engine.compute_dtype, block_tokens=16)
    sequences = workload.batch_size * workload.gradient_accumulation_steps
    need = cache_size(architecture, workload.seq_len, sequences, policy).total_bytes
    pool: Int = need
    named = workload.vllm_gpu_memory_utilization
    share = _DEFAULT_SHARE if named is None else Fraction(str(named))
    if gpu is not None:
        left = int(gpu.memory_bytes * share) - weights - passes.size_bytes
        pool = maximum(left, _one_sequence(architecture, workload, policy))
    return (
        _term("weights", "generation engine weights", weights, "Σ m × n × bytes", {"format": engine.weight_dtype}),
        _term(
            "kv_cache", "generation engine pool", pool, "total × share − weights − scratch",
            {"share": float(share), "completions need": need},
        ),
        _term("activations", "generation engine scratch", passes.size_bytes, passes.formula, dict(passes.inputs)),
    )  # fmt: skip


def _one_sequence(architecture: ModelArchitecture, workload: TrainingWorkload, policy: CachePolicy) -> Int:
    """vLLM does not start where not even one sequence fits its pool."""
    return cache_size(architecture, workload.seq_len, 1, policy).total_bytes


def beside_training(
    phases: Mapping[str, list[MemoryTerm]], engine: tuple[MemoryTerm, ...], *, sleeps: bool
) -> dict[str, list[MemoryTerm]]:
    """``phases`` of the process with its engine: at work in the rollout, idle or asleep in all others."""
    idle = (_asleep_term(),) if sleeps else engine[:2]
    return {name: [*terms, *(engine if name == "rollout" else idle)] for name, terms in phases.items()}


def _asleep_term() -> MemoryTerm:
    return MemoryTerm(
        kind="buffers",
        label="sleeping generation engine",
        size_bytes=_ASLEEP_BYTES,
        low_bytes=0,
        high_bytes=4 * _ASLEEP_BYTES,
        formula="graphs and buffers outside its pools",
        source=_SLEEP,
    )


def _term(kind: str, label: str, size_bytes: Int, formula: str, inputs: dict[str, object]) -> MemoryTerm:
    return MemoryTerm(
        kind=kind, label=label, size_bytes=size_bytes, formula=formula, inputs=inputs, source=_COLOCATE
    )
