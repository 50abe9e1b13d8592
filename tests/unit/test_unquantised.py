"""Modules a checkpoint keeps in 16 bits: named one by one, by pattern, or known of an upload."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.dtypes import weight_format
from planner.errors import RequestError
from planner.memory.terms.stored import WeightSpread
from planner.memory.terms.weights import stored_on_rank
from planner.model.architecture import ModelArchitecture
from planner.model.registry import resolve
from planner.model.unquantised import keeping

QWEN = "Qwen/Qwen2.5-0.5B-Instruct"
UPLOAD = "unsloth/Qwen2.5-0.5B-Instruct-unsloth-bnb-4bit"
MLP = 3 * 896 * 4864
ATTENTION = 2 * 896 * 896 + 2 * 896 * 128


def architecture(name: str) -> ModelArchitecture:
    found = resolve(name).architecture
    assert found is not None
    return found


def kept_params(model: ModelArchitecture) -> int:
    return sum(
        group.count * linear.in_features * linear.out_features * linear.count
        for group in model.groups
        for linear in group.linears
        if linear.keeps_precision
    )


@pytest.mark.parametrize(
    ("names", "params"),
    [
        ((), 0),
        (("lm_head", "visual", "model.visual.blocks.0.mlp"), 0),
        (("model.layers.3.mlp",), MLP),
        (("model.layers.3",), MLP + ATTENTION),
        (("model.layers.3", "model.language_model.layers.3.mlp.gate_proj"), MLP + ATTENTION),
        (("model.layers.23.self_attn.q_proj",), 896 * 896),
        (("down_proj",), 24 * 896 * 4864),
        (("self_attn",), 24 * ATTENTION),
        (("model.layers.*.self_attn",), 24 * ATTENTION),
        (("re:.*\\.mlp\\..*", "re:vision.*"), 24 * MLP),
    ],
)
def test_a_name_covers_what_it_equals_what_lies_below_and_what_it_matches(
    names: tuple[str, ...], params: int
) -> None:
    whole = architecture(QWEN)
    marked = keeping(whole, names)
    assert kept_params(marked) == params
    assert marked.num_layers == whole.num_layers
    assert marked.params_total == whole.params_total


def test_a_broken_pattern_is_refused_in_one_line() -> None:
    with pytest.raises(RequestError, match="broken pattern"):
        keeping(architecture(QWEN), ("re:(",))


@pytest.mark.parametrize("name", ["nf4", "int8", "fp8", "awq-int4", "gptq-int4", "nvfp4"])
def test_kept_modules_take_two_bytes_in_every_format(name: str) -> None:
    whole = architecture(QWEN)
    fmt = weight_format(name)
    less = stored_on_rank(whole, fmt, "bf16", WeightSpread())
    more = stored_on_rank(keeping(whole, ("model.layers.3.mlp",)), fmt, "bf16", WeightSpread())
    assert more.plain_bytes - less.plain_bytes == 2 * MLP
    assert less.packed_bytes - more.packed_bytes == MLP * fmt.bits // 8


def test_an_upload_and_its_config_say_the_same(tmp_path: Path) -> None:
    known = resolve(UPLOAD)
    assert known.architecture is not None
    assert kept_params(known.architecture) == ATTENTION + 4 * MLP
    config = {**(resolve(QWEN).config or {})}
    config["quantization_config"] = {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
        "llm_int8_skip_modules": [
            "lm_head", "model.layers.0.self_attn", "model.layers.0.mlp",
            "model.layers.2.mlp", "model.layers.3.mlp", "model.layers.21.mlp",
        ],
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    read = resolve(str(tmp_path))
    assert read.architecture is not None
    assert read.architecture.groups == known.architecture.groups


def test_an_upload_whose_list_is_not_known_says_so() -> None:
    notes = " ".join(resolve("unsloth/Qwen3-8B-unsloth-bnb-4bit").notes)
    assert "weights are counted too low" in notes
    assert "too low" not in " ".join(resolve(UPLOAD).notes)


def test_single_layers_of_mixed_models_are_doubted_not_guessed() -> None:
    model = architecture("Qwen/Qwen3.5-27B")
    marked = keeping(model, ("model.layers.3.mlp",))
    assert kept_params(marked) == 0
    assert "kept" in marked.doubts or "keeps" in marked.doubts
