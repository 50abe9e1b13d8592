"""One training step of a model as tape runs: what its blocks and its end save, and how high they climb.

Each block program runs once per kind of layer; sizes are summed over layers. Which moments the sums meet in is
decided in ``planner.memory.moments``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from planner.dtypes import ELEMENT_BYTES
from planner.memory.blocks.decoder import transformer_block
from planner.memory.blocks.encoder import encoder_block
from planner.memory.blocks.litgpt import FIRST_ADAPTED_LAYER, PROMPT_TOKENS, litgpt_block
from planner.memory.blocks.quirks import quirks
from planner.memory.blocks.setting import Setting
from planner.memory.blocks.tail import Tail, tail
from planner.memory.frameworks import FrameworkTraits, LossKernel
from planner.memory.ops import Int, ceil_div, maximum, minimum
from planner.memory.sharding import Shares
from planner.memory.tape import Tape, Tensor
from planner.memory.tape_memory import TapeMemory, memory_of, without_grad
from planner.memory.terms.objectives import Objective, objective_rule
from planner.memory.versions import before_cut_cross_entropy
from planner.model.architecture import (
    LayerGroup,
    ModelArchitecture,
)
from planner.request import TrainingWorkload

BlockProgram = Callable[[Tape, Tensor, LayerGroup, ModelArchitecture, Setting], Tensor]
PROMPT_METHODS = frozenset({"prompt-tuning", "p-tuning", "prefix-tuning"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRun:
    """One kind of layer: how many, what one costs, and what its checkpointing keeps."""

    count: Int
    memory: TapeMemory
    checkpointing: str
    input_bytes: Int
    """The layer's input, kept where the layer is checkpointed."""
    temporary_bytes: Int
    """Highest point of the layer's forward pass above what it keeps."""
    cached_bytes: Int
    """What that pass leaves in the allocator's cache."""

    def kept_by_kind(self) -> dict[str, Int]:
        """Bytes one layer keeps between forward and backward, by part of the layer."""
        if self.checkpointing == "none":
            return self.memory.saved_by_kind()
        kept = {"layer inputs": self.input_bytes if self.checkpointing != "offload" else 0 * self.input_bytes}
        if self.checkpointing == "selective":
            kept["selected outputs"] = self.memory.selected_bytes
        return kept

    @property
    def kept_bytes(self) -> Int:
        return sum(self.kept_by_kind().values(), start=0)

    @property
    def num_kept(self) -> int:
        """Tensors a layer keeps."""
        return len(self.memory.saved) if self.checkpointing == "none" else 1

    @property
    def backward_extra_bytes(self) -> Int:
        """Climb of the layer's backward pass (and recomputation) above what all layers keep."""
        if self.checkpointing == "none":
            return self.memory.backward_peak_bytes - self.memory.saved_bytes
        recompute = self.memory.forward_peak_bytes + self.memory.output_bytes
        climb = maximum(self.memory.backward_peak_bytes, recompute)
        if self.checkpointing == "selective":
            return climb - self.memory.selected_bytes
        return climb + (2 * self.input_bytes if self.checkpointing == "offload" else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMemory:
    """Activations of one micro-batch on one rank, in bytes."""

    runs: tuple[BlockRun, ...]
    tail: Tail
    stream_bytes: Int
    """One residual-stream tensor."""

    @property
    def kept_bytes(self) -> Int:
        """Saved by all layers."""
        return sum((run.count * run.kept_bytes for run in self.runs), start=0)

    @property
    def graph_bytes(self) -> Int:
        """What stays until the graph itself is dropped."""
        return sum((run.count * run.memory.graph_bytes for run in self.runs), start=0)

    @property
    def held_bytes(self) -> Int:
        """The KV cache, where autograd does not keep it anyway."""
        return sum((run.count * run.memory.held_bytes for run in self.runs), start=0)

    @property
    def num_kept(self) -> Int:
        """Tensors all layers keep."""
        return sum((run.count * run.num_kept for run in self.runs), start=0)

    @property
    def forward_extra_bytes(self) -> Int:
        return maximum(0, *(run.temporary_bytes for run in self.runs))

    @property
    def cached_bytes(self) -> Int:
        """What the forward passes of layers leave in the allocator's cache."""
        return maximum(0, *(run.cached_bytes for run in self.runs))

    @property
    def backward_extra_bytes(self) -> Int:
        return maximum(0, *(run.backward_extra_bytes for run in self.runs))


def run_step(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    traits: FrameworkTraits,
    setting: Setting,
    share: Shares,
) -> StepMemory:
    """Run every kind of layer once, and the end of the model."""
    decoder = setting
    if architecture.kind == "encoder-decoder" and workload.target_seq_len is not None:
        decoder = replace(setting, seq=ceil_div(workload.target_seq_len, share.cp))
    runs: list[BlockRun] = []
    for index, group in enumerate(architecture.groups):
        shape = setting if group.stack == "encoder" else decoder
        count: Int = ceil_div(group.count, share.pp)
        for part, needs_grad, prompt_tokens in _parts(workload, traits, count, first=index == 0):
            local = replace(shape, prompt_tokens=prompt_tokens)
            runs.append(_run_block(architecture, group, workload, traits, local, part, needs_grad))
    end = run_tail(
        architecture,
        workload,
        traits,
        decoder,
        x_needs_grad=True,
        head_trained=workload.method == "full" or "lm_head" in workload.adapter.modules_to_save,
    )
    stream = decoder.tokens * architecture.hidden_size * ELEMENT_BYTES[setting.stream_dtype]
    return StepMemory(runs=tuple(runs), tail=end, stream_bytes=stream)


def run_tail(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    traits: FrameworkTraits,
    setting: Setting,
    *,
    x_needs_grad: bool,
    head_trained: bool,
    kernel: LossKernel | None = None,
) -> Tail:
    """The end of the model as the workload's objective and its framework run it, or with another loss kernel."""
    rule = objective_rule(workload)
    return tail(
        architecture,
        setting,
        x_needs_grad=x_needs_grad,
        head_trained=head_trained,
        head_dtype=setting.stream_dtype,
        labels=rule.labels,
        rows=_logit_rows(workload, setting, rule),
        selects=rule.labels is not None or rule.completion_logits_only,
        kernel=kernel or _loss_kernel(architecture, workload, traits, setting),
    )


def _parts(
    workload: TrainingWorkload, traits: FrameworkTraits, count: Int, *, first: bool
) -> list[tuple[Int, bool, int]]:
    """How ``count`` layers divide: (layers, does their input need a gradient, prompt tokens attended to).

    Frozen leading layers keep nothing. The first layer of an adapter run keeps less, as nothing before it is
    trained, unless checkpointing made the embedding's output require gradients.
    """
    prompted = workload.method in ("adaption-prompt", "llama-adapter-v2")
    tokens = PROMPT_TOKENS if prompted else 0
    parts: list[tuple[Int, bool, int]] = []
    if first and prompted:
        count = maximum(count - FIRST_ADAPTED_LAYER, 0)
        if workload.method == "llama-adapter-v2":
            parts.append((FIRST_ADAPTED_LAYER, True, 0))
    if first and workload.frozen_layers:
        count = maximum(count - workload.frozen_layers, 0)
    if first and not _input_needs_grad(workload, traits):
        parts.append((1, False, tokens))
        count = maximum(count - 1, 0)
    parts.append((count, True, tokens))
    return parts


def _input_needs_grad(workload: TrainingWorkload, traits: FrameworkTraits) -> bool:
    if workload.frozen_layers:
        return False
    if workload.method == "full" or workload.method in PROMPT_METHODS:
        return True
    checkpointed = workload.gradient_checkpointing != "none"
    return checkpointed and traits.input_gradients and workload.method != "layernorm"


def _run_block(
    architecture: ModelArchitecture,
    group: LayerGroup,
    workload: TrainingWorkload,
    traits: FrameworkTraits,
    setting: Setting,
    count: Int,
    needs_grad: bool,
) -> BlockRun:
    checkpointed = workload.gradient_checkpointing != "none"
    tape = Tape(kind="residual")
    width = architecture.hidden_size
    x = tape.input(
        "hidden states", setting.tokens * width, setting.stream_dtype, needs_grad=needs_grad, external=checkpointed
    )
    output = block_program(architecture, traits)(tape, x, group, architecture, setting)
    memory = memory_of(tape, output, compiled=workload.compile)
    if checkpointed:
        bare = without_grad(tape, output)
        temporary, cached = bare.peak_bytes, bare.cached_bytes
    else:
        temporary = cached = memory.forward_peak_bytes - memory.saved_bytes
    return BlockRun(
        count=count,
        memory=memory,
        checkpointing=workload.gradient_checkpointing,
        temporary_bytes=temporary,
        cached_bytes=cached,
        input_bytes=setting.tokens * width * ELEMENT_BYTES[setting.stream_dtype],
    )


def block_program(architecture: ModelArchitecture, traits: FrameworkTraits) -> BlockProgram:
    """The program of one layer, by whose modelling code runs."""
    if traits.program == "litgpt":
        return litgpt_block
    return encoder_block if architecture.kind == "encoder" else transformer_block


def _logit_rows(workload: TrainingWorkload, setting: Setting, rule: Objective) -> Int:
    """Tokens whose logits are computed."""
    if rule.labels is not None:
        return setting.batch
    if rule.completion_logits_only:
        return setting.batch * minimum(workload.completion_len + 1, setting.seq)
    if workload.target_seq_len is not None:
        return setting.batch * workload.target_seq_len
    return setting.tokens


def _loss_kernel(
    architecture: ModelArchitecture, workload: TrainingWorkload, traits: FrameworkTraits, setting: Setting
) -> LossKernel:
    """Which loss runs: what is asked for, what the framework always takes, or its default."""
    if workload.loss == "chunked":
        return "chunked"
    if traits.program == "unsloth":
        return "in-place" if setting.old_kernels or before_cut_cross_entropy(workload) else "fused"
    if workload.loss == "fused":
        return "fused"
    if traits.loss_kernel == "tiled":
        return "tiled"
    if quirks(architecture.model_type).loses_in_logits_dtype and not setting.autocast:
        return "same-dtype"
    return objective_rule(workload).loss_kernel or traits.loss_kernel
