"""Advice is checked by taking it: what is said to fit fits, what is said to save saves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hardware_db import catalog
from planner.advice import advise
from planner.changes import Price
from planner.memory import engine
from planner.model import registry
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism, ServingWorkload, TrainingWorkload

FULL = TrainingWorkload(method="full", batch_size=4, seq_len=2048, gradient_checkpointing="none")


@pytest.fixture(scope="module")
def llama() -> ModelArchitecture:
    found = registry.resolve("meta-llama/Llama-3.1-8B").architecture
    assert found is not None
    return found


def test_every_change_fits_and_saves_what_it_says(llama: ModelArchitecture) -> None:
    gpu = catalog.find_gpu("a100-sxm4-80gb")
    advice = advise(llama, FULL, Parallelism(), gpu)
    before = engine.estimate(llama, FULL, Parallelism(), gpu).expected_bytes
    assert not advice.fits
    assert advice.changes
    for change in advice.changes:
        after = engine.estimate(llama, change.workload, change.parallelism, gpu)
        assert after.high_bytes <= gpu.memory_bytes
        assert change.saved_bytes == before - after.expected_bytes


def test_the_cheapest_kind_of_change_comes_first(llama: ModelArchitecture) -> None:
    changes = advise(llama, FULL, Parallelism(), catalog.find_gpu("a100-sxm4-80gb")).changes
    assert [change.price for change in changes] == sorted(change.price for change in changes)


def test_lora_is_advised_where_full_fine_tuning_is_hopeless(llama: ModelArchitecture) -> None:
    advice = advise(llama, FULL, Parallelism(), catalog.find_gpu("rtx-4090"))
    assert any("LoRA" in " ".join(change.labels) for change in advice.changes)
    quality = [change for change in advice.changes if change.price is Price.QUALITY]
    assert all(change.sources for change in quality)


def test_a_plan_that_fits_gets_its_next_saving(llama: ModelArchitecture) -> None:
    workload = TrainingWorkload(method="lora", batch_size=2, seq_len=512, gradient_checkpointing="none")
    advice = advise(llama, workload, Parallelism(), catalog.find_gpu("h100"))
    assert advice.fits
    assert any("checkpoint" in " ".join(change.labels) for change in advice.changes)
    recomputed = [change for change in advice.changes if change.labels == ("checkpoint activations",)]
    assert recomputed[0].slowdown is not None
    assert 1.1 < recomputed[0].slowdown < 1.6


def test_more_gpus_are_the_last_resort_and_help(llama: ModelArchitecture) -> None:
    workload = ServingWorkload(engine="transformers", weight_dtype="nf4", concurrency=1, prompt_tokens=512)
    seventy = registry.resolve("meta-llama/Llama-3.1-70B").architecture
    assert seventy is not None
    advice = advise(seventy, workload, Parallelism(), catalog.find_gpu("rtx-4090"))
    assert not advice.fits
    assert {change.price for change in advice.changes} == {Price.HARDWARE}
    assert llama.params_total < seventy.params_total


def test_what_a_gpu_lacks_is_said(llama: ModelArchitecture) -> None:
    workload = TrainingWorkload(method="lora", seq_len=128)
    texts = [warning.text for warning in advise(llama, workload, Parallelism(), catalog.find_gpu("t4")).warnings]
    assert any("no bf16 units" in text for text in texts)
    serving = ServingWorkload(weight_dtype="fp8", engine="vllm", prompt_tokens=128)
    texts = [warning.text for warning in advise(llama, serving, Parallelism(), catalog.find_gpu("a100")).warnings]
    assert any("no fp8 units" in text for text in texts)
    assert not advise(llama, serving, Parallelism(), catalog.find_gpu("h100")).warnings


def test_low_bits_and_slow_links_are_said(llama: ModelArchitecture) -> None:
    serving = ServingWorkload(weight_dtype="gptq-int3", prompt_tokens=128)
    warnings = advise(llama, serving, Parallelism(), catalog.find_gpu("h100")).warnings
    assert [warning.source for warning in warnings if "below 4 bits" in warning.text] != [None]
    sharded = replace(FULL, batch_size=1, seq_len=256)
    texts = [
        w.text for w in advise(llama, sharded, Parallelism(dp_shard=8), catalog.find_gpu("rtx-3090")).warnings
    ]
    assert any("link" in text for text in texts)
