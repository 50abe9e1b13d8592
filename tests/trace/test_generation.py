"""Generation traced like it runs, and its shortened middle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from planner.errors import UnsupportedError
from planner.request import PlanRequest, ServingWorkload
from tests.trace.steps_of import readable
from validate.trace import generation
from validate.trace.builder import build_for_generation
from validate.trace.events import EventLog
from validate.trace.fake import as_with_data, fake_tensors
from validate.trace.generation import generate_traced
from validate.trace.replay import replay
from validate.trace.run import make_job
from validate.trace.tracer import Tracer

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 200, "tie_word_embeddings": False,
}  # fmt: skip
WORKLOAD = ServingWorkload(
    concurrency=2, prompt_tokens=24, output_tokens=4, weight_dtype="fp32", compute_dtype="fp32"
)


def run(workload: ServingWorkload) -> EventLog:
    tracer = Tracer()
    with torch.no_grad():
        generate_traced(tracer, build_for_generation(LLAMA, workload), workload)
    return tracer.log


def trace(workload: ServingWorkload) -> EventLog:
    with fake_tensors(), as_with_data(padded=False):
        return run(workload)


def test_fake_and_real_generation_allocate_the_same_bytes_event_by_event() -> None:
    assert readable(trace(WORKLOAD)) == readable(run(WORKLOAD))


def test_leaving_out_the_middle_of_an_answer_keeps_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    long = replace(WORKLOAD, prompt_tokens=2, output_tokens=120)
    short_cut = replay(trace(long))
    monkeypatch.setattr(generation, "TRACED_TOKENS", 60)
    whole = replay(trace(long))
    assert short_cut.peak_phase == whole.peak_phase == "decode"
    assert short_cut.peak_requested_bytes == pytest.approx(whole.peak_requested_bytes, rel=0.01)


def test_engines_with_their_own_kernels_are_refused() -> None:
    request = PlanRequest(model="gpt2", workload=replace(WORKLOAD, engine="vllm"))
    with pytest.raises(UnsupportedError, match="vllm"):
        make_job(request, None)
