"""The largest job that fits: at the edge, one more does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hardware_db.catalog import find_gpu
from planner.memory.capacity import capacities, largest
from planner.memory.engine import estimate
from planner.memory.pools import pools
from planner.model.architecture import ModelArchitecture
from planner.model.registry import resolve
from planner.request import Parallelism, ServingWorkload, TrainingWorkload

ONE = Parallelism()
GPU = find_gpu("RTX 4090")


def model(name: str) -> ModelArchitecture:
    architecture = resolve(name).architecture
    assert architecture is not None
    return architecture


@pytest.mark.parametrize("edge", [0, 1, 2, 3, 7, 64, 65, 999, 1000])
def test_the_edge_is_found(edge: int) -> None:
    assert largest(lambda value: value <= edge, 1000) == edge


@pytest.mark.parametrize(
    ("name", "workload"),
    [
        ("meta-llama/Llama-2-7b-hf", ServingWorkload(prompt_tokens=512, output_tokens=128)),
        ("meta-llama/Llama-3.2-1B", TrainingWorkload(seq_len=1024)),
    ],
)
def test_one_more_does_not_fit(name: str, workload: TrainingWorkload | ServingWorkload) -> None:
    width, length = capacities(model(name), workload, ONE, GPU)
    assert width.largest > 1
    for capacity in (width, length):
        fitting = replace(workload, **{capacity.field: capacity.largest})
        assert estimate(model(name), fitting, ONE, GPU).expected_bytes <= GPU.memory_bytes
        if not capacity.limited_by_model:
            larger = replace(workload, **{capacity.field: capacity.largest + 1})
            assert estimate(model(name), larger, ONE, GPU).expected_bytes > GPU.memory_bytes


def test_what_does_not_fit_at_all_has_no_capacity() -> None:
    width, length = capacities(model("meta-llama/Llama-2-70b-hf"), ServingWorkload(), ONE, GPU)
    assert (width.largest, length.largest) == (0, 0)


def test_vllm_holds_what_its_pool_holds() -> None:
    workload = ServingWorkload(engine="vllm", prompt_tokens=1000, output_tokens=24)
    llama = model("meta-llama/Llama-2-7b-hf")
    width, _ = capacities(llama, workload, ONE, GPU)
    tokens = pools(llama, workload, ONE, GPU).kv_cache_tokens
    assert tokens is not None
    assert width.largest == tokens.expected // 1024


def test_the_model_may_end_before_the_memory() -> None:
    _, length = capacities(model("meta-llama/Llama-2-7b-hf"), ServingWorkload(), ONE, find_gpu("H200"))
    assert length.limited_by_model
    assert length.largest == 4096 - ServingWorkload().output_tokens


def test_the_engines_own_limits_hold_before_the_memory_does() -> None:
    workload = ServingWorkload(
        engine="vllm", max_num_seqs=5, max_model_len=3000, prompt_tokens=100, output_tokens=20
    )
    width, length = capacities(model("meta-llama/Llama-2-7b-hf"), workload, ONE, find_gpu("H200"))
    assert width.largest == 5
    assert (length.largest, length.limited_by_model) == (2980, True)
