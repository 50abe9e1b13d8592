"""What holds for every config: more of a size never means fewer parameters, and no config ends in a traceback."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlannerError
from planner.model.hf_config import architecture_from_config, checkpoint_weight_dtype
from planner.model.registry import all_models, from_config_text, resolve

CONFIGS = list({json.dumps(entry.config, sort_keys=True): dict(entry.config) for entry in all_models()}.values())
BY_TYPE = list({config["model_type"]: config for config in CONFIGS}.values())
GROWING = (
    "vocab_size", "intermediate_size", "moe_intermediate_size", "num_experts", "num_local_experts",
    "n_routed_experts", "d_ff", "ffn_dim", "max_position_embeddings", "shared_expert_intermediate_size",
)  # fmt: skip
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.integers(10**20, 10**40),
    st.lists(st.one_of(st.integers(-3, 300), st.text(max_size=8)), max_size=5),
    st.dictionaries(st.text(max_size=8), st.integers(), max_size=3),
)  # fmt: skip


def total(config: dict[str, Any]) -> int:
    return architecture_from_config(config, name="case").params_total


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CONFIGS), st.sampled_from(GROWING), st.integers(1, 4))
def test_more_of_a_size_never_means_fewer_parameters(config: dict[str, Any], key: str, factor: int) -> None:
    if isinstance(config.get(key), int):
        assert total(config | {key: config[key] * factor}) >= total(config)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 4), st.integers(1, 64), st.integers(1, 8))
def test_more_layers_heads_and_width_never_mean_fewer_parameters(
    layers: int, kv_heads: int, group: int, head_dim: int, more: int
) -> None:
    config = {
        "model_type": "llama", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": layers, "num_key_value_heads": kv_heads, "num_attention_heads": kv_heads * group,
        "head_dim": head_dim,
    }  # fmt: skip
    base = total(config)
    assert total(config | {"num_hidden_layers": layers + more}) > base
    assert total(config | {"head_dim": head_dim + more}) > base
    assert total(config | {"hidden_size": 64 + more}) > base
    assert total(config | {"num_attention_heads": kv_heads * group * (1 + more)}) > base


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(BY_TYPE), st.data())
def test_a_mangled_config_raises_the_planner_s_own_errors_only(
    config: dict[str, Any], data: st.DataObject
) -> None:
    mangled = dict(config)
    for key in data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=4)):
        if data.draw(st.booleans()):
            mangled.pop(key, None)
        else:
            mangled[key] = data.draw(ODD)
    for part in ("text_config", "vision_config", "audio_config", "attn_config", "ffn_config"):
        nested = mangled.get(part)
        if isinstance(nested, dict) and nested and data.draw(st.booleans()):
            mangled[part] = nested | {data.draw(st.sampled_from(sorted(nested))): data.draw(ODD)}
    refusal = None
    try:
        architecture = architecture_from_config(mangled, name="case")
    except PlannerError as error:
        refusal = error
    if refusal is not None:
        assert "\n" not in refusal.message
        assert len(refusal.message) < 400
        return
    assert architecture.params_total > 0
    assert 0 <= architecture.params_active <= architecture.params_total
    assert all(group.count > 0 for group in architecture.groups)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["model_type", "quantization_config", *GROWING]) | st.text(max_size=9), ODD)
)
def test_an_invented_config_raises_the_planner_s_own_errors_only(config: dict[str, Any]) -> None:
    for read in (lambda: total(config), lambda: checkpoint_weight_dtype(config)):
        try:
            read()
        except PlannerError:
            continue


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=string.printable, max_size=60))
def test_text_that_is_no_config_raises_the_planner_s_own_errors_only(text: str) -> None:
    with pytest.raises(PlannerError):
        from_config_text(text, name="case", source="case")


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=string.ascii_letters + string.digits + "-._: ", max_size=40))
def test_any_name_is_a_model_or_an_error_of_the_planner(name: str) -> None:
    refusal = None
    try:
        resolve(name)
    except PlannerError as error:
        refusal = error
    assert refusal is None or refusal.hint
