"""The speed model against closed forms, its own limits, and the published speeds it must explain."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest

from hardware_db import catalog
from planner.errors import UnsupportedError
from planner.model import registry
from planner.model.architecture import ModelArchitecture
from planner.request import AdapterSpec, Parallelism, ServingWorkload, TrainingWorkload
from planner.throughput import (
    ServingThroughput,
    TrainingThroughput,
    model_flops_per_token,
    throughput,
    training,
)
from planner.throughput.constants import document, overridden
from planner.throughput.device import device_of, stack
from planner.throughput.flops import average_keys, forward_flops_per_token, logits_flops_per_token

FULL = TrainingWorkload(method="full", batch_size=4, seq_len=2048, gradient_checkpointing="none")


def model(name: str) -> ModelArchitecture:
    found = registry.resolve(name).architecture
    assert found is not None
    return found


def train(workload: TrainingWorkload, gpu: str = "h100", **degrees: int) -> TrainingThroughput:
    speed = throughput(model("meta-llama/Llama-3.1-8B"), workload, Parallelism(**degrees), catalog.find_gpu(gpu))
    assert isinstance(speed, TrainingThroughput)
    return speed


def serve(workload: ServingWorkload, gpu: str = "h100", **degrees: int) -> ServingThroughput:
    speed = throughput(model("meta-llama/Llama-3.1-8B"), workload, Parallelism(**degrees), catalog.find_gpu(gpu))
    assert isinstance(speed, ServingThroughput)
    return speed


@pytest.mark.parametrize(
    "name", ["meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-v0.1", "openai-community/gpt2"]
)
def test_a_training_token_costs_six_operations_per_weight_in_a_matrix(name: str) -> None:
    architecture = model(name)
    in_matrices = architecture.params_total - architecture.embedding_params
    if architecture.tie_word_embeddings:
        in_matrices += architecture.vocab_size * architecture.hidden_size
    # One token attends to half a key on average, so attention vanishes and 6N remains.
    assert model_flops_per_token(architecture, replace(FULL, seq_len=1)) == pytest.approx(
        6 * in_matrices, rel=2e-3
    )


def test_attention_adds_what_the_closed_form_says() -> None:
    architecture = model("meta-llama/Llama-2-7b-hf")
    short = forward_flops_per_token(architecture, 1)
    long = forward_flops_per_token(architecture, 4096)
    assert long - short == pytest.approx(32 * 4 * 4096 * (4096 - 1) / 2)


def test_adapters_skip_the_gradients_of_frozen_weights() -> None:
    architecture = model("meta-llama/Llama-2-7b-hf")
    full = model_flops_per_token(architecture, FULL)
    lora = model_flops_per_token(architecture, replace(FULL, method="lora"))
    assert lora == pytest.approx(full * 2 / 3)


def test_only_active_experts_are_computed() -> None:
    architecture = model("mistralai/Mixtral-8x7B-v0.1")
    assert forward_flops_per_token(architecture, 1) == pytest.approx(2 * architecture.params_active, rel=0.02)


def test_a_window_bounds_the_keys_a_query_sees() -> None:
    group = model("mistralai/Mistral-7B-v0.1").groups[0]
    assert average_keys(group, 2048) == 1024
    assert average_keys(group, 1_000_000) == pytest.approx(4096, rel=0.01)


def test_encoders_have_no_logits_and_do_not_generate() -> None:
    encoder = model("google-bert/bert-base-uncased")
    speed = throughput(encoder, replace(FULL, seq_len=512), Parallelism(), catalog.find_gpu("a100"))
    assert speed.num_gpus == 1
    with pytest.raises(UnsupportedError):
        throughput(encoder, ServingWorkload(), Parallelism(), catalog.find_gpu("a100"))
    assert logits_flops_per_token(model("meta-llama/Llama-2-7b-hf")) == 2 * 4096 * 32000


def test_a_gpu_whose_rates_are_unknown_is_refused() -> None:
    unknown = replace(catalog.find_gpu("h100"), dense_flops_per_s={})
    with pytest.raises(UnsupportedError, match="16-bit rate"):
        throughput(model("meta-llama/Llama-3.1-8B"), FULL, Parallelism(), unknown)


def test_recomputation_lengthens_a_step_by_less_than_a_forward_pass() -> None:
    plain = train(FULL).step_time_s.expected
    recomputed = train(replace(FULL, gradient_checkpointing="full")).step_time_s.expected
    assert 1.15 < recomputed / plain < 1.40


def test_dequantisation_slows_training_and_speeds_up_decode() -> None:
    lora = replace(FULL, method="lora", batch_size=1, seq_len=512)
    qlora = replace(lora, method="qlora", weight_dtype="nf4")
    assert train(qlora).step_time_s.expected > train(lora).step_time_s.expected
    serving = ServingWorkload(engine="vllm", prompt_tokens=128)
    packed = replace(serving, weight_dtype="gptq-int4")
    assert serve(packed).tpot_s.expected < serve(serving).tpot_s.expected


def test_eager_decode_is_bound_by_its_launches() -> None:
    eager = serve(ServingWorkload(engine="transformers"))
    assert eager.bound_by == "host"
    assert eager.tpot_s.expected > 1.5 * serve(ServingWorkload(engine="vllm")).tpot_s.expected


def test_batching_raises_throughput_and_time_per_token() -> None:
    alone = serve(ServingWorkload(engine="vllm", concurrency=1))
    crowd = serve(ServingWorkload(engine="vllm", concurrency=64))
    assert crowd.output_tokens_per_s.expected > 20 * alone.output_tokens_per_s.expected
    assert crowd.tpot_s.expected > alone.tpot_s.expected


def test_a_slow_link_makes_communication_the_bound() -> None:
    sharded = replace(FULL, method="full", batch_size=1, seq_len=512)
    assert train(sharded, "rtx-3090", dp_shard=8).bound_by == "communication"
    assert train(replace(FULL, seq_len=8192), "h100", dp_shard=8).bound_by != "communication"


def test_more_gpus_never_process_fewer_tokens() -> None:
    rates = [train(FULL, dp_shard=ranks).tokens_per_s.expected for ranks in (1, 2, 4, 8, 16, 64)]
    assert rates == sorted(rates)


def test_a_deeper_pipeline_with_few_microbatches_wastes_more() -> None:
    few = train(replace(FULL, gradient_accumulation_steps=4), pp=8)
    many = train(replace(FULL, gradient_accumulation_steps=64), pp=8)
    assert many.tokens_per_s.expected > 1.5 * few.tokens_per_s.expected


def test_ranges_enclose_the_expectation_and_invert() -> None:
    speed = train(FULL)
    assert speed.step_time_s.low < speed.step_time_s.expected < speed.step_time_s.high
    assert speed.tokens_per_s.low < speed.tokens_per_s.expected < speed.tokens_per_s.high
    hours = speed.hours(10**9)
    assert hours.expected == pytest.approx(10**9 / speed.tokens_per_s.expected / 3600)
    assert 0.2 < (speed.mfu or 0) < 0.7


def test_arrays_of_layouts_and_gpus_agree_with_single_calls() -> None:
    architecture = model("meta-llama/Llama-3.1-8B")
    gpus = [catalog.find_gpu(name) for name in ("h100", "a100", "rtx-4090", "l40s")]
    batches, shards = numpy.array([1, 2, 4, 8]), numpy.array([1, 2, 8, 16])
    workload = TrainingWorkload(method="qlora", weight_dtype="nf4", adapter=AdapterSpec(rank=32), seq_len=1024)
    table = training.step_time(
        architecture,
        replace(workload, batch_size=batches),  # type: ignore[arg-type]
        Parallelism(dp_shard=shards),  # type: ignore[arg-type]
        stack([device_of(gpu) for gpu in gpus]),
    ).total_s
    assert numpy.shape(table) == (4, 4)
    for row, gpu in enumerate(gpus):
        for column, (batch, ranks) in enumerate(zip(batches.tolist(), shards.tolist(), strict=True)):
            one = training.step_time(
                architecture, replace(workload, batch_size=batch), Parallelism(dp_shard=ranks), device_of(gpu)
            )
            assert table[row, column] == pytest.approx(one.total_s, rel=1e-9)  # type: ignore[index]


def test_every_constant_says_where_it_is_from() -> None:
    for name, entry in document()["constants"].items():
        assert entry["source"], name
        assert entry["value"] > 0 or name == "extra_launches", name
        if entry["prior_log_sd"]:
            assert 0.1 < entry["value"] / entry["prior"] < 10, name


def test_other_constants_reach_what_is_kept_of_a_gpu() -> None:
    gpu = catalog.find_gpu("h100")
    before = device_of(gpu)
    with overridden({"link.nvlink_fraction": 0.1}):
        assert device_of(gpu).link_bytes_per_s < before.link_bytes_per_s / 2
    assert device_of(gpu) == before
