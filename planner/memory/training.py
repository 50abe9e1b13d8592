"""Which terms are live in which phase of a training run, on the worst rank.

A peak belongs to a moment: the phases below are the moments that can be the highest, and the answer is the
largest of them, never a sum of maxima.
"""

from __future__ import annotations

from collections.abc import Mapping

from hardware_db.gpu import Gpu
from planner.citation import Citation
from planner.dtypes import weight_format
from planner.errors import UnsupportedError
from planner.memory.blocks.operators import AUTOGRAD
from planner.memory.breakdown import MemoryBreakdown, MemoryTerm, PhaseBreakdown
from planner.memory.frameworks import framework_traits
from planner.memory.ops import Int, ceil_div, maximum
from planner.memory.runtime import context_terms, slack_term, workspace_term
from planner.memory.sharding import Shares, shares
from planner.memory.step import StepMemory, adapter_dtype, build_setting, run_step
from planner.memory.tape import ELEMENT_BYTES
from planner.memory.terms.adapters import Trained, adapter_terms, trained
from planner.memory.terms.optimizer import (
    TrainedTensors,
    optimizer_rule,
    optimizer_state_term,
    optimizer_step_term,
)
from planner.memory.terms.weights import WeightSpread, weight_terms
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism, TrainingWorkload

_CHECKPOINT = Citation(
    title="PyTorch: activation checkpointing keeps a layer's input and recomputes the rest",
    url="https://docs.pytorch.org/docs/stable/checkpoint.html",
)
_GRADIENTS = Citation(
    title="PyTorch: gradients have the dtype of their parameter",
    url="https://docs.pytorch.org/docs/stable/notes/autograd.html",
)


def training_breakdown(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    parallelism: Parallelism,
    gpu: Gpu | None,
) -> MemoryBreakdown:
    """Phases load, forward, loss backward, backward and optimizer step of the worst rank.

    Numeric fields of the workload and the parallelism may be int64 arrays of one shape; sizes then are too.
    Raises UnsupportedError for what is not modelled, among them full fine-tuning of quantised weights.
    """
    fmt = weight_format(workload.weight_dtype)
    if workload.method == "full" and not fmt.full_fine_tuning:
        raise UnsupportedError(
            f"weights in {fmt.name} are for inference; they cannot be fine-tuned themselves",
            hint="use method qlora, which trains adapters on the quantised weights, or 16-bit weights",
        )
    traits = framework_traits(workload)
    share = shares(parallelism)
    setting = build_setting(architecture, workload, traits, fmt, share, gpu)
    step = run_step(architecture, workload, traits, setting, share)
    parts = trained(architecture, workload.method, workload.adapter)
    base_dtype = setting.stream_dtype
    own_dtype = base_dtype if workload.method == "full" else adapter_dtype(workload, traits, base_dtype)

    static: list[MemoryTerm] = [
        *(
            _divided(term, share.parameters)
            for term in weight_terms(architecture, fmt.name, base_dtype, WeightSpread(tp=share.tp, pp=share.pp))
        ),
        *(_divided(term, share.parameters) for term in adapter_terms(parts, own_dtype, base_dtype)),
    ]
    load = tuple(static)
    tensors = _tensors(architecture, workload, parts, own_dtype, share)
    rule = optimizer_rule("none" if workload.method == "mezo" else workload.optimizer)
    static.append(optimizer_state_term(rule, tensors, on_gpu=share.optimizer_on_gpu))
    static.append(workspace_term(gpu))
    if workload.ema:
        static.append(
            _term("ema", "exponential moving average of the weights", parts.trainable * ELEMENT_BYTES[own_dtype])
        )
    gradients = _gradient_term(parts, own_dtype, share, workload)
    accumulating = _is_more_than_one(workload.gradient_accumulation_steps)
    if accumulating:
        static.append(gradients)
    kept = _activation_terms(step, share)
    outputs = step.tail.logits_bytes if traits.keeps_outputs or workload.keep_outputs else 0
    phases = [
        ("load", list(load)),
        ("forward", [*static, *kept, *_working("forward temporaries", _forward_extra(step))]),
        (
            "loss backward",
            [
                *static,
                *kept,
                *_outputs(outputs),
                *_working("logits and loss", step.tail.memory.backward_peak_bytes),
            ],
        ),
        (
            "backward",
            [*static, *kept, *_outputs(outputs), *_working("backward of one layer", step.backward_extra_bytes)],
        ),
        ("optimizer step", [*static, *_outputs(outputs), optimizer_step_term(rule, tensors)]),
    ]
    if not accumulating:
        phases[-1][1].insert(0, gradients)
        phases.append(
            (
                "end of backward",
                [*static, *_outputs(outputs), gradients, *_last_layer(architecture, step, workload)],
            )
        )
    context = context_terms(gpu, num_gpus=parallelism.num_gpus)
    return MemoryBreakdown(phases=tuple(_phase(name, terms, static, context) for name, terms in phases))


def _phase(
    name: str, terms: list[MemoryTerm], static: list[MemoryTerm], context: tuple[MemoryTerm, ...]
) -> PhaseBreakdown:
    resident = {id(term) for term in static}
    moving: Int = sum((term.size_bytes for term in terms if id(term) not in resident), start=0)
    fixed: Int = sum((term.size_bytes for term in terms if id(term) in resident), start=0)
    return PhaseBreakdown(phase=name, terms=(*terms, slack_term(fixed, moving), *context))


def _forward_extra(step: StepMemory) -> Int:
    return maximum(step.forward_extra_bytes, step.tail.memory.forward_peak_bytes) + step.held_bytes


def _last_layer(architecture: ModelArchitecture, step: StepMemory, workload: TrainingWorkload) -> list[MemoryTerm]:
    """When all gradients exist: the first layer's backward, or the embedding's gradient table."""
    first = step.runs[0]
    embedding: Int = 0
    if workload.method == "full":
        embedding = architecture.vocab_size * architecture.hidden_size * 2
    layer = first.memory.backward_peak_bytes - first.memory.weight_gradient_bytes
    return _working("backward of the first layer", maximum(layer, embedding))


def _activation_terms(step: StepMemory, share: Shares) -> list[MemoryTerm]:
    """What all layers keep between forward and backward, by part of the block."""
    sizes: dict[str, Int] = {}
    for run in step.runs:
        parts = {"layer inputs": run.checkpoint_bytes} if run.is_checkpointed else run.memory.saved_by_kind()
        for kind, size in parts.items():
            sizes[kind] = sizes.get(kind, 0) + run.count * size
    return [
        MemoryTerm(
            kind="activations",
            label=f"activations: {kind}",
            size_bytes=size * share.in_flight,
            formula="Σ layers × saved tensors of one layer",
            inputs={"micro-batches in flight": share.in_flight},
            source=_CHECKPOINT if kind == "layer inputs" else AUTOGRAD,
        )
        for kind, size in sizes.items()
    ]


def _working(label: str, size_bytes: Int) -> list[MemoryTerm]:
    return [_term("activations", label, size_bytes)]


def _outputs(size_bytes: Int) -> list[MemoryTerm]:
    return [_term("logits", "outputs kept by the training loop", size_bytes)]


def _term(
    kind: str,
    label: str,
    size_bytes: Int,
    formula: str = "highest point of the tape",
    inputs: Mapping[str, object] | None = None,
) -> MemoryTerm:
    return MemoryTerm(
        kind=kind, label=label, size_bytes=size_bytes, formula=formula, inputs=inputs or {}, source=AUTOGRAD
    )


def _gradient_term(parts: Trained, dtype: str, share: Shares, workload: TrainingWorkload) -> MemoryTerm:
    element = ELEMENT_BYTES[workload.gradient_accumulation_dtype or dtype]
    trainable = 0 if workload.method == "mezo" else parts.trainable
    return MemoryTerm(
        kind="gradients",
        label="gradients",
        size_bytes=ceil_div(trainable * element, share.gradients * share.tp * share.pp),
        formula="P × b / ways",
        inputs={"P": trainable, "b": element},
        source=_GRADIENTS,
    )


def _tensors(
    architecture: ModelArchitecture, workload: TrainingWorkload, parts: Trained, dtype: str, share: Shares
) -> TrainedTensors:
    ways = share.optimizer * share.tp * share.pp
    matrix = architecture.vocab_size * architecture.hidden_size
    largest = matrix if workload.method == "full" or workload.adapter.modules_to_save else 0
    factored = sum(
        group.count * linear.count * (linear.in_features + linear.out_features)
        for group in architecture.groups
        for linear in group.linears
    )
    return TrainedTensors(
        num_params=ceil_div(parts.trainable, ways),
        dtype=dtype,
        largest=ceil_div(largest, share.optimizer * share.tp),
        factored_params=ceil_div(factored + architecture.vocab_size + architecture.hidden_size, ways),
    )


def _divided(term: MemoryTerm, ways: Int) -> MemoryTerm:
    if isinstance(ways, int) and ways == 1:
        return term
    from dataclasses import replace

    return replace(term, size_bytes=ceil_div(term.size_bytes, ways), formula=f"({term.formula}) / ways")


def _is_more_than_one(value: Int) -> bool:
    return not isinstance(value, int) or value > 1
