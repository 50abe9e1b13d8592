"""The founding documents' table, row by row."""

from __future__ import annotations

import pytest

from planner.errors import RequestError
from planner.memory import rule
from planner.quantity import Tier
from planner.units import BILLION, GB, MIB

A100_80GB_BYTES = 81_920 * MIB


def test_full_precision_stores_four_bytes_per_parameter() -> None:
    assert rule.stored_weights(BILLION).expected_bytes == 4 * GB


def test_training_takes_24_bytes_per_parameter_in_four_parts() -> None:
    estimate = rule.training(BILLION)
    assert estimate.expected_bytes == 24 * GB
    assert [term.size_bytes for term in estimate.terms] == [4 * GB, 8 * GB, 4 * GB, 8 * GB]


def test_pessimistic_training_is_twenty_times_the_storage() -> None:
    assert rule.pessimistic_training(BILLION).expected_bytes == 80 * GB


@pytest.mark.parametrize(
    ("bits", "size_bytes"),
    [("32", 336 * GB), ("16", 168 * GB), ("8", 84 * GB), ("4", 42 * GB), ("1.58", 16_590_000_000)],
)
def test_serving_70b(bits: str, size_bytes: int) -> None:
    estimate = rule.serving(70 * BILLION, bits)
    assert estimate.expected_bytes == size_bytes
    assert sum(term.size_bytes for term in estimate.terms) == size_bytes


def test_70b_at_16_bits_needs_two_a100_by_driver_memory() -> None:
    size_bytes = rule.serving(70 * BILLION, "16").expected_bytes
    assert rule.gpus_needed(size_bytes, A100_80GB_BYTES) == 2
    assert rule.gpus_needed(size_bytes, 80 * GB) == 3, "in marketing gigabytes two would not be enough"


def test_lora_beside_one_matrix() -> None:
    assert rule.lora_params(8, 512, 64) == 4_608
    assert 512 * 64 == 32_768
    assert round((1 - 4_608 / 32_768) * 100) == 86


def test_lora_on_q_and_v_of_mistral_7b() -> None:
    per_layer = rule.lora_params(64, 4096, 4096) + rule.lora_params(64, 4096, 1024)
    assert 32 * per_layer == 27_262_976


def test_prompt_tuning_of_t5_xxl() -> None:
    assert rule.prompt_tuning_params(5, 4096) == 20_480


def test_rules_say_where_they_come_from() -> None:
    for estimate in (rule.serving(BILLION), rule.training(BILLION), rule.pessimistic_training(BILLION)):
        assert estimate.tier is Tier.RULE
        for term in estimate.terms:
            assert term.source.title == "founding documents"
            assert term.formula


def test_odd_counts_stay_whole_bytes_and_add_up() -> None:
    estimate = rule.serving(8_030_261_249, "1.58")
    assert sum(term.size_bytes for term in estimate.terms) == estimate.expected_bytes


def test_nonsense_is_refused() -> None:
    for call in (lambda: rule.serving(0), lambda: rule.serving(BILLION, "5"), lambda: rule.lora_params(0, 1, 1)):
        with pytest.raises(RequestError):
            call()
