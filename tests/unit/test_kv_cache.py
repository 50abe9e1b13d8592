"""Bytes of key/value caches, against published and hand-computed figures."""

from __future__ import annotations

import pytest

from planner.errors import UnknownNameError
from planner.memory.terms.kv_cache import CachePolicy, cache_size, token_bytes, vector_bytes
from planner.model.registry import resolve

BF16 = CachePolicy()


def size_of(model: str, tokens: int, policy: CachePolicy = BF16, *, encoder_tokens: int = 0) -> int:
    architecture = resolve(model).architecture
    assert architecture is not None
    return int(cache_size(architecture, tokens, 1, policy, encoder_tokens=encoder_tokens).token_bytes)


PER_TOKEN = {
    "meta-llama/Llama-2-7b-hf": 2 * 32 * 32 * 128 * 2,  # multi-head: 524,288
    "meta-llama/Llama-2-70b-hf": 2 * 80 * 8 * 128 * 2,  # grouped: 327,680
    "tiiuae/falcon-7b": 2 * 32 * 1 * 64 * 2,  # multi-query: 8,192
    "deepseek-ai/DeepSeek-V3": 61 * (512 + 64) * 2,  # latent: 70,272
    "Qwen/Qwen3.5-27B": 2 * 16 * 4 * 256 * 2,  # a quarter of the layers attend: 65,536
}


@pytest.mark.parametrize("model", PER_TOKEN)
def test_bytes_of_one_token(model: str) -> None:
    architecture = resolve(model).architecture
    assert architecture is not None
    assert token_bytes(architecture, BF16) == PER_TOKEN[model]


def test_latent_attention_is_wide_where_the_engine_stores_heads() -> None:
    expanded = CachePolicy(latent=False)
    assert size_of("deepseek-ai/DeepSeek-V3", 1, expanded) == 61 * 128 * (128 + 64 + 128) * 2


def test_windows_stop_growing() -> None:
    # Gemma-2 9B: 21 of 42 layers look back 4,096 tokens.
    full = 2 * 8 * 256 * 2 * 21
    assert size_of("google/gemma-2-9b", 10_000) == full * 10_000 + full * 4_096
    assert size_of("google/gemma-2-9b", 10_000, CachePolicy(windowed=False)) == 2 * full * 10_000


def test_recurrent_states_do_not_grow() -> None:
    architecture = resolve("Qwen/Qwen3.5-27B").architecture
    assert architecture is not None
    short, long = (cache_size(architecture, tokens, 3, BF16).state_bytes for tokens in (10, 100_000))
    assert short == long > 0


def test_cross_attention_keeps_the_encoder_output() -> None:
    decoder_only = size_of("google-t5/t5-3b", 10)
    with_encoder = size_of("google-t5/t5-3b", 10, encoder_tokens=512)
    assert with_encoder - decoder_only == 24 * 512 * 2 * 32 * 128 * 2


def test_paged_blocks_round_up() -> None:
    paged = CachePolicy(block_tokens=16)
    assert size_of("meta-llama/Llama-2-7b-hf", 17, paged) == 32 * 524_288


def test_llama_cpp_keeps_windows_beside_the_micro_batch() -> None:
    """Load logs: 768 cells for gpt-oss (128 + 512, padded), 4,608 for four of Gemma 4 12B (4 x 1,024 + 512)."""
    policy = CachePolicy(block_tokens=256, shared_blocks=True, window_slack=512)
    assert size_of("openai/gpt-oss-20b", 4096, policy) == 12 * (4096 + 768) * 2 * 8 * 64 * 2
    gemma = resolve("google/gemma-4-12B").architecture
    assert gemma is not None
    windowed, whole = (cache_size(gemma, tokens, 4, policy).token_bytes for tokens in (8192, 16_384))
    global_layers = 8 * 4 * 8192 * 1 * 2 * 512 * 2
    assert windowed - (whole - windowed) == 40 * 4608 * 2 * 8 * 256 * 2
    assert whole - windowed == global_layers


def test_tensor_parallel_ranks_copy_scarce_heads() -> None:
    llama = "meta-llama/Llama-2-70b-hf"
    assert size_of(llama, 1, CachePolicy(tp=8)) * 8 == 327_680
    assert size_of(llama, 1, CachePolicy(tp=16)) == size_of(llama, 1, CachePolicy(tp=8))


def test_narrow_dtypes() -> None:
    assert vector_bytes(128, "fp8") == 128
    assert vector_bytes(128, "int8") == 128 + 4
    assert vector_bytes(128, "int4") == 64 + 4
    assert vector_bytes(128, "q8_0") == 4 * 34
    with pytest.raises(UnknownNameError):
        vector_bytes(128, "int3")
