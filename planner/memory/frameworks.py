"""What training frameworks do differently where memory is concerned: one table, each row with its source.

A trait is a fact about the framework's code, never a fitted number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from planner.citation import Citation
from planner.errors import UnsupportedError
from planner.memory.versions import release
from planner.request import TrainingWorkload

Program = Literal["transformers", "litgpt", "torchtitan", "unsloth"]
LossKernel = Literal[
    "upcast", "upcast-shift-copy", "split-head", "same-dtype", "in-place", "chunked", "fused", "tiled"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameworkTraits:
    """How a training stack treats the memory of one step."""

    name: str
    source: Citation
    program: Program = "transformers"
    """Whose modelling code runs."""
    loss_kernel: LossKernel = "upcast"
    """What ``loss="standard"`` means here."""
    keeps_outputs: bool = False
    """The loop holds the model's outputs while it runs backward."""
    holds_graph: bool = False
    """The loop's names keep the graph of a step until the next forward pass returns."""
    longest_batch_first: bool = False
    """The longest batch is the first one, so no outputs of an equal one are held when it runs."""
    caches_kv: bool | None = None
    """The training forward fills a KV cache; None: where the loop keeps outputs of a transformers model."""
    adapter_dtype: str | None = None
    """Dtype of adapter weights when the request leaves the default; None: fp32, as peft."""
    quantised_adapter_dtype: str | None = None
    """The same on quantised weights; None: no different."""
    upcasts_kbit_base: bool = False
    """``prepare_model_for_kbit_training``: every unquantised frozen parameter of a k-bit model becomes fp32."""
    repeats_kv: bool = False
    """k and v are copied per query head even where the attention kernel could share them."""
    masks_attention: bool = False
    """Batches reach attention with an explicit mask."""
    input_gradients: bool = True
    """Checkpointed adapter training makes the embedding's output require gradients."""
    adapter_dropout: float = 0.0
    """Dropout in front of adapters where the request leaves it open."""
    trains_whole_ends: bool = False
    """Embedding and head named as targets are trained as whole copies instead of getting a branch."""
    quantises_head: bool = False
    """The output head is packed like every other linear."""
    accumulates_unsharded: bool = False
    """Its scripts accumulate by default and without synchronising: gradients outlive a micro-batch, and a
    sharded rank holds those of every flat parameter whole, frozen parts included."""
    embedding_states_fp32: bool = False
    """8-bit optimizers keep the states of embeddings in fp32 (Trainer.create_optimizer)."""
    expandable_segments: bool = False
    """Its launcher sets ``expandable_segments``, which spares most of the allocator's fragmentation."""
    fsdp_version: int = 2
    """1: flat parameters, gathered where they are used; 2: gathered on one stream and copied out on another;
    0: not FSDP."""
    wraps_ends: bool = False
    """Embedding and head are units beside the layers: the first is freed after use, the last stays whole from
    forward to backward. Where they are tied, both are the last."""
    gathers_in_compute_dtype: bool = False
    """Sharded fp32 parameters are gathered in the compute dtype (FSDP2 mixed precision)."""
    gradient_dtype: str | None = None
    """Dtype gradients are reduced in across ranks; None: the parameter's."""


_HF = "https://github.com/huggingface"
_TRANSFORMERS = FrameworkTraits(
    name="transformers",
    source=Citation(
        title="transformers: Trainer.compute_loss drops the outputs before backward",
        url=f"{_HF}/transformers/blob/v4.57.1/src/transformers/trainer.py",
    ),
    upcasts_kbit_base=True,
    embedding_states_fp32=True,
    wraps_ends=True,
)
_FRAMEWORKS = {
    traits.name: traits
    for traits in (
        _TRANSFORMERS,
        replace(
            _TRANSFORMERS,
            name="trl",
            source=Citation(
                title="TRL: quantised models keep dtypes, adapters become bf16 (0.26); tiled head (1.7)",
                url=f"{_HF}/trl/blob/v1.16.0/trl/trainer/sft_trainer.py",
            ),
            upcasts_kbit_base=False,
            quantised_adapter_dtype="bf16",
            loss_kernel="tiled",
        ),
        replace(
            _TRANSFORMERS,
            name="accelerate",
            source=Citation(
                title="accelerate: its examples hold the outputs through backward",
                url=f"{_HF}/accelerate/blob/v1.15.0/examples/nlp_example.py",
            ),
            keeps_outputs=True,
            upcasts_kbit_base=False,
            embedding_states_fp32=False,
        ),
        replace(
            _TRANSFORMERS,
            name="peft",
            source=Citation(
                title="peft: the training loop of method_comparison keeps outputs and pads batches",
                url=f"{_HF}/peft/blob/main/method_comparison/MetaMathQA/run.py",
            ),
            keeps_outputs=True,
            masks_attention=True,
            embedding_states_fp32=False,
        ),
        FrameworkTraits(
            name="litgpt",
            program="litgpt",
            source=Citation(
                title="litgpt: own model, head split in chunks of 128 tokens, adapters in the model's dtype",
                url="https://github.com/Lightning-AI/litgpt/blob/main/litgpt/finetune/lora.py",
            ),
            loss_kernel="split-head",
            keeps_outputs=True,
            adapter_dtype="bf16",
            adapter_dropout=0.05,
            quantises_head=True,
            holds_graph=True,
            longest_batch_first=True,
            accumulates_unsharded=True,
            repeats_kv=True,
            input_gradients=False,
        ),
        FrameworkTraits(
            name="unsloth",
            program="unsloth",
            source=Citation(
                title="unsloth: own kernels, chunked loss, checkpoints in host memory",
                url="https://github.com/unslothai/unsloth/blob/main/unsloth/models/llama.py",
            ),
            loss_kernel="fused",
            upcasts_kbit_base=False,
            trains_whole_ends=True,
        ),
        FrameworkTraits(
            name="ms-swift",
            source=Citation(
                title="ms-swift: transformers Trainer behind its own command",
                url="https://github.com/modelscope/ms-swift/blob/main/docs/source_en/LLM/Benchmark.md",
            ),
            loss_kernel="upcast-shift-copy",
            repeats_kv=True,
        ),
        FrameworkTraits(
            name="fsdp_qlora",
            source=Citation(
                title="fsdp_qlora: transformers model, FSDP and bf16 adapters without autocast",
                url="https://github.com/AnswerDotAI/fsdp_qlora/blob/main/train.py",
            ),
            loss_kernel="upcast-shift-copy",
            keeps_outputs=True,
            caches_kv=False,
            adapter_dtype="bf16",
            adapter_dropout=0.1,
            repeats_kv=True,
            fsdp_version=1,
        ),
        FrameworkTraits(
            name="torchtitan",
            program="torchtitan",
            source=Citation(
                title="torchtitan: fused RMSNorm, fp32 loss, FSDP2 with bf16 parameters and fp32 reduction",
                url="https://github.com/pytorch/torchtitan/blob/main/torchtitan/train.py",
            ),
            repeats_kv=True,
            expandable_segments=True,
            gathers_in_compute_dtype=True,
            gradient_dtype="fp32",
        ),
        FrameworkTraits(
            name="torchtune",
            program="torchtitan",
            source=Citation(
                title="torchtune: own modules and recipes",
                url="https://github.com/pytorch/torchtune/blob/main/recipes/lora_finetune_single_device.py",
            ),
            adapter_dtype="bf16",
        ),
        replace(_TRANSFORMERS, name="axolotl"),
        replace(_TRANSFORMERS, name="deepspeed", fsdp_version=0, wraps_ends=False),
    )
}
_ALIASES = {
    "transformers+peft": "transformers",
    "transformers+peft+deepspeed": "deepspeed",
    "huggingface": "transformers",
    "lit-gpt": "litgpt",
    "swift": "ms-swift",
    "experts4bit": "transformers",
}


FRAMEWORK_NAMES = frozenset((*_FRAMEWORKS, *_ALIASES))
"""Every name ``framework_traits`` knows."""


def framework_traits(workload: TrainingWorkload) -> FrameworkTraits:
    """Rules of the workload's framework; raises UnsupportedError for one that is not known.

    Before transformers 5 its Trainer sharded by FSDP1; accelerate wraps both ends since April 2026
    (https://github.com/huggingface/accelerate/pull/4015).
    """
    name = workload.framework.lower()
    traits = _FRAMEWORKS.get(_ALIASES.get(name, name))
    if traits is None:
        raise UnsupportedError(
            f"the training framework {workload.framework[:40]!r} is not modelled",
            hint=f"known: {', '.join(_FRAMEWORKS)}",
        )
    version = workload.framework_version or ""
    if traits.wraps_ends and _is_before(version, (5, 0)):
        traits = replace(traits, fsdp_version=1, wraps_ends=False)
    if traits.name == "trl" and (release(version) or (1,)) < (0, 26):
        return replace(traits, upcasts_kbit_base=True, quantised_adapter_dtype=None, loss_kernel="upcast")
    if traits.name == "trl" and (release(version) or (2,)) < (1, 7):
        return replace(traits, loss_kernel="upcast")  # whole logits by default: huggingface/trl#5846
    if traits.name == "trl" and workload.objective == "dpo" and (release(version) or (2,)) < (1, 15):
        return replace(traits, loss_kernel="upcast")  # the tiled head came to DPO later: huggingface/trl#7243
    if traits.program == "transformers" and traits.loss_kernel == "upcast" and _is_before(version, (4, 45)):
        return replace(traits, loss_kernel="upcast-shift-copy", repeats_kv=True)
    return traits


def _is_before(version: str, bound: tuple[int, int]) -> bool:
    parts = version.split(".")
    try:
        return (int(parts[0]), int(parts[1])) < bound and int(parts[0]) >= 4
    except (ValueError, IndexError):
        return False
