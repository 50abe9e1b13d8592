"""The moments of a training run that can be its highest, and the terms alive in each.

A peak belongs to a moment: the answer is the largest phase, never a sum of every term's maximum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.dtypes import ELEMENT_BYTES
from planner.memory.blocks.operators import AUTOGRAD
from planner.memory.blocks.setting import Setting
from planner.memory.blocks.sources import part_source
from planner.memory.breakdown import MemoryTerm
from planner.memory.fragmentation import Cache
from planner.memory.frameworks import FrameworkTraits
from planner.memory.ops import Int, ceil_div, maximum, minimum, where
from planner.memory.passes import evaluation_phases, generation_terms, scored_bytes
from planner.memory.resident import Resident
from planner.memory.sharding import Shares, Units, gathered_term, reduction_term
from planner.memory.step import StepMemory
from planner.memory.terms.objectives import Objective
from planner.memory.terms.optimizer import optimizer_step_term
from planner.memory.versions import year
from planner.model.architecture import ModelArchitecture
from planner.request import TrainingWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """The pieces of one request on one rank, and the moments they meet in."""

    architecture: ModelArchitecture
    workload: TrainingWorkload
    traits: FrameworkTraits
    share: Shares
    held: Resident
    step: StepMemory
    unit: Units
    gradient_element: int
    setting: Setting
    rule: Objective
    engine: tuple[MemoryTerm, ...] = ()
    """A generation engine in the same process; empty where the trained model itself generates."""

    def phases(self) -> dict[str, list[MemoryTerm]]:
        """Live terms of each moment."""
        static = list(self.held.terms)
        if self.workload.method == "mezo":
            return {
                "load": list(self.held.loaded),
                "forward": [*static, _working("forward temporaries", self._inference_bytes()), *self._gathered(2)],
            }
        phases = self._step_phases(static) | self._other_phases(static)
        if not self.engine:
            return phases
        from planner.memory.colocated import beside_training

        return beside_training(phases, self.engine, sleeps=self.workload.vllm_enable_sleep_mode)

    def _step_phases(self, static: list[MemoryTerm]) -> dict[str, list[MemoryTerm]]:
        """Moments of one optimizer step."""
        kept, outputs = self._kept(), self._outputs()
        whole, reduced = self.held.gradients, self.held.reduced_gradients
        step = [optimizer_step_term(self.held.rule, self.held.tensors, on_gpu=self.share.optimizer_on_gpu)]
        if self.workload.optimizer_in_backward:
            whole, reduced, step = self._one_gradient(), self._one_gradient(), []
        return {
            "load": list(self.held.loaded),
            "forward": [
                *static, *kept, *self._earlier_outputs(), *self._forward_moment(),
            ],
            "loss backward": [
                *static, *kept, *outputs, *self._gathered(1),
                self._loss(),
            ],
            "backward": [
                *static, *kept, *outputs, *self._gathered_backward(), self._reduction(),
                self._head_gradients(),
                _working("backward of one layer", self.step.backward_extra_bytes),
            ],
            "end of backward": [
                *self.held.loaded, *self.held.trained, *outputs, whole, *self._gathered_backward(),
                self._reduction(), self._own_gradients(),
                _working("backward of the first layer", self._first_layer_bytes()),
            ],
            "optimizer step": [*self.held.loaded, *self.held.trained, *outputs, reduced, *step],
        }  # fmt: skip

    def _one_gradient(self) -> MemoryTerm:
        """The largest gradient, where each is applied and freed as it comes."""
        model, gradients = self.architecture, self.held.gradients
        matrices = (linear.in_features * linear.out_features for group in model.groups for linear in group.linears)
        largest = max(model.vocab_size * model.hidden_size, *matrices)
        return replace(
            gradients,
            label="largest gradient",
            size_bytes=minimum(gradients.size_bytes, largest * self.gradient_element),
            formula="max m × n × b",
        )

    def _other_phases(self, static: list[MemoryTerm]) -> dict[str, list[MemoryTerm]]:
        """Passes without gradients inside the process: rollouts and evaluation. Never summed with the step."""
        phases: dict[str, list[MemoryTerm]] = {}
        if self.engine:
            phases["rollout"] = [*static, *self._gathered(2)]
        elif self.rule.rollouts:
            work = self.workload
            prompt = maximum(work.seq_len - work.completion_len, 1)
            phases["rollout"] = [
                *static, *self._gathered(2),
                *generation_terms(
                    self.architecture, self.setting, self.traits,
                    sequences=work.batch_size * work.gradient_accumulation_steps,
                    prompt_tokens=prompt, new_tokens=work.completion_len,
                ),
            ]  # fmt: skip
        if self.workload.evaluation is not None:
            moments = evaluation_phases(
                self.architecture, self.workload, self.workload.evaluation, self.setting, self.traits
            )
            phases |= {name: [*static, *self._gathered(2), *terms] for name, terms in moments.items()}
        return phases

    def _reference_bytes(self) -> Int:
        """A reference model's forward pass while the trained pass's activations are alive."""
        if not self.rule.reference_pass:
            return 0
        return scored_bytes(self.architecture, self.workload, self.setting, self.traits)

    def cache(self) -> Cache:
        """What the step leaves in the allocator's cache."""
        return Cache(
            step=self.step,
            held=self.held,
            share=self.share,
            unit=self.unit,
            traits=self.traits,
            keeps_outputs=self.traits.keeps_outputs or self.workload.keep_outputs,
            loading_bytes=self._loading_bytes(),
            expert_copy_bytes=self._expert_copy_bytes(),
        )

    def _loading_bytes(self) -> Int:
        table = self.architecture.vocab_size * self.architecture.hidden_size
        return table * ELEMENT_BYTES["bf16"] if self.setting.loads_packed else 0

    def _expert_copy_bytes(self) -> Int:
        branch, setting = self.setting.adapter, self.setting
        if branch is None:
            return 0
        copied = [
            ceil_div(linear.num_params * ELEMENT_BYTES[setting.compute_dtype], setting.ep * setting.tp)
            for group in self.architecture.groups
            for linear in group.linears
            if linear.role == "expert" and not linear.is_module and branch.applies(linear)
        ]
        return maximum(0, *copied)

    def _forward_moment(self) -> list[MemoryTerm]:
        """Temporaries of the forward pass and the whole parameters beside them.

        FSDP2 keeps the buffer a unit was gathered in until the next one is. With the ends as units, two copies
        of a layer meet a layer's temporaries, or two of the head meet the logits. A tied head is whole from the
        embedding on.
        """
        working = self._forward_bytes()
        if not self.traits.wraps_ends:
            return [*self._gathered(1), _working("forward temporaries", working)]
        kept, tied = self.step.forward_extra_bytes + self.step.held_bytes, int(self._tied())
        layer = kept + 2 * self.unit.block_bytes + tied * self.unit.tail_bytes
        tail = working + 2 * self.unit.tail_bytes
        in_layers = (layer > tail) & (self.share.parameters > 1)
        blocks, tails = where(in_layers, 2, 0), where(in_layers, tied, 2)
        inside = where(in_layers, kept, working)
        gathered = gathered_term(self.unit, self.share, blocks=blocks, tails=tails)
        return [gathered, _working("forward temporaries", inside)]

    def _tied(self) -> bool:
        return self.architecture.lm_head_params == 0

    def _own_gradients(self) -> MemoryTerm:
        """Gradients of the layer at hand, whole until they are scattered."""
        whole = self.unit.block_params * self.gradient_element if self.workload.method == "full" else 0
        size = where(self.share.gradients > 1, whole, 0) if self.traits.wraps_ends else 0
        return _term("gathered", "gradients of the first layer before they are scattered", size)

    def _gathered(self, blocks: int) -> list[MemoryTerm]:
        return [gathered_term(self.unit, self.share, blocks=blocks)]

    def _gathered_backward(self) -> list[MemoryTerm]:
        """The layer at hand and the prefetched; a head of its own unit is sharded again once it is through."""
        through = self.traits.wraps_ends and not self._tied()
        return [gathered_term(self.unit, self.share, blocks=2, tails=0 if through else 1)]

    def _reduction(self) -> MemoryTerm:
        if self.workload.method != "full":
            return _working("gradients of one unit", 0)
        return reduction_term(self.unit, self.share, self.gradient_element, self.traits.gradient_dtype)

    def _outputs(self) -> list[MemoryTerm]:
        if not (self.traits.keeps_outputs or self.workload.keep_outputs):
            return []
        return [
            _term("logits", "logits kept by the training loop", self.step.tail.logits_bytes),
            _term("kv_cache", "KV cache kept by the training loop", self.step.held_bytes),
        ]

    def _earlier_outputs(self) -> list[MemoryTerm]:
        """A name that holds outputs still holds those of the step before while the next forward pass runs."""
        if self.traits.longest_batch_first and (year(self.workload) or 2024) < 2024:
            return []
        terms = self._outputs()
        if self.traits.holds_graph:
            terms.append(_term("activations", "inputs the last graph still holds", self.step.graph_bytes))
        return terms

    def _kept(self) -> list[MemoryTerm]:
        """What all layers keep between forward and backward, by part of the block."""
        sizes: dict[str, Int] = {}
        for run in self.step.runs:
            for kind, size in run.kept_by_kind().items():
                sizes[kind] = sizes.get(kind, 0) + run.count * size
        return [
            MemoryTerm(
                kind="activations",
                label=f"activations: {kind}",
                size_bytes=size * self.share.in_flight,
                formula="L × T × b × micro-batches in flight",
                inputs={
                    "L": sum((run.count for run in self.step.runs), start=0),
                    "T": self.setting.tokens,
                    "b": size // maximum(self._layer_tokens(), 1),
                    "micro-batches in flight": self.share.in_flight,
                },
                source=part_source(kind, self.architecture, self.setting, self.traits.program),
            )
            for kind, size in sizes.items()
        ]

    def _layer_tokens(self) -> Int:
        return sum((run.count for run in self.step.runs), start=0) * self.setting.tokens

    def _loss(self) -> MemoryTerm:
        """Logits, their fp32 copies and gradients at the worst moment of the loss's backward pass."""
        tail = self.step.tail
        return MemoryTerm(
            kind="logits",
            label="logits and loss",
            size_bytes=tail.memory.backward_peak_bytes,
            formula=f"highest point of: {tail.formula}, its gradients, final norm",
            inputs={
                "T": self.setting.tokens,
                "V": self.architecture.vocab_size,
                "d": self.architecture.hidden_size,
            },
            source=tail.source,
        )

    def _forward_bytes(self) -> Int:
        tail = self.step.tail
        beside_reference = self._reference_bytes() + tail.memory.saved_bytes
        highest = maximum(self.step.forward_extra_bytes, tail.forward_peak_bytes, beside_reference)
        return highest + self.step.held_bytes

    def _inference_bytes(self) -> Int:
        """A forward pass without autograd: one layer's temporaries, or the logits."""
        block = maximum(0, *(run.memory.forward_peak_bytes for run in self.step.runs))
        return maximum(block, self.step.tail.forward_peak_bytes)

    def _head_gradients(self) -> MemoryTerm:
        """Gradients of the head and final norm, which come before those of the layers."""
        return _term("gradients", "gradients of the head", self.step.tail.memory.weight_gradient_bytes)

    def _first_layer_bytes(self) -> Int:
        """When all gradients exist: the first layer's backward, or the embedding's gradient table."""
        first = self.step.runs[0].memory
        layer = first.backward_peak_bytes - first.weight_gradient_bytes
        table: Int = 0
        if self.workload.method == "full":
            # A tied table's gradient from the head waits while the embedding's is made and a third is their sum.
            tables = 2 if self.architecture.tie_word_embeddings else 0
            table = self.architecture.vocab_size * self.architecture.hidden_size * self.gradient_element
            table = tables * table // self.share.tp + self.step.stream_bytes
        return maximum(layer, table)


def _working(label: str, size_bytes: Int) -> MemoryTerm:
    return _term("activations", label, size_bytes)


def _term(kind: str, label: str, size_bytes: Int) -> MemoryTerm:
    return MemoryTerm(
        kind=kind,
        label=label,
        size_bytes=size_bytes,
        formula="highest point of the tape" if kind == "activations" else "tensors × bytes",
        source=AUTOGRAD,
    )
