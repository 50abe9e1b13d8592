"""Models found by a few words."""

from __future__ import annotations

import pytest

from planner.model.finder import alias_for, find_models
from planner.model.registry import all_models, find


def ids(query: str) -> list[str]:
    return [entry.id for entry in find_models(query).matching]


def test_nothing_typed_lists_every_model() -> None:
    assert find_models("  ").matching == all_models()


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("LLAMA 70B", "meta-llama/Llama-3.3-70B-Instruct"),
        ("70b llama", "meta-llama/Llama-3.3-70B-Instruct"),
        ("qwen 7b", "Qwen/Qwen-7B"),
        ("mistral-7b-v0.3", "mistralai/Mistral-7B-v0.3"),
        ("tinyllama", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
    ],
)
def test_the_best_match_stands_first(query: str, first: str) -> None:
    assert ids(query)[0] == first


def test_newer_versions_go_before_older_ones() -> None:
    found = ids("meta-llama 70b")
    assert found.index("meta-llama/Llama-3.3-70B-Instruct") < found.index("meta-llama/Llama-3.1-70B")
    assert found.index("meta-llama/Llama-3.1-70B") < found.index("meta-llama/Llama-2-70b-hf")


def test_a_number_is_not_begun_by_its_first_digits() -> None:
    """7B is neither 70B nor 72B, and "llama3" is no LLaMA of 30B."""
    assert not [name for name in ids("llama 7") if "70b" in name.lower()]
    assert "huggyllama/llama-30b" not in ids("llama3")


def test_a_model_is_found_by_its_alias_which_is_told() -> None:
    entry = find("vicuna-7b-v1.5")
    assert entry is not None
    assert entry in find_models("vicuna 7b").matching
    assert "vicuna-7b" in alias_for("vicuna 7b", entry)
    assert alias_for(entry.id, entry) == ""


@pytest.mark.parametrize("closed", ["gpt-4", "claude", "gemini-2.5-pro"])
def test_a_closed_model_matches_nothing(closed: str) -> None:
    assert find_models(closed).matching == ()


def test_a_typing_error_finds_what_was_meant() -> None:
    found = find_models("minstral")
    assert found.matching == ()
    assert any("istral" in entry.id for entry in found.near)


def test_noise_is_near_nothing() -> None:
    assert find_models("xxxxxxxx").near == ()
