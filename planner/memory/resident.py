"""What a rank holds for the whole run: weights, adapters, optimizer states, and the gradients when they come."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hardware_db.gpu import Gpu
from planner.citation import Citation
from planner.dtypes import ELEMENT_BYTES, WeightFormat
from planner.memory.blocks.operators import AUTOGRAD
from planner.memory.blocks.setting import Setting
from planner.memory.breakdown import MemoryTerm
from planner.memory.frameworks import FrameworkTraits
from planner.memory.ops import Int, ceil_div, where
from planner.memory.runtime import workspace_term
from planner.memory.settings import adapter_dtype
from planner.memory.sharding import Shares, bucket_term, experts_beyond
from planner.memory.terms.adapters import Trained, adapter_terms
from planner.memory.terms.objectives import frozen_copies, objective_rule
from planner.memory.terms.optimizer import (
    OptimizerRule,
    TrainedTensors,
    optimizer_rule,
    optimizer_state_term,
)
from planner.memory.terms.stored import WeightSpread
from planner.memory.terms.weights import QUANTISATION_STATE, weight_terms
from planner.memory.versions import before_dynamic_uploads, separates_experts
from planner.model.architecture import ModelArchitecture
from planner.request import TrainingWorkload

_GRADIENTS = Citation(
    title="PyTorch: gradients have the dtype of their parameter",
    url="https://docs.pytorch.org/docs/stable/notes/autograd.html",
)
_REFERENCE = Citation(
    title="TRL: a frozen copy of the model answers as reference", url="https://huggingface.co/docs/trl/dpo_trainer"
)
_DYNAMIC = Citation(
    title="Unsloth dynamic 4-bit quantisation: less than 10% more memory than bitsandbytes 4-bit",
    url="https://unsloth.ai/blog/dynamic-4bit",
)
_NO_SYNC = Citation(
    title="FSDP: accumulation without synchronisation keeps whole gradients on every rank",
    url="https://docs.pytorch.org/docs/stable/fsdp.html#torch.distributed.fsdp.FullyShardedDataParallel.no_sync",
)
_TRAINER_NO_SYNC = Citation(
    title="transformers: Trainer accumulates under accelerator.no_sync",
    url="https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/trainer.py",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Terms alive in every phase after loading, and what the optimizer needs to know."""

    loaded: tuple[MemoryTerm, ...]
    """Weights and adapters."""
    trained: tuple[MemoryTerm, ...]
    """Optimizer states, workspaces, copies: from the first step on."""
    gradients: MemoryTerm
    """All gradients of the rank."""
    reduced_gradients: MemoryTerm
    """All gradients once they are reduced to this rank's share, as the optimizer meets them."""
    kept_gradients: MemoryTerm
    """Those of earlier micro-batches, alive during the next one's forward pass."""
    tensors: TrainedTensors
    rule: OptimizerRule

    @property
    def terms(self) -> tuple[MemoryTerm, ...]:
        return (*self.loaded, *self.trained, self.kept_gradients)


def resident(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    traits: FrameworkTraits,
    setting: Setting,
    fmt: WeightFormat,
    share: Shares,
    parts: Trained,
    gpu: Gpu | None,
) -> Resident:
    """Everything of one rank that does not depend on tokens."""
    plain = setting.stream_dtype if fmt.is_quantised else fmt.name
    own = fmt.name if workload.method == "full" else adapter_dtype(workload, traits, plain)
    spread = WeightSpread(
        tp=share.tp,
        pp=share.pp,
        ep=experts_beyond(share, share.parameters),
        quantises_head=traits.quantises_head,
        packs_experts=separates_experts(workload),
    )
    loaded = [
        *(
            term if term.label == QUANTISATION_STATE else _divided(term, share.parameters)
            for term in weight_terms(architecture, fmt.name, plain, spread)
        ),
        *(_divided(term, share.parameters * share.tp * share.pp) for term in adapter_terms(parts, own, plain)),
    ]
    if traits.program == "unsloth" and fmt.scheme == "bitsandbytes" and not before_dynamic_uploads(workload):
        loaded.append(_dynamic_layers(loaded))
    copies = frozen_copies(workload, objective_rule(workload))
    if copies:
        loaded.append(_frozen_models(architecture, plain, share, copies))
    if not share.parameters_on_gpu:
        loaded = [replace(term, size_bytes=0 * term.size_bytes) for term in loaded]
    tensors = _tensors(architecture, workload, traits, parts, own, share)
    rule = optimizer_rule("none" if workload.method == "mezo" else workload.optimizer)
    reduced = _gradients(architecture, workload, own, share, parts)
    gradients = _unsharded(architecture, workload, traits, own, share, parts, reduced)
    steps = workload.gradient_accumulation_steps
    by_default = traits.accumulates_unsharded & (share.gradients == 1)
    earlier = _accumulated(workload, traits, setting, own, share, parts, gradients)
    kept = replace(
        earlier,
        label="gradients of earlier micro-batches",
        size_bytes=where((steps > 1) | by_default, earlier.size_bytes, 0 * earlier.size_bytes),
    )
    trained_terms = [
        optimizer_state_term(rule, tensors, on_gpu=share.optimizer_on_gpu),
        workspace_term(gpu),
        bucket_term(gradients.size_bytes, share),
    ]
    if workload.ema:
        trained_terms.append(_ema_term(parts, own, share))
    return Resident(
        loaded=tuple(loaded),
        trained=tuple(term for term in trained_terms if not _is_zero(term.size_bytes)),
        gradients=gradients,
        reduced_gradients=reduced,
        kept_gradients=kept,
        tensors=tensors,
        rule=rule,
    )


def _dynamic_layers(loaded: list[MemoryTerm]) -> MemoryTerm:
    """Layers unsloth's uploads leave in 16 bits; which ones differs by model, so this is a band."""
    packed = [term for term in loaded if term.kind == "weights" and term.label != "unquantised weights"]
    weights = sum((term.size_bytes for term in packed), start=0)
    return MemoryTerm(
        kind="weights",
        label="layers left in 16 bits by dynamic 4-bit uploads",
        size_bytes=weights * 8 // 100,
        low_bytes=0 * weights,
        high_bytes=weights * 25 // 100,
        formula="packed weights × 8 / 100",
        inputs={"weights": weights},
        source=_DYNAMIC,
    )


def _frozen_models(architecture: ModelArchitecture, dtype: str, share: Shares, copies: int) -> MemoryTerm:
    element = ELEMENT_BYTES[dtype]
    ways = share.parameters * share.tp * share.pp
    return MemoryTerm(
        kind="weights",
        label="reference and reward models",
        size_bytes=ceil_div(copies * architecture.params_total * element, ways),
        formula="copies × P × b / ways",
        inputs={"copies": copies, "P": architecture.params_total, "b": element},
        source=_REFERENCE,
    )


def _held(
    architecture: ModelArchitecture, workload: TrainingWorkload, parts: Trained, share: Shares, ways: Int
) -> Int:
    """Trained parameters before they are cut ``ways``, without the experts of other expert-parallel ranks."""
    if workload.method != "full":
        return parts.trainable
    experts = sum(
        group.count * linear.num_params
        for group in architecture.groups
        for linear in group.linears
        if linear.role == "expert"
    )
    return parts.trainable - experts + ceil_div(experts, experts_beyond(share, ways))


def _gradients(
    architecture: ModelArchitecture, workload: TrainingWorkload, dtype: str, share: Shares, parts: Trained
) -> MemoryTerm:
    element = ELEMENT_BYTES[workload.gradient_accumulation_dtype or dtype]
    count = 0 if workload.method == "mezo" else _held(architecture, workload, parts, share, share.gradients)
    ways = share.gradients * share.tp * share.pp
    size = ceil_div(count * element, ways)
    return MemoryTerm(
        kind="gradients",
        label="gradients",
        size_bytes=size if share.parameters_on_gpu else 0 * size,
        formula="P × b / ways",
        inputs={"P": count, "b": element, "ways": ways},
        source=_GRADIENTS,
    )


def _unsharded(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    traits: FrameworkTraits,
    dtype: str,
    share: Shares,
    parts: Trained,
    reduced: MemoryTerm,
) -> MemoryTerm:
    """Where accumulation skips synchronisation, a sharded rank holds the gradients of all parameters."""
    if not traits.accumulates_unsharded:
        return reduced
    element = ELEMENT_BYTES[workload.gradient_accumulation_dtype or dtype]
    whole = (architecture.params_total + parts.added) * element
    return replace(
        reduced,
        size_bytes=where(share.gradients > 1, whole, reduced.size_bytes),
        formula="all parameters × b while accumulating",
        source=_NO_SYNC,
    )


def _accumulated(
    workload: TrainingWorkload,
    traits: FrameworkTraits,
    setting: Setting,
    dtype: str,
    share: Shares,
    parts: Trained,
    gradients: MemoryTerm,
) -> MemoryTerm:
    """Trainer skips synchronisation until the last micro-batch: FSDP holds whole gradients of what is trained."""
    if traits.program != "transformers" or traits.fsdp_version == 0:
        return gradients
    unsharded = setting.stream_dtype if traits.gathers_in_compute_dtype else dtype
    whole = parts.trainable * ELEMENT_BYTES[workload.gradient_accumulation_dtype or unsharded]
    return replace(
        gradients,
        size_bytes=where(share.gradients > 1, ceil_div(whole, share.tp * share.pp), gradients.size_bytes),
        formula="trained parameters × b while accumulating",
        source=_TRAINER_NO_SYNC,
    )


def _ema_term(parts: Trained, dtype: str, share: Shares) -> MemoryTerm:
    return MemoryTerm(
        kind="ema",
        label="exponential moving average of the weights",
        size_bytes=ceil_div(parts.trainable * ELEMENT_BYTES[dtype], share.parameters * share.tp * share.pp),
        formula="P × b / ways",
        inputs={"P": parts.trainable, "b": ELEMENT_BYTES[dtype]},
        source=AUTOGRAD,
    )


def _tensors(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    traits: FrameworkTraits,
    parts: Trained,
    dtype: str,
    share: Shares,
) -> TrainedTensors:
    ways = share.optimizer * share.tp * share.pp
    matrix = architecture.vocab_size * architecture.hidden_size
    whole_modules = workload.method == "full" or bool(workload.adapter.modules_to_save)
    saved = workload.method == "full" or any("emb" in name for name in workload.adapter.modules_to_save)
    factored = sum(
        group.count * linear.count * (linear.in_features + linear.out_features)
        for group in architecture.groups
        for linear in group.linears
    )
    return TrainedTensors(
        num_params=ceil_div(_held(architecture, workload, parts, share, share.optimizer), ways),
        dtype=dtype,
        largest=ceil_div(matrix, share.optimizer * share.tp) if whole_modules else 0,
        factored_params=ceil_div(factored + architecture.vocab_size + architecture.hidden_size, ways),
        fp32_state_params=ceil_div(matrix, ways) if saved and traits.embedding_states_fp32 else 0,
    )


def _divided(term: MemoryTerm, ways: Int) -> MemoryTerm:
    if isinstance(ways, int) and ways == 1:
        return term
    return replace(term, size_bytes=ceil_div(term.size_bytes, ways), formula=f"({term.formula}) / ways")


def _is_zero(size_bytes: Int) -> bool:
    return isinstance(size_bytes, int) and size_bytes == 0
