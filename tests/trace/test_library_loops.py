"""The libraries' own loops, traced, are true: on real CPU tensors they allocate and free the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch

from planner.errors import UnsupportedError
from planner.request import AdapterSpec, EvaluationSpec, PlanRequest, TrainingWorkload
from tests.trace.steps_of import Config, readable, workload
from validate.trace.builder import build_model
from validate.trace.events import EventLog
from validate.trace.job import Loop, TraceJob
from validate.trace.programs import library_program
from validate.trace.steps import adopt_model
from validate.trace.tracer import Tracer
from validate.trace.worker import run_job

LLAMA: Config = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 200, "tie_word_embeddings": False,
}  # fmt: skip
BERT: Config = {
    "model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
    "num_attention_heads": 4, "vocab_size": 200, "max_position_embeddings": 64,
}  # fmt: skip
T5: Config = {
    "model_type": "t5", "d_model": 64, "d_ff": 128, "d_kv": 16, "num_layers": 1, "num_heads": 4, "vocab_size": 200,
    "decoder_start_token_id": 0,
}  # fmt: skip
LORA: dict[str, Any] = {"method": "lora", "adapter": AdapterSpec(rank=4)}
QLORA: dict[str, Any] = {"method": "qlora", "weight_dtype": "nf4-dq", "adapter": AdapterSpec(rank=4)}
GATHERING = EvaluationSpec(batch_size=2, num_samples=6, gathers_logits=True)
MOVING = EvaluationSpec(batch_size=2, num_samples=6, gathers_logits=True, accumulation_steps=1)

CASES: dict[str, tuple[Loop, Config, dict[str, Any]]] = {
    "trainer, full, accumulated": ("trainer", LLAMA, {"gradient_accumulation_steps": 2}),
    "trainer, fp32 in autocast": ("trainer", LLAMA, {"weight_dtype": "fp32", "autocast": True}),
    "trainer, 8-bit adamw": ("trainer", LLAMA, {"optimizer": "adamw-8bit"}),
    "trainer, lora, checkpointed": ("trainer", LLAMA, LORA | {"gradient_checkpointing": "full"}),
    "trainer, qlora": ("trainer", LLAMA, QLORA),
    "trainer, bert, padded": ("trainer", BERT, {"padding_mask": True}),
    "trainer, t5": ("trainer", T5, {}),
    "trainer, evaluating": ("trainer", LLAMA, {"evaluation": GATHERING}),
    "trainer, evaluating in pieces": ("trainer", LLAMA, {"evaluation": MOVING}),
    "trl, full": ("trl", LLAMA, {}),
    "trl, lora": ("trl", LLAMA, LORA),
    "trl, qlora": ("trl", LLAMA, QLORA),
    "trl, evaluating": ("trl", LLAMA, LORA | {"evaluation": EvaluationSpec(batch_size=4, num_samples=6)}),
    "trl, dpo, full": ("trl", LLAMA, {"objective": "dpo"}),
    "trl, dpo, lora": ("trl", LLAMA, LORA | {"objective": "dpo"}),
    "accelerate, accumulated": ("accelerate", LLAMA, {"gradient_accumulation_steps": 2, "keep_outputs": True}),
    "accelerate, qlora": ("accelerate", LLAMA, QLORA),
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps the settings of the first loop of a process."""
    yield
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


def job(loop: Loop, config: Config, asked: TrainingWorkload) -> TraceJob:
    return TraceJob(
        request=PlanRequest(model="test", workload=asked), config=config, compute_capability=None,
        seq_lens=(asked.seq_len,) * 2, loop=loop, upcast_quantised=loop != "trl", device="cpu",
    )  # fmt: skip


def on_real_tensors(asked: TraceJob) -> EventLog:
    torch.manual_seed(0)
    built = build_model(asked.config, asked.training, initialise=True, upcast_quantised=asked.upcast_quantised)
    program = library_program(asked, built)
    tracer = Tracer()
    with ExitStack() as stack:
        stack.enter_context(tracer)
        stack.enter_context(tracer.watch(built.model))
        for model in program.models:
            adopt_model(tracer, model)
        program.run(tracer)
    return tracer.log


@pytest.mark.parametrize("name", CASES)
def test_a_traced_library_loop_allocates_what_the_real_one_does(name: str) -> None:
    loop, config, changes = CASES[name]
    asked = job(loop, config, workload(**changes))
    real = readable(on_real_tensors(asked))
    assert readable(run_job(asked)) == real
    phases = {(row[1], row[2]) for row in real if row[0] == "PHASE"}
    assert {("forward", 1), ("backward", 1), ("optimizer", 1)} <= phases
    assert (("eval", 1) in phases) == (asked.training.evaluation is not None)


def peak(log: EventLog, phase: str) -> int:
    from validate.trace.replay import replay

    return max(each.allocated_bytes for each in replay(log).phases if each.phase == phase)


def test_gathered_logits_grow_with_the_evaluation_until_they_are_moved() -> None:
    def evaluated(num_samples: int, accumulation_steps: int | None) -> int:
        evaluation = EvaluationSpec(
            batch_size=2, num_samples=num_samples, gathers_logits=True, accumulation_steps=accumulation_steps
        )
        return peak(run_job(job("trainer", LLAMA, workload(evaluation=evaluation, seq_len=64))), "eval")

    logits = 64 * 200 * 2
    assert evaluated(24, None) - evaluated(12, None) >= 12 * logits
    assert evaluated(24, 1) == evaluated(12, 1) < evaluated(12, None)


def test_the_head_of_trl_builds_no_logits_and_qlora_adapters_are_bf16() -> None:
    wide = LLAMA | {"vocab_size": 40000}
    asked = workload(**QLORA, seq_len=128)
    log = run_job(job("trl", wide, asked))
    assert max(first for kind, first, *_ in log.rows if kind.name == "ALLOC") < 2 * 128 * 40000 * 4
    rank_weights = [row for row in log.rows if row[0].name == "ALLOC" and log.names[row[2]] == "to"]
    assert min(row[1] for row in rank_weights if row[1] >= 4 * 64 * 2) == 4 * 64 * 2


def test_dpo_outside_of_trl_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="as TRL runs it"):
        run_job(job("trainer", LLAMA, workload(objective="dpo")))


def test_an_evaluation_that_generates_is_refused() -> None:
    evaluation = EvaluationSpec(generate_max_new_tokens=8)
    with pytest.raises(UnsupportedError, match="generates"):
        run_job(job("trainer", LLAMA, workload(evaluation=evaluation)))
