"""The words the command line offers are the words the engine knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner import vocabulary
from planner.checks import check_trainable
from planner.errors import RequestError
from planner.memory import engine
from planner.memory.terms import adapters, optimizer
from planner.model import registry
from planner.request import Parallelism, ServingWorkload, TrainingWorkload

MODEL = registry.resolve("llama-1b").architecture
assert MODEL is not None


def test_methods_and_optimizers_are_those_of_the_engine() -> None:
    assert set(vocabulary.METHODS) == set(adapters.METHODS)
    assert set(vocabulary.OPTIMIZERS) == set(optimizer.optimizer_names())


@pytest.mark.parametrize("method", vocabulary.METHODS)
def test_every_method_is_estimated(method: str) -> None:
    assert MODEL is not None
    dtype = "nf4" if method in vocabulary.QUANTISED_METHODS else "bf16"
    workload = TrainingWorkload(method=method, weight_dtype=dtype)
    assert engine.estimate(MODEL, workload, Parallelism(), None).expected_bytes > 0
    try:
        check_trainable(method, "nf4")
    except RequestError:
        assert method in vocabulary.FULL_METHODS


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("optimizer", vocabulary.OPTIMIZERS),
        ("attention", vocabulary.ATTENTION),
        ("loss", vocabulary.LOSSES),
        ("objective", vocabulary.OBJECTIVES),
        ("gradient_checkpointing", vocabulary.CHECKPOINTING),
    ],
)
def test_every_word_of_training_is_estimated(field: str, words: tuple[str, ...]) -> None:
    assert MODEL is not None
    for word in words:
        workload = replace(TrainingWorkload(method="full"), **{field: word})  # type: ignore[arg-type]
        assert engine.estimate(MODEL, workload, Parallelism(), None).expected_bytes > 0


@pytest.mark.parametrize(
    ("field", "words"), [("engine", vocabulary.ENGINES), ("kv_cache_dtype", vocabulary.KV_CACHE_DTYPES)]
)
def test_every_word_of_serving_is_estimated(field: str, words: tuple[str, ...]) -> None:
    assert MODEL is not None
    for word in words:
        stored = "awq-int4" if word == "autoawq" else "bf16"
        workload = replace(ServingWorkload(weight_dtype=stored), **{field: word})  # type: ignore[arg-type]
        assert engine.estimate(MODEL, workload, Parallelism(), None).expected_bytes > 0
