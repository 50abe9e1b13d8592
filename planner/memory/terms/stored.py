"""Bytes of stored weights, and how they are spread over ranks."""

from __future__ import annotations

from dataclasses import dataclass

from planner.memory.ops import Int, ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWeights:
    """Bytes of a set of weights: packed matrices, their quantisation state, and what stays in a plain dtype."""

    packed_bytes: Int = 0
    state_bytes: Int = 0
    plain_bytes: Int = 0

    def __add__(self, other: StoredWeights) -> StoredWeights:
        return StoredWeights(
            packed_bytes=self.packed_bytes + other.packed_bytes,
            state_bytes=self.state_bytes + other.state_bytes,
            plain_bytes=self.plain_bytes + other.plain_bytes,
        )

    def times(self, count: Int) -> StoredWeights:
        """The same weights ``count`` times over."""
        return StoredWeights(
            packed_bytes=self.packed_bytes * count,
            state_bytes=self.state_bytes * count,
            plain_bytes=self.plain_bytes * count,
        )

    def over(self, ranks: Int) -> StoredWeights:
        """The largest share when split over ``ranks``."""
        return StoredWeights(
            packed_bytes=ceil_div(self.packed_bytes, ranks),
            state_bytes=ceil_div(self.state_bytes, ranks),
            plain_bytes=ceil_div(self.plain_bytes, ranks),
        )

    @property
    def total_bytes(self) -> Int:
        return self.packed_bytes + self.state_bytes + self.plain_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSpread:
    """How weights are spread over ranks. Embeddings and head follow ``tp`` unless an engine keeps them whole."""

    tp: Int = 1
    pp: Int = 1
    ep: Int = 1
    shards_embeddings: bool = True
    embeddings_with_head: bool = False
    """True where one stage holds both the embedding and the head (litgpt, or pp = 1)."""
    unties_head: bool = False
    """True where the head is a copy of its own even if the config ties it (litgpt)."""
    quantises_head: bool = False
    """True where bitsandbytes packs the head too (litgpt replaces every ``nn.Linear``)."""
    packs_experts: bool = False
    """True where experts are ``nn.Linear`` modules of their own, which bitsandbytes packs (transformers < 5)."""
    shards_vision: bool = False
    """True where the vision tower is cut by tensor parallelism too (vLLM, SGLang)."""
    host_embedding: bool = False
    """True where the token embedding stays in host memory (llama.cpp)."""
