"""Serving memory phase by phase, against hand-computed terms and published start-up logs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hardware_db.catalog import find_gpu
from planner.errors import UnsupportedError
from planner.memory.breakdown import MemoryBreakdown, MemoryTerm
from planner.memory.engine import estimate
from planner.memory.pools import pools
from planner.memory.serving import serving_breakdown
from planner.model.architecture import ModelArchitecture
from planner.model.registry import resolve
from planner.quantity import Quantity
from planner.request import Parallelism, ServingWorkload

ONE = Parallelism()
CHAT = ServingWorkload(prompt_tokens=2048, output_tokens=512)


def model(name: str) -> ModelArchitecture:
    architecture = resolve(name).architecture
    assert architecture is not None
    return architecture


def term(memory: MemoryBreakdown, phase: str, label: str) -> MemoryTerm:
    terms = next(each for each in memory.phases if each.phase == phase).terms
    return next(each for each in terms if each.label == label)


def test_llama_7b_in_bf16_holds_its_parameters_and_the_cache_of_the_request() -> None:
    memory = serving_breakdown(model("meta-llama/Llama-2-7b-hf"), CHAT, ONE, None)
    assert term(memory, "prefill", "weights").size_bytes == 6_738_415_616 * 2
    assert term(memory, "prefill", "KV cache").size_bytes == 2048 * 524_288
    assert term(memory, "decode", "KV cache").size_bytes == 2560 * 524_288


def test_terms_of_the_peak_add_up() -> None:
    for engine in ("transformers", "vllm", "sglang", "llama.cpp", "litgpt"):
        answer = estimate(
            model("meta-llama/Llama-2-7b-hf"), replace(CHAT, engine=engine), ONE, find_gpu("A100 80GB")
        )
        assert sum(each.size_bytes for each in answer.terms) == answer.expected_bytes
        assert answer.low_bytes <= answer.expected_bytes <= answer.high_bytes


def test_old_transformers_pays_for_logits_of_the_whole_prompt() -> None:
    qwen = model("Qwen/Qwen2-7B-Instruct")
    old, new = (replace(CHAT, engine_version=version) for version in ("4.38.2", "4.51.0"))
    before, after = (serving_breakdown(qwen, each, ONE, None) for each in (old, new))
    logits = term(before, "prefill", "activations and logits").size_bytes
    assert logits == 2048 * 152_064 * (2 + 4) + 2048 * 3584 * 2
    assert term(after, "prefill", "activations and logits").size_bytes < logits // 4


def test_old_transformers_holds_the_cache_twice_while_it_decodes() -> None:
    qwen = model("Qwen/Qwen2-7B-Instruct")
    memory = serving_breakdown(qwen, replace(CHAT, engine_version="4.38.2"), ONE, None)
    cache = term(memory, "decode", "KV cache").size_bytes
    assert term(memory, "decode", "cache being rebuilt").size_bytes == cache
    memory = serving_breakdown(qwen, replace(CHAT, engine_version="4.51.0"), ONE, None)
    assert term(memory, "decode", "cache being rebuilt").size_bytes == cache // (2 * 28)


def test_eager_attention_writes_score_matrices() -> None:
    llama = model("meta-llama/Llama-2-7b-hf")
    eager, fused = (
        serving_breakdown(llama, replace(CHAT, attention=attention), ONE, None) for attention in ("eager", "sdpa")
    )
    scores = 32 * 2048 * 2048 * 8
    difference = (
        term(eager, "prefill", "activations and logits").size_bytes
        - term(fused, "prefill", "activations and logits").size_bytes
    )
    assert scores // 2 < difference < 2 * scores


def test_adapters_of_many_tenants() -> None:
    workload = replace(CHAT, engine="vllm", num_lora_adapters=4, lora_rank=16)
    memory = serving_breakdown(model("meta-llama/Llama-2-7b-hf"), workload, ONE, None)
    widths = 4 * (4096 + 4096) + 2 * (4096 + 11_008) + (11_008 + 4096)
    assert term(memory, "serve", "LoRA adapters").size_bytes == 4 * 16 * 32 * widths * 2


def test_a_draft_model_brings_its_weights_and_cache() -> None:
    workload = replace(CHAT, engine="vllm", draft_model="meta-llama/Llama-3.2-1B", num_speculative_tokens=5)
    memory = serving_breakdown(model("meta-llama/Meta-Llama-3-8B"), workload, ONE, None)
    assert term(memory, "serve", "draft model weights").size_bytes == 1_235_814_400 * 2
    assert term(memory, "serve", "draft model KV cache").size_bytes == (2560 + 5 + 11) // 16 * 16 * 32_768


def test_vllm_start_up_of_llama_3_8b_on_an_h100() -> None:
    """https://github.com/vllm-project/vllm/pull/10511: 14.96 GiB weights, 53.29 GiB left of 79.22 x 0.9."""
    answer = pools(
        model("meta-llama/Meta-Llama-3-8B"),
        replace(CHAT, engine="vllm", gpu_memory_utilization=0.9),
        ONE,
        find_gpu("H100 SXM5 80GB"),
        cuda_total_bytes=85_061_827_297,
    )
    assert answer.weights.expected == pytest.approx(16_063_177_687, rel=0.005)
    assert answer.kv_cache_bytes is not None
    assert answer.kv_cache_bytes.low < 57_219_701_800 < answer.kv_cache_bytes.high


def test_llama_cpp_buffers_of_pythia() -> None:
    """A load log of build 4000: 5,049.6 MiB model, 640 MiB KV and 162 MiB compute buffer at 2,048 tokens."""
    workload = ServingWorkload(
        engine="llama.cpp", weight_dtype="gguf-f16", compute_dtype="fp16", kv_cache_dtype="fp16",
        prompt_tokens=2048, output_tokens=0, max_model_len=2048, attention="eager",
    )  # fmt: skip
    answer = pools(model("EleutherAI/pythia-2.8b"), workload, ONE, None)
    assert answer.weights.expected == pytest.approx(5_295_004_712, rel=0.001)
    assert answer.kv_cache_bytes is not None
    assert answer.kv_cache_bytes.expected == 671_088_640
    assert answer.activation_peak.expected == pytest.approx(169_869_312, rel=0.01)


def test_a_pool_needs_a_gpu() -> None:
    answer = pools(model("meta-llama/Llama-2-7b-hf"), replace(CHAT, engine="vllm"), ONE, None)
    assert answer.kv_cache_bytes is None
    assert answer.weights.expected > 0


def test_an_unknown_engine_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="triton"):
        serving_breakdown(model("meta-llama/Llama-2-7b-hf"), replace(CHAT, engine="triton"), ONE, None)


@pytest.mark.parametrize(
    ("engine", "weight_dtype", "way_out"),
    [
        ("transformers", "gguf-q4_k_m", "llama.cpp"),
        ("llama.cpp", "nf4", "gguf-q4_k_m"),
        ("litgpt", "awq-int4", "vllm"),
        ("autoawq", "bf16", "vllm"),
    ],
)
def test_formats_an_engine_does_not_serve_are_refused_with_the_way_out(
    engine: str, weight_dtype: str, way_out: str
) -> None:
    workload = replace(CHAT, engine=engine, weight_dtype=weight_dtype)
    with pytest.raises(UnsupportedError) as caught:
        serving_breakdown(model("meta-llama/Llama-2-7b-hf"), workload, ONE, None)
    assert way_out in str(caught.value.hint)


def test_a_share_of_the_card_is_not_for_the_engine() -> None:
    gpu = find_gpu("A100 80GB")
    llama = model("meta-llama/Llama-2-7b-hf")
    half, most = (
        estimate(llama, replace(CHAT, engine="vllm", gpu_memory_utilization=share), ONE, gpu)
        for share in (0.5, 0.9)
    )
    assert half.expected_bytes - most.expected_bytes == pytest.approx(gpu.memory_bytes * 0.4, rel=0.001)


def test_quantised_weights_keep_what_their_scheme_leaves_alone() -> None:
    llama = model("meta-llama/Llama-2-7b-hf")
    memory = serving_breakdown(llama, replace(CHAT, weight_dtype="nf4"), ONE, None)
    unquantised = 2 * 32_000 * 4096 + 65 * 4096
    assert term(memory, "load", "unquantised weights").size_bytes == unquantised * 2
    assert term(memory, "load", "nf4 weights").size_bytes == (6_738_415_616 - unquantised) // 2


def test_allocated_counts_less_than_the_device() -> None:
    llama = model("meta-llama/Llama-2-7b-hf")
    sizes = [estimate(llama, CHAT, ONE, None, quantity).expected_bytes for quantity in Quantity]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("engine", "model_name", "kind"),
    [
        ("vllm", "google-t5/t5-3b", "encoder-decoder"),
        ("sglang", "facebook/bart-large", "encoder-decoder"),
        ("litgpt", "google-bert/bert-base-uncased", "encoder"),
        ("litgpt", "Qwen/Qwen3.5-27B", "recurrent"),
    ],
)
def test_models_an_engine_has_not_are_refused_by_kind(engine: str, model_name: str, kind: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{engine} does not serve {kind} models"):
        serving_breakdown(model(model_name), replace(CHAT, engine=engine), ONE, None)


def test_vllm_served_bart_until_it_gave_up_encoders() -> None:
    bart = model("facebook/bart-large")
    serving_breakdown(bart, replace(CHAT, engine="vllm", engine_version="0.8.5"), ONE, None)
    with pytest.raises(UnsupportedError, match="encoder-decoder"):
        serving_breakdown(bart, replace(CHAT, engine="vllm", engine_version="0.11.0"), ONE, None)


def test_vision_towers_are_cut_where_the_engine_cuts_them() -> None:
    qwen = model("Qwen/Qwen2.5-VL-3B-Instruct")

    def weights(engine: str, tp: int, weight_dtype: str = "bf16") -> int:
        workload = replace(CHAT, engine=engine, weight_dtype=weight_dtype)
        terms = serving_breakdown(qwen, workload, Parallelism(tp=tp), None).phases[0].terms
        return sum(each.size_bytes for each in terms if each.kind == "weights")

    kept = weights("transformers", 2) - weights("vllm", 2)
    assert kept == pytest.approx(qwen.vision_params, rel=0.02)
    assert weights("llama.cpp", 1, "gguf-f16") == pytest.approx(2 * qwen.params_total, rel=0.02)
