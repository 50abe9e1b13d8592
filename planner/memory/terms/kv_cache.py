"""What a model remembers of the tokens it has seen: keys and values, compressed latents, recurrent states.

Letters: L layers, T cached tokens of one sequence, B sequences, K key/value heads, h head dimension, c latent
width.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.citation import Citation
from planner.dtypes import element_bytes
from planner.errors import UnknownNameError
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int, ceil_div, maximum, minimum, round_up
from planner.model.architecture import (
    GroupedQueryAttention,
    LatentAttention,
    LayerGroup,
    ModelArchitecture,
    RecurrentMixer,
)

_GQA = Citation(title="Grouped-query attention (Ainslie et al. 2023)", url="https://arxiv.org/abs/2305.13245")
_MLA = Citation(
    title="DeepSeek-V2: the latent and the rotary key are cached", url="https://arxiv.org/abs/2405.04434"
)
_STATE = Citation(title="Mamba: a state of fixed size", url="https://arxiv.org/abs/2312.00752")
_GGML = Citation(
    title="llama.cpp: quantised KV cache in ggml blocks",
    url="https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h",
)

_SCALED = {"int8": 8, "int4": 4}
"""Integer caches: a 16-bit scale and zero per head and token beside the packed values (LMDeploy, HQQ)."""
_BLOCKED = {"q8_0": (32, 34), "q5_1": (32, 24), "q5_0": (32, 22), "q4_1": (32, 20), "q4_0": (32, 18)}
STATE_DTYPE = "fp32"
"""Recurrent states are kept in full precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """How an engine stores what the formulas ask for."""

    dtype: str = "bf16"
    latent: bool = True
    """Whether latent attention caches the latent; else full keys and values per head."""
    windowed: bool = True
    """Whether layers with a window forget what lies before it."""
    expand_heads: bool = False
    """Whether keys and values are repeated for every query head before they are stored (litgpt)."""
    block_tokens: int = 1
    """Tokens are stored in blocks of so many."""
    window_slack: Int = 0
    """Tokens kept beyond a window, for all sequences together: llama.cpp's micro-batch."""
    shared_blocks: bool = False
    """Whether blocks are counted over all sequences together (llama.cpp), not for each."""
    tp: Int = 1
    pp: Int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSize:
    """Cache on the fullest rank: bytes that grow with tokens, and those that come with each sequence."""

    token_bytes: Int
    state_bytes: Int

    @property
    def total_bytes(self) -> Int:
        return self.token_bytes + self.state_bytes


def vector_bytes(elements: Int, dtype: str) -> Int:
    """Bytes of one cached vector (the key of one head, or a latent) of ``elements``."""
    if dtype in _SCALED:
        return ceil_div(elements * _SCALED[dtype], 8) + 4
    if dtype in _BLOCKED:
        weights, size_bytes = _BLOCKED[dtype]
        return ceil_div(elements, weights) * size_bytes
    try:
        return elements * element_bytes(dtype)
    except UnknownNameError:
        known = ", ".join(("fp32", "bf16", "fp16", "fp8", *_SCALED, *_BLOCKED))
        raise UnknownNameError(f"there is no KV cache dtype {dtype[:40]!r}", hint=f"known: {known}") from None


def layer_token_bytes(group: LayerGroup, policy: CachePolicy) -> Int:
    """Bytes one token adds to the cache of one layer on one rank; 0 for recurrent layers."""
    mixer = group.mixer
    if isinstance(mixer, GroupedQueryAttention):
        if mixer.shares_kv_with_earlier_layer:
            return 0
        heads = ceil_div(_stored_heads(mixer, policy), 1)
        return 2 * heads * vector_bytes(mixer.head_dim, policy.dtype)
    if isinstance(mixer, LatentAttention):
        if policy.latent:
            latent = vector_bytes(mixer.kv_lora_rank + mixer.qk_rope_head_dim, policy.dtype)
            indexer = vector_bytes(mixer.indexer_head_dim, "fp8") + 4 if mixer.indexer_heads else 0
            return latent + indexer
        heads = ceil_div(mixer.num_attention_heads, policy.tp)
        key = vector_bytes(mixer.qk_nope_head_dim + mixer.qk_rope_head_dim, policy.dtype)
        return heads * (key + vector_bytes(mixer.v_head_dim, policy.dtype))
    return 0


def _stored_heads(mixer: GroupedQueryAttention, policy: CachePolicy) -> Int:
    on_rank = maximum(1, ceil_div(mixer.num_key_value_heads, policy.tp))
    if policy.expand_heads and mixer.num_key_value_heads > 1:
        from planner.memory.ops import where

        return where(on_rank > 1, ceil_div(mixer.num_attention_heads, policy.tp), 1)
    return on_rank


def layer_state_bytes(group: LayerGroup, policy: CachePolicy) -> Int:
    """Bytes of the recurrent state of one sequence in one layer on one rank; 0 for attention."""
    mixer = group.mixer
    if not isinstance(mixer, RecurrentMixer):
        return 0
    state = mixer.state_elements * element_bytes(STATE_DTYPE)
    convolution = mixer.conv_state_elements * element_bytes("bf16")
    return ceil_div(state + convolution, policy.tp)


def cache_size(
    architecture: ModelArchitecture,
    tokens: Int,
    sequences: Int,
    policy: CachePolicy,
    *,
    encoder_tokens: Int = 0,
) -> CacheSize:
    """Cache of ``sequences`` of ``tokens`` each, on the fullest rank.

    ``encoder_tokens``: length of the encoder's output, kept as keys and values of every cross-attention.
    """
    token_bytes: Int = 0
    state_bytes: Int = 0
    for group in architecture.groups:
        if group.stack == "encoder":
            continue
        layers = ceil_div(group.count, policy.pp)
        cells = _cells(group, tokens, sequences, policy)
        token_bytes = token_bytes + layers * cells * layer_token_bytes(group, policy)
        state_bytes = state_bytes + layers * sequences * layer_state_bytes(group, policy)
        if group.cross_attention is not None:
            heads = maximum(1, ceil_div(group.cross_attention.num_key_value_heads, policy.tp))
            vector = vector_bytes(group.cross_attention.head_dim, policy.dtype)
            token_bytes = token_bytes + layers * sequences * encoder_tokens * 2 * heads * vector
    return CacheSize(token_bytes=token_bytes, state_bytes=state_bytes)


def _cells(group: LayerGroup, tokens: Int, sequences: Int, policy: CachePolicy) -> Int:
    """Tokens one layer stores, of all sequences together."""
    mixer = group.mixer
    window = mixer.window if isinstance(mixer, GroupedQueryAttention) else None
    bounded = window is not None and policy.windowed
    if policy.shared_blocks:
        whole = sequences * tokens
        kept = minimum(whole, sequences * window + policy.window_slack) if bounded else whole
        return round_up(kept, policy.block_tokens)
    kept = minimum(tokens, window) if bounded else tokens
    return sequences * (kept if policy.block_tokens == 1 else round_up(kept, policy.block_tokens))


def token_bytes(architecture: ModelArchitecture, policy: CachePolicy) -> Int:
    """Bytes one more token of a long sequence costs: full-attention layers only where windows are honoured."""
    total: Int = 0
    for group in architecture.groups:
        mixer = group.mixer
        bounded = isinstance(mixer, GroupedQueryAttention) and mixer.window is not None and policy.windowed
        if group.stack == "decoder" and not bounded:
            total = total + ceil_div(group.count, policy.pp) * layer_token_bytes(group, policy)
    return total


def largest_layer_token_bytes(architecture: ModelArchitecture, policy: CachePolicy) -> Int:
    """Bytes of one token in the layer that stores most."""
    sizes = [layer_token_bytes(group, policy) for group in architecture.groups if group.stack == "decoder"]
    return maximum(0, *sizes)


def cache_terms(
    architecture: ModelArchitecture,
    tokens: Int,
    sequences: Int,
    policy: CachePolicy,
    *,
    encoder_tokens: Int = 0,
) -> tuple[MemoryTerm, ...]:
    """Terms of the cache on the fullest rank: what grows with tokens, and recurrent states."""
    size = cache_size(architecture, tokens, sequences, policy, encoder_tokens=encoder_tokens)
    mixers = [group.mixer for group in architecture.groups]
    latent = policy.latent and any(isinstance(mixer, LatentAttention) for mixer in mixers)
    inputs = {
        "B": sequences,
        "T": tokens,
        "bytes per token": token_bytes(architecture, policy),
        "dtype": policy.dtype,
    }
    terms = [
        MemoryTerm(
            kind="kv_cache",
            label="KV cache",
            size_bytes=size.token_bytes,
            formula="Σ L × B × T × (c + rope) × bytes" if latent else "Σ L × B × T × 2 × K × h × bytes",
            inputs=inputs,
            source=_MLA if latent else _GGML if policy.dtype in _BLOCKED else _GQA,
        )
    ]
    if any(isinstance(mixer, RecurrentMixer) for mixer in mixers):
        terms.append(
            MemoryTerm(
                kind="kv_cache",
                label="recurrent states",
                size_bytes=size.state_bytes,
                formula="Σ L × B × (state × 4 + convolution × 2)",
                inputs={"B": sequences},
                source=_STATE,
            )
        )
    return tuple(terms)
