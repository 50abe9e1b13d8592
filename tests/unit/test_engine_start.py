"""What vLLM and SGLang print at start-up, version by version, against published logs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hardware_db.catalog import find_gpu
from planner.memory.pools import EnginePools, pools
from planner.model.registry import resolve
from planner.request import Parallelism, ServingWorkload
from planner.units import GIB

LLM_D = ServingWorkload(engine="vllm", gpu_memory_utilization=0.95, max_model_len=8192)
H100_BYTES = int(79.19 * GIB)


def started(model: str, workload: ServingWorkload, gpu: str, total_bytes: int | None = None) -> EnginePools:
    architecture = resolve(model).architecture
    assert architecture is not None
    return pools(architecture, workload, Parallelism(), find_gpu(gpu), cuda_total_bytes=total_bytes)


@pytest.mark.parametrize(
    ("model", "version", "activation_gib", "pool_gib"),
    [
        ("Qwen/Qwen3-14B", "0.15.0", 5.64, 41.94),
        ("Qwen/Qwen3-14B", "0.17.0", 2.23, 45.34),
        ("Qwen/Qwen3-14B", "0.18.0", 2.23, 45.23),
        ("meta-llama/Llama-3.1-8B-Instruct", "0.19.0", 1.89, 58.11),
        ("Qwen/Qwen2.5-7B-Instruct", "0.19.0", 2.21, 58.53),
        ("codellama/CodeLlama-7b-hf", "0.19.0", 0.77, None),
        ("Qwen/Qwen3-30B-A3B", "0.19.0", 2.68, None),
        ("deepseek-ai/DeepSeek-V2-Lite-Chat", "0.19.0", 1.93, None),
        ("google/gemma-2-9b-it", "0.19.0", 3.65, None),
    ],
)
def test_profile_run_and_pool_on_an_h100(
    model: str, version: str, activation_gib: float, pool_gib: float | None
) -> None:
    """https://github.com/llm-d-incubation/llm-d-planner/blob/main/accuracy/accuracy_report.md"""
    answer = started(model, replace(LLM_D, engine_version=version), "H100 SXM5 80GB", H100_BYTES)
    assert answer.activation_peak.expected / GIB == pytest.approx(activation_gib, rel=0.03)
    if pool_gib is not None:
        assert answer.kv_cache_bytes is not None
        assert answer.kv_cache_bytes.expected / GIB == pytest.approx(pool_gib, rel=0.005)


def test_the_first_engine_profiles_one_whole_prompt() -> None:
    """A T4's log of version 0.7.3: 2.02 GiB at 32,768 tokens of Qwen2.5-1.5B, 2.36 GiB left of half of 14.56."""
    workload = ServingWorkload(
        engine="vllm", engine_version="0.7.3", weight_dtype="fp16", compute_dtype="fp16", kv_cache_dtype="fp16",
        gpu_memory_utilization=0.5, max_model_len=32_768,
    )  # fmt: skip
    answer = started("Qwen/Qwen2.5-1.5B-Instruct", workload, "T4", int(14.56 * GIB))
    assert answer.activation_peak.expected / GIB == pytest.approx(2.02, rel=0.005)
    assert answer.kv_cache_bytes is not None
    assert answer.kv_cache_bytes.expected / GIB == pytest.approx(2.36, rel=0.03)
    chunked = replace(workload, max_model_len=65_536)
    assert started("Qwen/Qwen2.5-1.5B-Instruct", chunked, "T4").activation_peak.expected < 1.5 * GIB


def test_requests_at_once_decide_the_sampling_peak() -> None:
    """Unsloth starts vLLM 0.10.0 with 320 requests: 1.78 GiB for Qwen2.5-0.5B at 32,768 tokens."""
    workload = ServingWorkload(engine="vllm", engine_version="0.10.0", max_model_len=32_768, max_num_seqs=320,
                               max_num_batched_tokens=32_768)  # fmt: skip
    peak = started("Qwen/Qwen2.5-0.5B-Instruct", workload, "RTX 4090").activation_peak
    assert peak.expected / GIB == pytest.approx(1.78, rel=0.005)


@pytest.mark.parametrize(
    ("model", "gpu", "fraction", "loaded_gib", "pool_gib"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "H100 SXM5 80GB", 0.88, 15.09, 54.26),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "RTX 3090", 0.88, 14.39, 5.64),
    ],
)
def test_sglang_takes_its_share_of_what_was_free(
    model: str, gpu: str, fraction: float, loaded_gib: float, pool_gib: float
) -> None:
    """Two logs of January and February 2025; the RTX 3090 had half a GiB in use by others."""
    workload = ServingWorkload(engine="sglang", engine_version="0.4.2", gpu_memory_utilization=fraction)
    answer = started(model, workload, gpu)
    assert answer.weights.expected / GIB == pytest.approx(loaded_gib, rel=0.005)
    assert answer.kv_cache_bytes is not None
    assert answer.kv_cache_bytes.low / GIB < pool_gib < answer.kv_cache_bytes.high / GIB
    assert answer.kv_cache_bytes.expected / GIB == pytest.approx(pool_gib, abs=0.5)


def test_sglang_chooses_its_share_by_version_and_size() -> None:
    old = ServingWorkload(engine="sglang", engine_version="0.4.2")
    new = replace(old, engine_version="0.5.4")
    name = "meta-llama/Llama-3.1-8B-Instruct"
    h100 = [started(name, each, "H100 SXM5 80GB").kv_cache_bytes for each in (old, new)]
    assert h100[0] is not None
    assert h100[1] is not None
    # 0.88 of what is free; then 512 MiB + 8,192 x 1.5 MiB + 256 x 2 MiB + 128 MiB of 81,559 MiB stay free: 0.835.
    assert h100[0].expected - h100[1].expected == pytest.approx((0.88 - 0.835) * 78.6 * GIB, rel=0.03)


@pytest.mark.parametrize(
    ("model", "weight_dtype", "tp", "gib"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "bf16", 1, 14.99),
        ("meta-llama/Llama-3.1-8B-Instruct", "bf16", 4, 3.77),
        ("meta-llama/Llama-3.1-8B-Instruct", "fp8", 1, 8.4926),
        ("meta-llama/Llama-3.3-70B-Instruct", "fp8", 2, 33.88),
        ("openai/gpt-oss-20b", "mxfp4", 1, 13.47),
        ("openai/gpt-oss-120b", "mxfp4", 1, 64.38),
        ("microsoft/phi-4", "gptq-int4", 1, 8.5107),
        ("Qwen/Qwen2.5-72B-Instruct", "awq-int4", 2, 19.3952),
        ("Qwen/Qwen3-8B", "bf16", 1, 15.2684),
        ("unsloth/Qwen2.5-0.5B-Instruct-unsloth-bnb-4bit", "nf4-dq", 1, 0.5151),
    ],
)
def test_weights_as_vllm_holds_them(model: str, weight_dtype: str, tp: int, gib: float) -> None:
    """Start-up logs: the rotary table beside the weights, Marlin's GPTQ, undone double scales, padded MXFP4."""
    architecture = resolve(model).architecture
    assert architecture is not None
    workload = ServingWorkload(engine="vllm", weight_dtype=weight_dtype)
    answer = pools(architecture, workload, Parallelism(tp=tp), None)
    assert answer.weights.expected / GIB == pytest.approx(gib, rel=0.005)


def test_tokens_of_a_windowed_model_are_counted_as_vllm_prints_them() -> None:
    gemma = started("google/gemma-3-12b-it", replace(LLM_D, engine_version="0.19.0"), "H100 SXM5 80GB", H100_BYTES)
    assert gemma.kv_cache_bytes is not None
    assert gemma.kv_cache_tokens is not None
    per_token = 48 * 2 * 8 * 256 * 2
    assert gemma.kv_cache_tokens.expected == gemma.kv_cache_bytes.expected // (per_token * 16) * 16
