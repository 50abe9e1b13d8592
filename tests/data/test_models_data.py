"""The shipped model descriptions against the reconciled facts stored with them."""

from __future__ import annotations

import pytest

from planner.model.architecture import GroupedQueryAttention, LatentAttention, LayerGroup
from planner.model.registry import RegistryEntry, all_models

REGISTERED = all_models()
BF16_BYTES = 2


def token_bytes(group: LayerGroup) -> int:
    """What one token adds to a bf16 cache, windows ignored."""
    mixer = group.mixer
    if isinstance(mixer, GroupedQueryAttention):
        return group.count * 2 * mixer.num_key_value_heads * mixer.head_dim * BF16_BYTES
    if isinstance(mixer, LatentAttention):
        return group.count * (mixer.kv_lora_rank + mixer.qk_rope_head_dim) * BF16_BYTES
    return 0


@pytest.mark.parametrize("entry", REGISTERED, ids=lambda entry: entry.id)
def test_description_counts_to_the_stored_total(entry: RegistryEntry) -> None:
    architecture = entry.architecture()
    layers = sum(group.count * group.params_per_layer for group in architecture.groups)
    outside = architecture.embedding_params + architecture.other_params
    outside += architecture.lm_head_params + architecture.vision_params
    assert layers + outside == entry.params_total
    assert architecture.params_total == entry.params_total
    assert 0 < architecture.params_active <= architecture.params_total


@pytest.mark.parametrize(
    "entry", [entry for entry in REGISTERED if entry.params_active], ids=lambda entry: entry.id
)
def test_active_parameters_are_the_stored_ones(entry: RegistryEntry) -> None:
    assert entry.architecture().params_active == entry.params_active


@pytest.mark.parametrize(
    "entry", [entry for entry in REGISTERED if entry.kv_bytes_per_token_bf16], ids=lambda entry: entry.id
)
def test_cache_per_token_is_the_stored_one(entry: RegistryEntry) -> None:
    assert sum(map(token_bytes, entry.architecture().groups)) == entry.kv_bytes_per_token_bf16


def test_the_registry_holds_every_reconciled_model_and_names_are_unique() -> None:
    assert len(REGISTERED) >= 269
    assert len({entry.id.lower() for entry in REGISTERED}) == len(REGISTERED)
    owners: dict[str, str] = {}
    for entry in REGISTERED:
        for name in {entry.id.lower(), *map(str.lower, entry.aliases)}:
            assert owners.setdefault(name, entry.id) == entry.id, name


def test_every_row_says_where_it_is_from() -> None:
    for entry in REGISTERED:
        assert entry.config_source, entry.id
        if entry.config_source == "recalled":
            assert entry.doubts, entry.id
        if entry.confidence == "A":
            assert entry.count_source, entry.id
