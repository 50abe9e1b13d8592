"""A training loop over ``accelerate``, as its documentation writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from planner.request import TrainingWorkload
from validate.trace.builder import Built, make_batch
from validate.trace.optimizers import build_optimizer
from validate.trace.steps import Program, label_optimizer_state
from validate.trace.tracer import Tracer


def accelerate_program(built: Built, workload: TrainingWorkload, lengths: Sequence[int]) -> Program:
    """``prepare``, ``accumulate``, ``backward``, a step per length."""
    from accelerate import Accelerator

    accelerator = Accelerator(
        cpu=True,
        mixed_precision="bf16" if workload.autocast else "no",
        gradient_accumulation_steps=workload.gradient_accumulation_steps,
    )
    batches = [length for length in lengths for _ in range(workload.gradient_accumulation_steps)]

    def run(tracer: Tracer) -> None:
        def collate(rows: Sequence[int]) -> dict[str, torch.Tensor]:
            batch = make_batch(built, workload, seq_len=rows[0])
            tracer.label(list(batch.values()), "input")
            return batch

        data: Any = torch.utils.data.DataLoader(batches, batch_size=1, collate_fn=collate)  # type: ignore[arg-type]
        model, optimizer, loader = accelerator.prepare(
            built.model, build_optimizer(built.model, workload.optimizer), data
        )
        step = 0
        tracer.phase("forward", step)
        for batch in loader:
            with accelerator.accumulate(model):
                tracer.phase("forward", step)
                outputs = model(**batch)
                loss = outputs.loss
                if not workload.keep_outputs:
                    del outputs
                tracer.phase("backward", step)
                accelerator.backward(loss)
                tracer.label([p.grad for p in model.parameters() if p.grad is not None], "gradients")
                if accelerator.sync_gradients:
                    tracer.phase("optimizer", step)
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                    step += 1
                optimizer.step()
                label_optimizer_state(tracer, optimizer.optimizer)
                optimizer.zero_grad()
        tracer.finish()

    return Program(models=(built.model,), run=run)
