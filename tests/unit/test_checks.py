from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from planner.checks import check_request
from planner.errors import PlannerError, RequestError, UnsupportedError
from planner.request import (
    AdapterSpec,
    HardwareWish,
    Parallelism,
    PlanRequest,
    ServingWorkload,
    TrainingWorkload,
)


def train(**changes: object) -> PlanRequest:
    return PlanRequest(model="m", workload=replace(TrainingWorkload(), **changes))  # type: ignore[arg-type]


def serve(**changes: object) -> PlanRequest:
    return PlanRequest(model="m", workload=replace(ServingWorkload(), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "request_",
    [
        train(batch_size=-1),
        train(batch_size=0),
        train(seq_len=10**30),
        train(adapter=AdapterSpec(rank=0)),
        train(adapter=AdapterSpec(target_modules=())),
        train(adapter=AdapterSpec(dropout=float("nan"))),
        train(optimizer="adamm"),
        train(method="full", weight_dtype="int8"),
        train(method="full", weight_dtype="nf4"),
        train(method="qlora", weight_dtype="bf16"),
        train(attention="flash-attention-2", compute_dtype="fp32"),
        serve(concurrency=0),
        serve(gpu_memory_utilization=float("inf")),
        serve(prompt_tokens=4096, max_model_len=1024),
        replace(serve(), hardware=HardwareWish(max_usd_per_hour=Decimal("NaN"))),
        replace(serve(), hardware=HardwareWish(num_gpus=-2)),
        replace(serve(), parallelism=Parallelism(dp_shard=2)),
        replace(train(), parallelism=Parallelism(dp_shard=2), hardware=HardwareWish(num_gpus=3)),
        replace(train(), model=" "),
    ],
)
def test_impossible_requests_are_refused(request_: PlanRequest) -> None:
    with pytest.raises(RequestError) as caught:
        check_request(request_)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("engine", "instead"), [("ollama", "llama.cpp"), ("LM Studio", "llama.cpp"), ("TGI", "vllm")]
)
def test_engines_without_formulas_are_refused_by_name_with_the_nearest_one(engine: str, instead: str) -> None:
    with pytest.raises(UnsupportedError, match=engine) as caught:
        check_request(serve(engine=engine))
    assert f"--engine {instead}" in (caught.value.hint or "")


def test_a_quantised_model_is_not_fully_fine_tuned_and_the_way_out_is_named() -> None:
    with pytest.raises(RequestError) as caught:
        check_request(train(method="full", weight_dtype="int8"))
    assert "qlora" in str(caught.value.hint)


def test_formats_no_trainer_reads_are_unsupported() -> None:
    with pytest.raises(UnsupportedError):
        check_request(train(method="lora", weight_dtype="gguf-q4_0"))


def test_a_typo_names_the_near_miss() -> None:
    with pytest.raises(PlannerError) as caught:
        check_request(train(optimizer="adamw-8bits"))
    assert "adamw-8bit" in str(caught.value.hint)


@pytest.mark.parametrize("request_", [train(), serve(), train(method="qlora", weight_dtype="nf4-dq")])
def test_defaults_pass(request_: PlanRequest) -> None:
    assert check_request(request_) == ()


@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto", "ppo", "grpo", "reward"])
def test_preference_and_rl_objectives_pass(objective: str) -> None:
    assert check_request(train(objective=objective)) == ()
