"""Bytes of one matrix in every storage format, checked by hand."""

from __future__ import annotations

import pytest

from planner import gguf
from planner.bits import bits_choice, training_format
from planner.dtypes import element_bytes, weight_format, weight_format_names
from planner.errors import RequestError, UnknownNameError, UnsupportedError

# 4096 x 4096 = 16,777,216 weights in 262,144 blocks of 64, 131,072 groups of 128 and 4,096 rows.
HAND_CHECKED = {
    "fp32": (67_108_864, 0),
    "bf16": (33_554_432, 0),
    "int8": (16_777_216, 4_096 * 4),
    "nf4": (8_388_608, 262_144 * 4 + 64),
    "nf4-dq": (8_388_608, 262_144 + 1_024 * 4 + 64 + 1_028),
    "gptq-int4": (8_388_608, 131_072 * 2 + 65_536 + 4_096 * 4),
    "gptq-int8": (16_777_216, 131_072 * 2 + 131_072 + 4_096 * 4),
    "gptq-int4-gch": (8_388_608, 4_096 * 2 + 2_048 + 4_096 * 4),
    "awq-int4": (8_388_608, 131_072 * 2 + 65_536),
    "awq-int4-g64": (8_388_608, 262_144 * 2 + 131_072),
    "fp8": (16_777_216, 32 * 32 * 4),
    "mxfp4": (8_388_608, 524_288),
    "nvfp4": (8_388_608, 1_048_576 + 4),
    "bitnet": (4_194_304, 2),
    "gguf-q4_0": (4096 * 4096 // 32 * 18, 0),
    "gguf-q6_k": (4096 * 4096 // 256 * 210, 0),
}


@pytest.mark.parametrize("name", HAND_CHECKED)
def test_bytes_of_a_square_matrix(name: str) -> None:
    storage = weight_format(name).matrix_bytes(4096, 4096)
    assert (storage.packed_bytes, storage.state_bytes) == HAND_CHECKED[name]


@pytest.mark.parametrize("name", weight_format_names())
def test_every_format_is_smaller_than_fp32_and_names_its_source(name: str) -> None:
    found = weight_format(name)
    assert 0 < found.matrix_bytes(1024, 512).total_bytes <= 1024 * 512 * 4
    assert found.source.url is not None


def test_which_modules_stay_unquantised() -> None:
    assert not weight_format("nf4").quantises("expert", is_module=False)
    assert weight_format("awq-int4").quantises("expert", is_module=False)
    assert not weight_format("awq-int4").quantises("router")
    assert weight_format("mxfp4").quantises("expert", model_has_experts=True)
    assert not weight_format("mxfp4").quantises("attention", model_has_experts=True)


def test_gguf_rows_that_blocks_do_not_divide_fall_back() -> None:
    assert gguf.row_bytes("q4_k", 896) == 896 // 32 * 22  # q5_0
    assert gguf.row_bytes("q6_k", 896) == 896 // 32 * 34  # q8_0
    assert gguf.row_bytes("q4_0", 100) == 200  # f16


def test_q4_k_m_of_llama_7b_gives_half_of_the_sensitive_tensors_six_bits() -> None:
    types = [gguf.tensor_type("q4_k_m", "down_proj", layer, 32, 1, 0) for layer in range(32)]
    assert types.count("q6_k") == 16
    assert types.count("q4_k") == 16


def test_bits_of_the_command_line() -> None:
    assert (bits_choice("8").serve, bits_choice("4").serve, bits_choice("4").train) == ("int8", "nf4", "nf4-dq")
    with pytest.raises(RequestError, match="--bits 5"):
        bits_choice("5")
    with pytest.raises(UnsupportedError):
        training_format("1.58")


def test_unknown_names_get_near_misses() -> None:
    with pytest.raises(UnknownNameError) as caught:
        weight_format("nf4-qd")
    assert "nf4-dq" in str(caught.value.hint)
    with pytest.raises(UnknownNameError):
        element_bytes("bf17")
    with pytest.raises(RequestError):
        weight_format("nf4", group_size=32)


@pytest.mark.parametrize(("name", "instead"), [("hqq-int4", "nf4"), ("torchao", "int8"), ("EXL2", "gptq-int4")])
def test_schemes_that_are_not_modelled_are_refused_with_one_of_the_same_size(name: str, instead: str) -> None:
    with pytest.raises(UnsupportedError, match=name) as caught:
        weight_format(name)
    assert instead in (caught.value.hint or "")
