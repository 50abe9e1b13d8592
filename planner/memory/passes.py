"""Passes without gradients inside a training process: evaluation, generation, rollouts, a reference model.

Nothing is saved for a backward pass, so one layer's temporaries count, then the logits or the cache.
"""

from __future__ import annotations

from dataclasses import replace

from planner.citation import Citation
from planner.dtypes import ELEMENT_BYTES
from planner.memory.blocks.setting import Setting
from planner.memory.breakdown import MemoryTerm
from planner.memory.frameworks import FrameworkTraits
from planner.memory.ops import Int, ceil_div, maximum, minimum
from planner.memory.step import block_program
from planner.memory.tape import Tape
from planner.memory.tape_memory import memory_of
from planner.memory.terms.kv_cache import CachePolicy, cache_size
from planner.model.architecture import ModelArchitecture
from planner.request import EvaluationSpec, TrainingWorkload

_EVALUATION = Citation(
    title="transformers: the evaluation loop concatenates logits on the GPU until eval_accumulation_steps",
    url="https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments.eval_accumulation_steps",
)
_GENERATION = Citation(
    title="transformers: DynamicCache grows by concatenation",
    url="https://github.com/huggingface/transformers/blob/v4.57.1/src/transformers/cache_utils.py",
)


def forward_only_bytes(
    architecture: ModelArchitecture, setting: Setting, traits: FrameworkTraits, *, logit_rows: Int
) -> Int:
    """Peak of a forward pass without autograd: the widest layer, or logits of ``logit_rows`` and an fp32 copy."""
    bare = replace(setting, weights_trained=False, norms_trained=False, adapter=None, caches_kv=False, dropout=0.0)
    width = architecture.hidden_size
    widest: Int = 0
    for group in architecture.groups:
        tape = Tape()
        x = tape.input("hidden states", bare.tokens * width, bare.stream_dtype, needs_grad=False)
        output = block_program(architecture, traits)(tape, x, group, architecture, bare)
        widest = maximum(widest, memory_of(tape, output, output_gradient=False).forward_peak_bytes)
    element = ELEMENT_BYTES[bare.compute_dtype] + ELEMENT_BYTES["fp32"]
    logits = ceil_div(logit_rows * architecture.vocab_size * element, setting.tp)
    return maximum(widest, logits + bare.tokens * width * ELEMENT_BYTES[bare.norm_dtype])


def generation_terms(
    architecture: ModelArchitecture,
    setting: Setting,
    traits: FrameworkTraits,
    *,
    sequences: Int,
    prompt_tokens: Int,
    new_tokens: Int,
) -> list[MemoryTerm]:
    """``generate()`` for ``sequences`` at once: the cache at its longest, and the prompt's forward pass."""
    tokens = prompt_tokens + new_tokens
    policy = CachePolicy(dtype=setting.compute_dtype, latent=False, windowed=False, tp=setting.tp)
    cache = cache_size(architecture, tokens, sequences, policy)
    prompt = replace(setting, batch=sequences, seq=maximum(prompt_tokens, 1))
    layer = max((group.count for group in architecture.groups), default=1)
    working = maximum(
        forward_only_bytes(architecture, prompt, traits, logit_rows=sequences),
        ceil_div(cache.total_bytes, max(layer, 1)),
    )
    return [
        MemoryTerm(
            kind="kv_cache",
            label="KV cache of generations",
            size_bytes=cache.total_bytes,
            formula="sequences × tokens × bytes per token",
            inputs={"sequences": sequences, "tokens": tokens},
            source=_GENERATION,
        ),
        MemoryTerm(
            kind="activations",
            label="forward pass of prompts",
            size_bytes=working,
            formula="widest layer or logits",
            inputs={"tokens": sequences * prompt_tokens},
            source=_GENERATION,
        ),
    ]


def evaluation_terms(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    spec: EvaluationSpec,
    setting: Setting,
    traits: FrameworkTraits,
) -> list[MemoryTerm]:
    """The evaluation loop at its worst: generations, or a forward pass and the logits gathered so far.

    Gathered logits are concatenated, so old and new stand side by side for a moment: twice their size.
    """
    seq: Int = workload.seq_len if spec.seq_len is None else spec.seq_len
    if spec.generate_max_new_tokens is not None:
        prompt = maximum(seq - spec.generate_max_new_tokens, 1)
        return generation_terms(
            architecture, setting, traits,
            sequences=spec.batch_size, prompt_tokens=prompt, new_tokens=minimum(spec.generate_max_new_tokens, seq),
        )  # fmt: skip
    shape = replace(setting, batch=spec.batch_size, seq=seq)
    terms = [
        MemoryTerm(
            kind="activations",
            label="evaluation forward pass",
            size_bytes=forward_only_bytes(architecture, shape, traits, logit_rows=shape.tokens),
            formula="widest layer or logits",
            inputs={"tokens": shape.tokens},
            source=_EVALUATION,
        )
    ]
    if spec.gathers_logits:
        steps = ceil_div(spec.num_samples, spec.batch_size)
        if spec.accumulation_steps is not None:
            steps = minimum(steps, spec.accumulation_steps)
        element = ELEMENT_BYTES["fp32"] if workload.autocast else ELEMENT_BYTES[setting.compute_dtype]
        gathered = steps * shape.tokens * architecture.vocab_size * element
        terms.append(
            MemoryTerm(
                kind="logits",
                label="gathered evaluation logits",
                size_bytes=2 * gathered,
                low_bytes=gathered,
                formula="2 × steps × B × S × V × bytes",
                inputs={"steps": steps, "V": architecture.vocab_size, "bytes": element},
                source=_EVALUATION,
            )
        )
    return terms
