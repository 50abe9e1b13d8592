"""Memory of a training run on its worst rank, phase by phase."""

from __future__ import annotations

from dataclasses import replace

from hardware_db.gpu import Gpu
from planner.dtypes import ELEMENT_BYTES, weight_format
from planner.errors import UnsupportedError
from planner.memory.blocks.litgpt import litgpt_view
from planner.memory.breakdown import MemoryBreakdown, MemoryTerm, PhaseBreakdown
from planner.memory.fragmentation import Cache, slack_term
from planner.memory.frameworks import FrameworkTraits, framework_traits
from planner.memory.moments import Moments
from planner.memory.ops import Int
from planner.memory.resident import resident
from planner.memory.runtime import context_terms
from planner.memory.settings import build_setting
from planner.memory.sharding import GATHERED, shares, units
from planner.memory.step import run_step
from planner.memory.terms.adapters import Trained, trained
from planner.memory.terms.objectives import Objective, objective_rule, with_objective
from planner.memory.terms.targets import with_default_targets, with_whole_ends
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism, TrainingWorkload


def training_breakdown(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    parallelism: Parallelism,
    gpu: Gpu | None,
) -> MemoryBreakdown:
    """Phases load, forward, loss backward, backward, end of backward and optimizer step of the worst rank.

    Numeric fields of the workload and the parallelism may be int64 arrays of one shape; sizes then are too.
    Raises UnsupportedError for what is not modelled, among them full fine-tuning of quantised weights.
    """
    traits = framework_traits(workload)
    if workload.autocast and _shards_in_policy(traits, parallelism):
        workload, traits = _in_policy(workload, traits)
    fmt = weight_format(workload.weight_dtype)
    if workload.method == "full" and not fmt.full_fine_tuning:
        raise UnsupportedError(
            f"weights in {fmt.name} are for inference; they cannot be fine-tuned themselves",
            hint="use method qlora, which trains adapters on the quantised weights, or 16-bit weights",
        )
    rule = objective_rule(workload)
    workload = with_objective(workload, rule)
    if traits.program == "litgpt":
        architecture = litgpt_view(architecture)
    if traits.trains_whole_ends:
        workload = with_whole_ends(workload)
    workload = with_default_targets(architecture, workload)
    share = shares(parallelism)
    setting = build_setting(architecture, workload, traits, fmt, share, gpu)
    job = Moments(
        architecture=architecture,
        workload=workload,
        traits=traits,
        share=share,
        held=resident(
            architecture, workload, traits, setting, fmt, share,
            _with_value_model(trained(architecture, workload.method, workload.adapter), rule), gpu,
        ),
        step=run_step(architecture, workload, traits, setting, share),
        unit=units(architecture, fmt, setting.stream_dtype, share.tp, share.ep, wraps_ends=traits.wraps_ends),
        gradient_element=ELEMENT_BYTES[setting.stream_dtype],
        setting=setting,
        rule=rule,
        engine=_engine(architecture, workload, gpu) if workload.use_vllm and rule.rollouts else (),
    )  # fmt: skip
    context, cache = context_terms(gpu, num_gpus=parallelism.num_gpus), job.cache()
    return MemoryBreakdown(
        phases=tuple(_phase(name, terms, job, context, cache) for name, terms in job.phases().items())
    )


def _engine(
    architecture: ModelArchitecture, workload: TrainingWorkload, gpu: Gpu | None
) -> tuple[MemoryTerm, ...]:
    """The engine that generates rollouts beside the trained model."""
    from planner.memory.colocated import colocated_terms

    return colocated_terms(architecture, workload, gpu)


def _shards_in_policy(traits: FrameworkTraits, parallelism: Parallelism) -> bool:
    """Whether FSDP2's mixed-precision policy takes autocast's place; an array of degrees holds no 1."""
    unsharded = isinstance(parallelism.dp_shard, int) and parallelism.dp_shard == 1
    return traits.wraps_ends and not unsharded and parallelism.zero_stage >= 2


def _in_policy(workload: TrainingWorkload, traits: FrameworkTraits) -> tuple[TrainingWorkload, FrameworkTraits]:
    """accelerate keeps trained shards in fp32, gathers in the compute dtype and leaves autocast out.

    Source: https://github.com/huggingface/accelerate/blob/v1.15.0/src/accelerate/utils/fsdp_utils.py
    """
    if workload.method == "full":
        workload = replace(workload, weight_dtype="fp32")
    return replace(workload, autocast=False), replace(traits, gathers_in_compute_dtype=True)


def _with_value_model(parts: Trained, rule: Objective) -> Trained:
    """PPO trains a value model as large as the policy beside it."""
    if rule.trained_copies == 0:
        return parts
    return replace(parts, added=parts.added + rule.trained_copies * (parts.added + parts.base))


def _phase(
    name: str, terms: list[MemoryTerm], job: Moments, context: tuple[MemoryTerm, ...], cache: Cache
) -> PhaseBreakdown:
    fixed_ids = {id(term) for term in (*job.held.loaded, *job.held.trained, *job.engine)}
    fixed: Int = sum((term.size_bytes for term in terms if id(term) in fixed_ids), start=0)
    moving: Int = sum(
        (term.size_bytes for term in terms if id(term) not in fixed_ids and term.kind != "gathered"), start=0
    )
    gathered: Int = sum((term.size_bytes for term in terms if term.label == GATHERED), start=0)
    live = tuple(term for term in terms if not (isinstance(term.size_bytes, int) and term.size_bytes == 0))
    slack = slack_term(cache, name, resident_bytes=fixed, moving_bytes=moving, gathered_bytes=gathered)
    return PhaseBreakdown(phase=name, terms=(*live, slack, *context))
