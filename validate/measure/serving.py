"""Real generation: prefill and decode of a batch of prompts with ``model.generate``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from planner.request import ServingWorkload
from validate.measure.meter import EnergyMeter, Meter
from validate.measure.spec import PhaseReading, RunFacts, RunSpec
from validate.measure.training import num_parameters


def serve(spec: RunSpec, model: nn.Module, meter: Meter, readings: list[PhaseReading]) -> RunFacts:
    """Answer ``concurrency`` prompts at once; encoders run one forward pass."""
    workload = spec.workload
    assert isinstance(workload, ServingWorkload)
    any_model: Any = model
    shape = (workload.concurrency, workload.prompt_tokens)
    prompts = torch.randint(0, any_model.config.vocab_size, shape, device=spec.device)
    energy = EnergyMeter(spec.device)
    with torch.no_grad():
        if spec.head in ("causal-lm", "seq2seq-lm") and workload.output_tokens:
            _generate(any_model, workload, prompts, meter, energy)
        else:
            with meter.phase("prefill"):
                any_model(prompts)
    joules, watts = energy.stop()
    return _facts(workload, model, readings, joules, watts)


def _generate(
    model: Any, workload: ServingWorkload, prompts: torch.Tensor, meter: Meter, energy: EnergyMeter
) -> None:
    from transformers import StoppingCriteria, StoppingCriteriaList

    phases = ExitStack()

    class PrefillEnds(StoppingCriteria):  # type: ignore[misc]
        """Called after every token: the first one ends the prefill."""

        seen = False

        def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            if not self.seen:
                self.seen = True
                phases.close()
                energy.start()
                phases.enter_context(meter.phase("decode"))
            return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    with phases:
        phases.enter_context(meter.phase("prefill"))
        model.generate(
            input_ids=prompts, attention_mask=torch.ones_like(prompts), do_sample=False, pad_token_id=0,
            min_new_tokens=workload.output_tokens, max_new_tokens=workload.output_tokens,
            stopping_criteria=StoppingCriteriaList([PrefillEnds()]),
        )  # fmt: skip


def _facts(
    workload: ServingWorkload, model: nn.Module, readings: list[PhaseReading], joules: float | None,
    watts: float | None,
) -> RunFacts:  # fmt: skip
    decode = sum(reading.seconds for reading in readings if reading.phase == "decode")
    tokens = workload.concurrency * max(0, workload.output_tokens - 1)
    rate = tokens / decode if decode and tokens else None
    total = num_parameters(model)
    return RunFacts(
        params_total=total, step_s=decode / max(1, workload.output_tokens - 1) if decode else None,
        tokens_per_s=rate, flops_per_s=None if rate is None else rate * 2 * total, power_w=watts, energy_j=joules,
    )  # fmt: skip
