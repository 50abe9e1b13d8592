"""Methods of the installed peft: traced like they run, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlannerError, RequestError, UnsupportedError
from planner.request import AdapterSpec
from tests.trace.steps_of import Config, readable, run, traced, workload
from validate.trace.adapters import all_methods, peft_config, peft_type

LLAMA: Config = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 100, "tie_word_embeddings": False,
}  # fmt: skip
ADAPTER = AdapterSpec(rank=4, num_virtual_tokens=4)
SAME_AS_REAL = (
    "adalora", "boft", "fourierft", "hira", "ia3", "layernorm", "loha", "lokr", "oft", "p-tuning", "prefix-tuning",
    "vera",
)  # fmt: skip
NEED_DATA = {"shira": "aten.nonzero", "unilora": "aten.bincount", "frod": "aten.index", "cpt": "aten.index"}
"""Methods whose adapters take their shapes from values, and the operator that does so."""


@pytest.mark.parametrize("method", SAME_AS_REAL)
def test_a_traced_method_allocates_what_the_real_one_does(method: str) -> None:
    asked = workload(method=method, adapter=ADAPTER)
    assert readable(traced(LLAMA, asked)) == readable(run(LLAMA, asked))


@pytest.mark.parametrize("method", NEED_DATA)
def test_methods_that_need_data_are_refused_with_the_operator(method: str) -> None:
    with pytest.raises(UnsupportedError, match=NEED_DATA[method]):
        traced(LLAMA, workload(method=method, adapter=ADAPTER))


def test_every_method_of_the_installed_peft_has_a_name_and_a_config_or_a_reason() -> None:
    configs: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for method in all_methods():
        assert peft_type(method) is not None
        try:
            configs[method] = peft_config(method, ADAPTER, "CAUSAL_LM", hidden_size=64)
        except PlannerError as error:
            reasons[method] = error.message
    assert len(configs) >= 40
    assert all(method in reason for method, reason in reasons.items())


def test_unknown_methods_and_impossible_adapters_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="no method 'nonsense'"):
        peft_config("nonsense", ADAPTER, "CAUSAL_LM", hidden_size=64)
    with pytest.raises((RequestError, UnsupportedError), match="c3a"):
        traced(LLAMA, workload(method="c3a", adapter=ADAPTER))
