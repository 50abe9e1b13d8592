"""Generation with transformers: prefill, the first tokens, and the last ones with the cache they meet."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from planner.request import ServingWorkload
from validate.trace.builder import Built
from validate.trace.cuda_policy import CudaPolicy, cuda_kernels
from validate.trace.fake import replaced
from validate.trace.job import TraceJob
from validate.trace.steps import adopt_model
from validate.trace.tracer import Tracer

TRACED_TOKENS = 3
"""Tokens generated at either end; between them the cache only grows."""


def trace_generation(built: Built, workload: ServingWorkload, job: TraceJob) -> Tracer:
    """``model.generate`` for ``concurrency`` equal prompts, without gradients.

    The middle of a long answer is left out: the last tokens start from a cache that is already full, so allocated
    memory is exact and reserved memory lacks the fragments of the steps between.
    """
    on_cuda = job.device == "cuda"
    kernels = cuda_kernels(job.compute_capability) if on_cuda else nullcontext()
    tracer = Tracer(CudaPolicy(job.compute_capability) if on_cuda else None)
    with torch.no_grad(), kernels:
        generate_traced(tracer, built, workload)
    return tracer


def generate_traced(tracer: Tracer, built: Built, workload: ServingWorkload) -> None:
    """Run the traced parts of the generation."""
    late = workload.output_tokens > 2 * TRACED_TOKENS
    length = workload.context_tokens - TRACED_TOKENS
    cache = _filled_cache(built, workload.concurrency, length - 1) if late else None
    with tracer, tracer.watch(built.model):
        adopt_model(tracer, built.model)
        first = TRACED_TOKENS if late else workload.output_tokens
        _generate(tracer, built, _prompts(workload.concurrency, workload.prompt_tokens), first, None)
        if cache is not None:
            tracer.phase("decode", workload.output_tokens - TRACED_TOKENS)
            tracer.adopt(_tensors_of(cache), "kv_cache", "cat")
            _generate(tracer, built, _prompts(workload.concurrency, length), TRACED_TOKENS, cache)
        tracer.finish()


def _prompts(num_prompts: int, length: int) -> torch.Tensor:
    return torch.ones((num_prompts, length), dtype=torch.long)


def _filled_cache(built: Built, num_prompts: int, length: int) -> Any:
    model: Any = built.model
    return model(input_ids=_prompts(num_prompts, length), use_cache=True, logits_to_keep=1).past_key_values


def _tensors_of(cache: Any) -> list[torch.Tensor]:
    layers = getattr(cache, "layers", ())
    return [tensor for layer in layers for tensor in vars(layer).values() if isinstance(tensor, torch.Tensor)]


def _generate(tracer: Tracer, built: Built, prompts: torch.Tensor, num_tokens: int, cache: Any) -> None:
    from transformers import StoppingCriteria, StoppingCriteriaList

    made = 0

    class _Progress(StoppingCriteria):  # type: ignore[misc]
        """Called after every token: the first one ends the prefill."""

        def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            nonlocal made
            made += 1
            if made == 1 and cache is None:
                tracer.phase("decode", 0)
            return torch.zeros(input_ids.shape[0], dtype=torch.bool)

    if cache is None:
        tracer.phase("prefill", 0)
    model: Any = built.model
    options = {} if cache is None else {"past_key_values": cache}
    # Whether all prompts are answered is asked of values; the number of tokens says the same.
    with replaced((model, "_has_unfinished_sequences", lambda *_, **__: made < num_tokens)):
        model.generate(
            input_ids=prompts, attention_mask=torch.ones_like(prompts), do_sample=False, pad_token_id=0,
            eos_token_id=-1, max_new_tokens=num_tokens, stopping_criteria=StoppingCriteriaList([_Progress()]),
            **options,
        )  # fmt: skip
