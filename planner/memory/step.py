"""One training step of a model as tape runs: what its blocks and its end save, and how high they climb.

This file turns a request into the `Setting` the block programs need, runs each program once per kind of layer,
and sums over layers. Which moments the sums meet in is decided in ``planner.memory.training``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hardware_db.gpu import Gpu
from planner.dtypes import WeightFormat, weight_format
from planner.memory.blocks.decoder import transformer_block
from planner.memory.blocks.encoder import encoder_block
from planner.memory.blocks.litgpt import FIRST_ADAPTED_LAYER, PROMPT_TOKENS, litgpt_block
from planner.memory.blocks.quirks import quirks
from planner.memory.blocks.setting import AdapterBranch, AttentionKernel, Setting
from planner.memory.blocks.tail import Tail, tail
from planner.memory.frameworks import FrameworkTraits, LossKernel
from planner.memory.ops import Int, ceil_div, maximum, minimum
from planner.memory.sharding import Shares
from planner.memory.tape import ELEMENT_BYTES, Tape, TapeMemory, Tensor
from planner.memory.terms.adapters import LOW_RANK, is_target
from planner.memory.terms.objectives import Objective, objective_rule
from planner.memory.versions import dequantises_to_fp16, peft_follows_base, saves_quantised_inputs, year
from planner.model.architecture import (
    LatentAttention,
    LayerGroup,
    Linear,
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
    def forward_extra_bytes(self) -> Int:
        """Temporaries of the layer's forward pass beyond what it keeps."""
        return self.memory.forward_peak_bytes - self.memory.saved_bytes

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
    def forward_extra_bytes(self) -> Int:
        return maximum(0, *(run.forward_extra_bytes for run in self.runs))

    @property
    def backward_extra_bytes(self) -> Int:
        return maximum(0, *(run.backward_extra_bytes for run in self.runs))


def build_setting(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    traits: FrameworkTraits,
    fmt: WeightFormat,
    share: Shares,
    gpu: Gpu | None,
) -> Setting:
    """Dtypes, kernels and sizes of the workload on one rank."""
    compute = "bf16" if workload.compute_dtype == "fp8" else workload.compute_dtype
    upcast = fmt.is_quantised and traits.upcasts_kbit_base and fmt.scheme == "bitsandbytes"
    base = "fp32" if upcast else (compute if fmt.is_quantised or traits.gathers_in_compute_dtype else fmt.name)
    stream = base
    norm_dtype = stream
    if workload.autocast and architecture.norm != "rmsnorm":
        norm_dtype = "fp32"
    full = workload.method == "full"
    kernel = attention_kernel(architecture, workload, traits, gpu)
    checkpointed = workload.gradient_checkpointing != "none"
    return Setting(
        batch=workload.batch_size,
        seq=ceil_div(_tokens(workload), share.cp),
        tp=share.tp,
        ep=share.ep,
        memory_seq=ceil_div(workload.seq_len, share.cp),
        dropout=0.0 if traits.program == "litgpt" else quirks(architecture.model_type).dropout,
        softmax_in_fp32=architecture.kind == "decoder" or architecture.model_type in ("t5", "umt5"),
        stream_dtype=stream,
        norm_dtype=norm_dtype,
        compute_dtype=compute if (workload.autocast or fmt.is_quantised) else base,
        linear_dtype=None if fmt.scheme == "bitsandbytes" or not workload.autocast else compute,
        autocast=workload.autocast,
        casts_weights=workload.autocast and not fmt.is_quantised and ELEMENT_BYTES[base] > ELEMENT_BYTES[compute],
        weights_trained=full,
        norms_trained=full or workload.method in ("layernorm", "llama-adapter-v2"),
        gradient_bytes=ELEMENT_BYTES[base],
        prefix_tokens=workload.adapter.num_virtual_tokens if workload.method == "prefix-tuning" else 0,
        adapter=_branch(workload, traits, base),
        dequantised_element_bytes=_dequantised_bytes(workload, fmt),
        saves_quantised_inputs=fmt.scheme == "bitsandbytes" and saves_quantised_inputs(workload),
        loads_packed=fmt.scheme == "bitsandbytes",
        quantised_head=traits.quantises_head and fmt.is_quantised,
        attention=kernel,
        masked=workload.padding_mask or traits.masks_attention,
        repeats_kv=_repeats_kv(workload, traits, kernel),
        caches_kv=(workload.use_cache or _caches_by_default(traits)) and not checkpointed,
        fused_norms=traits.program in ("torchtitan", "unsloth"),
        norm_weighs_in_fp32=(
            (year(workload) or 2024) < 2024
            if traits.program == "litgpt"
            else quirks(architecture.model_type).weighs_norm_in_fp32
        ),
    )


def _caches_by_default(traits: FrameworkTraits) -> bool:
    if traits.caches_kv is not None:
        return traits.caches_kv
    return traits.keeps_outputs and traits.program == "transformers"


def _dequantised_bytes(workload: TrainingWorkload, fmt: WeightFormat) -> int:
    """Bytes per weight of the copy a quantised matmul makes.

    bitsandbytes before 0.43 quantised from fp16, so it dequantises to fp16 and copies again for bf16.
    """
    if not fmt.is_quantised:
        return 0
    size = ELEMENT_BYTES[workload.compute_dtype]
    twice = fmt.scheme == "bitsandbytes" and workload.compute_dtype == "bf16" and dequantises_to_fp16(workload)
    return 2 * size if twice else size


def _tokens(workload: TrainingWorkload) -> Int:
    if workload.method in ("prompt-tuning", "p-tuning"):
        return workload.seq_len + workload.adapter.num_virtual_tokens
    return workload.seq_len


def attention_kernel(
    architecture: ModelArchitecture, workload: TrainingWorkload, traits: FrameworkTraits, gpu: Gpu | None
) -> AttentionKernel:
    """The kernel SDPA picks: flash needs half precision, no mask and compute capability 8."""
    if workload.attention == "eager" or architecture.kind == "encoder-decoder":
        return "eager"
    if workload.attention.startswith("flash"):
        return "flash"
    capability = gpu.compute_capability if gpu is not None else None
    half = workload.compute_dtype in ("bf16", "fp16", "fp8")
    masked = workload.padding_mask or traits.masks_attention
    latent = any(isinstance(group.mixer, LatentAttention) for group in architecture.groups)
    modern = capability is None or capability >= (8, 0)
    return "flash" if half and modern and not masked and not latent else "efficient"


def _repeats_kv(workload: TrainingWorkload, traits: FrameworkTraits, kernel: AttentionKernel) -> bool:
    if workload.attention.startswith("flash"):
        return traits.program in ("litgpt", "torchtitan")
    return traits.repeats_kv or kernel != "flash"


def _branch(workload: TrainingWorkload, traits: FrameworkTraits, base: str) -> AdapterBranch | None:
    method, spec = workload.method, workload.adapter
    kinds = {"dora": "dora", "qdora": "dora", "ia3": "ia3", "vera": "vera", "llama-adapter-v2": "scale-shift"}
    kind = kinds.get(method, "lora" if method in LOW_RANK else None)
    if kind is None:
        return None
    everything = kind == "scale-shift"

    def applies(linear: Linear) -> bool:
        return everything or is_target(linear, spec.target_modules)

    return AdapterBranch(
        kind=kind,  # type: ignore[arg-type]
        rank=spec.rank,
        dtype=adapter_dtype(workload, traits, base),
        dropout=traits.adapter_dropout if spec.dropout is None else spec.dropout,
        applies=applies,
    )


def adapter_dtype(workload: TrainingWorkload, traits: FrameworkTraits, base: str) -> str:
    """Dtype adapter weights are kept in.

    peft keeps them in fp32 since 0.12 (August 2024); before, they took the dtype of the floating-point weight
    they sit on. Source: https://github.com/huggingface/peft/releases/tag/v0.12.0
    """
    if traits.program == "transformers" and peft_follows_base(workload) and base in ("bf16", "fp16"):
        return workload.adapter.dtype if weight_format(workload.weight_dtype).is_quantised else base
    if workload.adapter.dtype == "fp32" and traits.adapter_dtype:
        return base if traits.program == "litgpt" else traits.adapter_dtype
    return workload.adapter.dtype


def run_step(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    traits: FrameworkTraits,
    setting: Setting,
    share: Shares,
) -> StepMemory:
    """Run every kind of layer once, and the end of the model."""
    rule = objective_rule(workload)
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
    end = tail(
        architecture,
        decoder,
        x_needs_grad=True,
        head_trained=workload.method == "full" or "lm_head" in workload.adapter.modules_to_save,
        head_dtype=setting.stream_dtype,
        labels=rule.labels,
        rows=_logit_rows(workload, decoder, rule),
        selects=rule.labels is not None or rule.completion_logits_only,
        kernel=_loss_kernel(workload, traits),
    )
    stream = decoder.tokens * architecture.hidden_size * ELEMENT_BYTES[setting.stream_dtype]
    return StepMemory(runs=tuple(runs), tail=end, stream_bytes=stream)


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
    return BlockRun(
        count=count,
        memory=tape.run(output),
        checkpointing=workload.gradient_checkpointing,
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


def _loss_kernel(workload: TrainingWorkload, traits: FrameworkTraits) -> LossKernel:
    if workload.loss == "chunked":
        return "chunked"
    if workload.loss == "fused":
        return "fused"
    return objective_rule(workload).loss_kernel or traits.loss_kernel
