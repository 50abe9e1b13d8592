"""From typed values to requests and back to a command line that asks for the same."""

from __future__ import annotations

import shlex

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import vocabulary
from planner.changes import possible_steps, together
from planner.errors import PlannerError, RequestError
from planner.request import Parallelism, ServingWorkload, TrainingWorkload
from tui.cli.shared.options import request_options
from tui.command_line import command_line
from tui.request_builder import Asked, build, build_one


def parse(*args: str) -> dict[str, object]:
    """The values click hands over for ``args``."""
    seen: dict[str, object] = {}

    @click.command
    @request_options
    def command(**values: object) -> None:
        seen.update(values)

    result = CliRunner().invoke(command, list(args), standalone_mode=False)
    if result.exception:
        raise result.exception
    return seen


def ask(*args: str) -> Asked:
    return build(parse(*args))


def test_a_bare_question_is_an_overview_of_what_the_weights_allow() -> None:
    asked = ask("--model", "llama-70b", "--bits", "16")
    tasks = [(request.task, getattr(request.workload, "method", "")) for request in asked.requests]
    assert tasks == [("serve", ""), ("train", "lora"), ("train", "full")]


def test_four_bits_leave_out_full_fine_tuning_and_say_why() -> None:
    asked = ask("--model", "llama-70b", "--bits", "4")
    assert [getattr(request.workload, "method", "serve") for request in asked.requests] == ["serve", "qlora"]
    assert "full fine-tuning" in asked.refusals[0]
    assert "--bits 16" in asked.refusals[0]


def test_lora_over_four_bit_weights_is_qlora() -> None:
    request = build_one(parse("--model", "llama-70b", "--bits", "4", "--method", "lora"))
    assert isinstance(request.workload, TrainingWorkload)
    assert (request.workload.method, request.workload.weight_dtype) == ("qlora", "nf4-dq")


def test_qlora_needs_no_bits() -> None:
    request = build_one(parse("--model", "llama-70b", "--method", "qlora"))
    assert request.workload.weight_dtype == "nf4-dq"


def test_arithmetic_follows_the_storage_of_plain_weights() -> None:
    serving = ask("--model", "llama-70b", "--bits", "32", "--task", "serve").requests[0].workload
    assert isinstance(serving, ServingWorkload)
    assert (serving.compute_dtype, serving.kv_cache_dtype) == ("fp32", "fp32")


def test_gpus_beyond_the_named_degrees_become_data_parallel_ranks() -> None:
    request = build_one(parse("--model", "llama-70b", "--method", "full", "--tp", "2", "--num-gpus", "8"))
    assert request.parallelism is not None
    assert (request.parallelism.tp, request.parallelism.dp_shard) == (2, 4)


def test_a_sequence_length_bounds_prompt_and_answer_when_serving() -> None:
    serving = ask("--model", "llama-70b", "--task", "serve", "--seq-len", "8192").requests[0].workload
    assert isinstance(serving, ServingWorkload)
    assert serving.context_tokens == 8192


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("--model", "m", "--bits", "5"), "5"),
        (("--bits", "4"), "no model"),
        (("--model", "m", "--params", "7B"), "exclude"),
        (("--model", "m", "--bits", "4", "--weight-dtype", "nf4"), "exclude"),
        (("--model", "m", "--task", "serve", "--method", "lora"), "--method"),
        (("--model", "m", "--batch-size", "many"), "whole number"),
        (("--model", "m", "--batch-size", "9" * 5000), "whole number"),
        (("--model", "m", "--max-usd-per-hour", "cheap"), "amount"),
        (("--model", "m", "--min-memory", "big"), "memory size"),
        (("--model", "m", "--optimizer", "adamm"), "adamm"),
    ],
)
def test_nonsense_is_refused_in_one_line(args: tuple[str, ...], word: str) -> None:
    with pytest.raises(RequestError) as caught:
        ask(*args)
    assert word in caught.value.message
    assert "\n" not in caught.value.message


COUNTS = st.integers(1, 4096)
REQUESTS = st.fixed_dictionaries(
    {"--task": st.sampled_from(["train", "serve"])},
    optional={
        "--batch-size": COUNTS,
        "--optimizer": st.sampled_from(vocabulary.OPTIMIZERS),
        "--attention": st.sampled_from(vocabulary.ATTENTION),
        "--lora-rank": COUNTS,
        "--lora-targets": st.sampled_from(["q_proj,v_proj", "all-linear", "c_attn"]),
        "--gradient-checkpointing": st.sampled_from(vocabulary.CHECKPOINTING),
        "--bits": st.sampled_from(["32", "16", "8", "4"]),
        "--weight-dtype": st.sampled_from(["bf16", "nf4", "gptq-int4", "fp8"]),
        "--compute-dtype": st.sampled_from(vocabulary.COMPUTE_DTYPES),
        "--eval-batch-size": COUNTS,
        "--gpu": st.sampled_from(["A100 80GB", "H100"]),
        "--max-usd-per-hour": st.decimals("0.01", "100", places=2),
        "--tp": st.sampled_from([1, 2, 4]),
        "--zero-stage": st.sampled_from([1, 2, 3]),
        "--engine": st.sampled_from(vocabulary.ENGINES),
        "--loss": st.sampled_from(vocabulary.LOSSES),
        "--prompt-tokens": COUNTS,
    },
)


@settings(deadline=None, max_examples=150)
@given(options=REQUESTS, switches=st.sets(st.sampled_from(["--autocast", "--no-cuda-graphs", "--spot", "--ema"])))
def test_the_command_line_of_a_request_asks_for_the_same_request(
    options: dict[str, object], switches: set[str]
) -> None:
    args = ["--model", "llama-70b", *switches]
    for flag, value in options.items():
        args += [flag, str(value)]
    try:
        request = build_one(parse(*args))
    except PlannerError:
        return
    assert build_one(parse(*command_line(request)[1:])) == request


@pytest.mark.parametrize(
    ("args", "stored"),
    [
        (("--engine", "llama.cpp", "--bits", "4"), "gguf-q4_k_m"),
        (("--engine", "llama.cpp"), "gguf-f16"),
        (("--engine", "autoawq"), "awq-int4"),
        (("--engine", "vllm", "--bits", "4"), "nf4"),
    ],
)
def test_bits_mean_what_the_engine_serves_from(args: tuple[str, ...], stored: str) -> None:
    assert ask("--model", "llama-70b", "--task", "serve", *args).requests[0].workload.weight_dtype == stored


def test_lengths_that_are_not_typed_stay_within_the_models_positions() -> None:
    serving, training, _ = (request.workload for request in ask("--model", "bert-base-uncased").requests)
    assert isinstance(serving, ServingWorkload)
    assert isinstance(training, TrainingWorkload)
    assert (serving.prompt_tokens, serving.output_tokens, training.seq_len) == (512, 0, 512)
    typed = build_one(parse("--model", "bert-base-uncased", "--method", "lora", "--seq-len", "1024")).workload
    assert isinstance(typed, TrainingWorkload)
    assert typed.seq_len == 1024
    short = ask("--model", "llama-70b", "--task", "serve", "--max-model-len", "1024").requests[0].workload
    assert isinstance(short, ServingWorkload)
    assert short.context_tokens == 1024


@pytest.mark.parametrize(
    "question",
    [
        "--method full --batch-size 8 --attention eager --gradient-checkpointing none --keep-outputs",
        "--method lora --weight-dtype fp32 --optimizer adamw-fused --batch-size 2",
        "--method qlora --weight-dtype nf4",
        "--method full --dp-replicate 4",
        "--method full --dp-shard 4 --zero-stage 2",
        "--method full --dp-shard 4",
        "--task serve --batch-size 8 --prompt-tokens 4096",
        "--task serve --engine vllm --tp 2",
    ],
)
def test_what_is_advised_is_typed_as_it_says(question: str) -> None:
    base = ("--model", "llama-8b", *shlex.split(question))
    request = build_one(parse(*base))
    spread = request.parallelism or Parallelism()
    steps = list(possible_steps(request.workload, spread))
    assert steps
    for step in steps:
        typed = build_one(parse(*base, *shlex.split(step.option)))
        assert (typed.workload, typed.parallelism or Parallelism()) == together(request.workload, spread, [step])
