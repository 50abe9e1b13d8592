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
from planner.memory.ops import Int, ceil_div, maximum, minimum, where
from planner.memory.step import block_program, run_tail
from planner.memory.tape import Tape
from planner.memory.tape_memory import memory_of
from planner.memory.terms.kv_cache import CachePolicy, cache_size
from planner.memory.terms.objectives import objective_rule
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


def without_autograd(setting: Setting) -> Setting:
    """The same shapes where nothing is trained, dropped out or cached."""
    return replace(
        setting, weights_trained=False, norms_trained=False, adapter=None, caches_kv=False, dropout=0.0,
        inner_dropout=0.0,
    )  # fmt: skip


def widest_layer_bytes(architecture: ModelArchitecture, setting: Setting, traits: FrameworkTraits) -> Int:
    """Peak of one layer's forward pass without autograd."""
    bare = without_autograd(setting)
    widest: Int = 0
    for group in architecture.groups:
        tape = Tape()
        x = tape.input(
            "hidden states", bare.tokens * architecture.hidden_size, bare.stream_dtype, needs_grad=False
        )
        output = block_program(architecture, traits)(tape, x, group, architecture, bare)
        widest = maximum(widest, memory_of(tape, output, output_gradient=False).forward_peak_bytes)
    return widest


def logits_only_bytes(
    architecture: ModelArchitecture, setting: Setting, traits: FrameworkTraits, *, logit_rows: Int
) -> Int:
    """A forward pass without autograd or loss: the widest layer, or logits of ``logit_rows`` and an fp32 copy."""
    element = ELEMENT_BYTES[setting.compute_dtype] + ELEMENT_BYTES["fp32"]
    logits = ceil_div(logit_rows * architecture.vocab_size * element, setting.tp)
    states = setting.tokens * architecture.hidden_size * ELEMENT_BYTES[setting.norm_dtype]
    return maximum(widest_layer_bytes(architecture, setting, traits), logits + states)


def scored_bytes(
    architecture: ModelArchitecture, workload: TrainingWorkload, setting: Setting, traits: FrameworkTraits
) -> Int:
    """A forward pass without autograd up to its loss: the widest layer, or the loss with its copies of the logits.

    log-softmax makes its output whether or not a gradient will ask for it.
    """
    bare = without_autograd(setting)
    end = run_tail(architecture, workload, traits, bare, x_needs_grad=False, head_trained=False)
    return maximum(widest_layer_bytes(architecture, setting, traits), end.forward_peak_bytes)


def autocast_copies_bytes(
    architecture: ModelArchitecture, workload: TrainingWorkload, setting: Setting, *, tiled_head: bool
) -> Int:
    """Casts of trained weights, which autocast keeps for the length of a pass with or without a gradient.

    TRL's head, which works in tiles, drops its own.

    Source: https://github.com/pytorch/pytorch/blob/v2.9.0/aten/src/ATen/autocast_mode.cpp
    """
    if not setting.casts_weights or workload.method != "full":
        return 0
    params = sum(group.count * linear.num_params for group in architecture.groups for linear in group.linears)
    if not tiled_head:
        params = params + architecture.vocab_size * architecture.hidden_size
    return ceil_div(params * ELEMENT_BYTES[setting.compute_dtype], setting.tp)


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
        logits_only_bytes(architecture, prompt, traits, logit_rows=sequences),
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


def evaluation_phases(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    spec: EvaluationSpec,
    setting: Setting,
    traits: FrameworkTraits,
) -> dict[str, list[MemoryTerm]]:
    """The evaluation loop's moments: generations, or its last forward pass and the last concatenation of logits.

    Liger builds whole logits outside of training, and so does TRL's head, in a second pass, where they are
    gathered.
    """
    seq: Int = workload.seq_len if spec.seq_len is None else spec.seq_len
    if spec.generate_max_new_tokens is not None:
        prompt = maximum(seq - spec.generate_max_new_tokens, 1)
        generated = generation_terms(
            architecture, setting, traits,
            sequences=spec.batch_size, prompt_tokens=prompt, new_tokens=minimum(spec.generate_max_new_tokens, seq),
        )  # fmt: skip
        return {"evaluation": generated}
    rule = objective_rule(workload)
    shape = replace(setting, batch=spec.batch_size * rule.sequences_per_sample, seq=seq)
    asked = replace(workload, loss="standard")
    tiled = traits.loss_kernel == "tiled"
    forward = scored_bytes(architecture, asked, shape, traits)
    forward = forward + autocast_copies_bytes(architecture, workload, setting, tiled_head=tiled)
    if not spec.gathers_logits:
        return {"evaluation": [_forward_term(forward, shape)]}
    made, returned = _whole_logits(architecture, asked, shape, traits)
    if tiled:
        forward = maximum(forward, made + autocast_copies_bytes(architecture, workload, setting, tiled_head=False))
    steps = ceil_div(spec.num_samples, spec.batch_size)
    if spec.accumulation_steps is not None:
        steps = minimum(steps, spec.accumulation_steps)
    before = where(steps > 2, steps, steps - 1)
    return {
        "evaluation": [_forward_term(forward, shape), _gathered_term(before, returned)],
        "evaluation, joining logits": [_gathered_term(where(steps > 1, 2 * steps, 1), returned)],
    }


def _whole_logits(
    architecture: ModelArchitecture, workload: TrainingWorkload, setting: Setting, traits: FrameworkTraits
) -> tuple[Int, Int]:
    """A pass that builds whole logits and no loss, and the logits it returns: in fp32 under autocast. Bytes."""
    bare = without_autograd(setting)
    end = run_tail(
        architecture, workload, traits, bare, x_needs_grad=False, head_trained=False, kernel="same-dtype"
    )
    states = bare.tokens * architecture.hidden_size * ELEMENT_BYTES[bare.norm_dtype]
    if not bare.autocast and traits.loss_kernel != "upcast-shift-copy":
        return end.logits_bytes + states, end.logits_bytes
    dtype = bare.compute_dtype if bare.autocast else bare.stream_dtype
    widened = end.logits_bytes * ELEMENT_BYTES["fp32"] // ELEMENT_BYTES[dtype]
    return end.logits_bytes + maximum(states, widened), widened


def _forward_term(size_bytes: Int, setting: Setting) -> MemoryTerm:
    return MemoryTerm(
        kind="activations",
        label="evaluation forward pass",
        size_bytes=size_bytes,
        formula="widest layer, or logits and loss",
        inputs={"tokens": setting.tokens},
        source=_EVALUATION,
    )


def _gathered_term(steps: Int, returned_bytes: Int) -> MemoryTerm:
    """Logits of ``steps`` batches; the last ones have two names, so they stay beside the joined until the next."""
    return MemoryTerm(
        kind="logits",
        label="gathered evaluation logits",
        size_bytes=steps * returned_bytes,
        formula="batches of logits × bytes of one",
        inputs={"batches": steps, "bytes": returned_bytes},
        source=_EVALUATION,
    )
