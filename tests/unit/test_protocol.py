"""A run in a fresh process: what it reports, and what is made of a child that fails, is killed or falls silent."""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

from planner.errors import EnvironmentProblemError, PlannerError, UnsupportedError
from planner.request import (
    AdapterSpec,
    EvaluationSpec,
    Parallelism,
    PlanRequest,
    ServingWorkload,
    TrainingWorkload,
)
from planner.units import GIB, MIB
from tests.trace.ranks_of import largest_sent_bytes
from validate.measure.protocol import run
from validate.measure.spec import RunResult, RunSpec
from validate.trace.blocks import MIN_BLOCK_BYTES
from validate.trace.child import run_in_subprocess
from validate.trace.job import TraceJob
from validate.trace.replay import replay

TINY = {
    "model_type": "llama", "vocab_size": 1024, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}  # fmt: skip
LORA = TrainingWorkload(method="lora", seq_len=64, adapter=AdapterSpec(rank=8))


def spec(workload: TrainingWorkload | ServingWorkload = LORA, **changes: object) -> RunSpec:
    values = {"model": "tiny", "config": TINY, "workload": workload, "device": "cpu", "steps": 2}
    return RunSpec(**(values | changes))  # type: ignore[arg-type]


def ends(result: RunResult) -> dict[str, int]:
    return {reading.phase: reading.allocated_end_bytes for reading in result.phases}


def children_of_this_process() -> list[int]:
    return [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]


def test_a_step_reports_every_phase_and_what_stays_between_them() -> None:
    evaluated = TrainingWorkload(
        method="full", seq_len=64, optimizer="adamw", gradient_checkpointing="none",
        evaluation=EvaluationSpec(batch_size=2, num_samples=8, gathers_logits=True),
    )  # fmt: skip
    result = run(spec(evaluated))
    assert result.outcome == "ok", result.detail
    phases = [(reading.phase, reading.step) for reading in result.phases]
    step = ["forward", "backward", "optimizer step"]
    assert phases == [("load", 0), *((name, 0) for name in step), *((name, 1) for name in step), ("eval", 0)]
    assert result.facts is not None
    assert result.facts.params_trainable == result.facts.params_total == 139_584
    params_bytes = 2 * result.facts.params_total
    left = ends(result)
    assert left["load"] == pytest.approx(params_bytes, rel=0.02)
    assert left["optimizer step"] - left["load"] == pytest.approx(2 * params_bytes, rel=0.05)
    assert left["backward"] - left["optimizer step"] == pytest.approx(params_bytes, rel=0.05)
    logits_of_all_samples = 8 * 64 * 1024 * 2
    assert (result.peak("allocated", "eval") or 0) - left["optimizer step"] > logits_of_all_samples
    assert result.facts.tokens_per_s is not None
    assert result.software["torch"].startswith("2.")


def test_generation_is_told_apart_into_prefill_and_decode() -> None:
    result = run(spec(ServingWorkload(prompt_tokens=32, output_tokens=8)))
    assert result.outcome == "ok", result.detail
    assert [reading.phase for reading in result.phases] == ["load", "prefill", "decode"]


@pytest.mark.parametrize(
    "parallelism", [Parallelism(dp_shard=2), Parallelism(dp_replicate=2)], ids=["FSDP2", "DDP"]
)
def test_two_ranks_take_what_a_trace_of_one_says(parallelism: Parallelism) -> None:
    workload = TrainingWorkload(method="full", seq_len=32, gradient_accumulation_steps=2)
    result = run(spec(workload, runner="accelerate", parallelism=parallelism))
    assert result.outcome == "ok", result.detail
    loads = [reading for reading in result.phases if reading.phase == "load"]
    assert len(loads) == 2
    assert result.facts is not None
    held = 2 * result.facts.params_total // parallelism.dp_shard
    buckets = held if parallelism.dp_replicate > 1 else 0
    left = [reading.allocated_end_bytes for reading in loads]
    assert left == pytest.approx([held + buckets] * 2, rel=0.03)
    assert max(left) - min(left) <= MIN_BLOCK_BYTES
    job = TraceJob(
        request=PlanRequest(model="tiny", workload=workload, parallelism=parallelism), config=TINY,
        compute_capability=None, seq_lens=(32, 32), device="cpu",
    )  # fmt: skip
    log = run_in_subprocess(job, timeout_s=200, memory_bytes=6 * GIB)
    traced = replay(log).peak_allocated_bytes
    assert 0.97 * traced <= (result.peak("allocated") or 0) <= 1.03 * traced + largest_sent_bytes(log)


def test_what_is_not_run_over_several_gpus_is_refused_by_name() -> None:
    for workload, parallelism, named in (
        (TrainingWorkload(seq_len=32), Parallelism(tp=2), "tensor parallelism"),
        (TrainingWorkload(seq_len=32), Parallelism(dp_shard=2, zero_stage=1), "ZeRO stage 1"),
        (ServingWorkload(), Parallelism(tp=2), "serving over several"),
    ):
        with pytest.raises(UnsupportedError, match=named):
            run(spec(workload, runner="accelerate", parallelism=parallelism))
    with pytest.raises(UnsupportedError, match="trainer runner over several"):
        run(spec(runner="trainer", parallelism=Parallelism(dp_replicate=2)))


def test_deepspeed_is_refused_by_the_name_of_its_package() -> None:
    zero = spec(
        TrainingWorkload(seq_len=32, framework="deepspeed"), runner="accelerate",
        parallelism=Parallelism(dp_shard=2, zero_stage=1),
    )  # fmt: skip
    with pytest.raises(PlannerError, match="DeepSpeed") as refused:
        run(zero)
    installed = find_spec("deepspeed") is not None
    assert refused.type is (UnsupportedError if installed else EnvironmentProblemError)


def test_running_out_of_memory_is_a_result_with_its_message_and_phases() -> None:
    greedy = TrainingWorkload(method="full", batch_size=64, seq_len=8192, gradient_checkpointing="none")
    result = run(spec(greedy, memory_limit_bytes=200 * MIB))
    assert result.outcome == "out of memory"
    assert "tried to allocate" in result.detail
    assert result.phases[-1].phase == "forward"
    loaded = result.peak("allocated", "load")
    assert loaded is not None
    assert loaded < (result.peak("allocated", "forward") or 0)


@pytest.mark.parametrize(
    ("sent", "outcome", "detail"),
    [
        (signal.SIGKILL, "killed", "SIGKILL"),
        (signal.SIGSEGV, "crashed", "SIGSEGV"),
        (signal.SIGSTOP, "hung", "8 s"),
    ],
)
def test_a_child_that_ends_badly_is_a_result_and_is_gone(sent: signal.Signals, outcome: str, detail: str) -> None:
    seen: list[int] = []

    def interfere(text: str) -> None:
        if text == "importing libraries":
            seen.extend(children_of_this_process())
            os.kill(seen[-1], sent)

    result = run(spec(), progress=interfere, silence_s=8.0 if outcome == "hung" else 60.0)
    assert result.outcome == outcome
    assert detail in result.detail
    assert not Path(f"/proc/{seen[-1]}").exists()


def test_what_is_not_measured_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="dpo"):
        run(spec(TrainingWorkload(objective="dpo", seq_len=32)))
