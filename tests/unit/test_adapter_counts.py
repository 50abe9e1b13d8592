"""Trainable parameters of every method against the real library, and the documents' own figures."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import UnsupportedError
from planner.memory.terms.adapters import METHODS, trained
from planner.memory.terms.adapters_rare import RARE
from planner.model.architecture import ModelArchitecture
from planner.model.hf_config import architecture_from_config
from planner.model.registry import resolve
from planner.request import AdapterSpec

TINY: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 64, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
T5: dict[str, Any] = {
    "d_model": 64, "d_ff": 176, "num_layers": 3, "num_heads": 4, "d_kv": 16, "vocab_size": 128,
    "decoder_start_token_id": 0,
}  # fmt: skip
QV = ("q_proj", "v_proj")
RANK_4 = AdapterSpec(rank=4)


def _architecture(model_type: str, config: dict[str, Any]) -> ModelArchitecture:
    transformers = pytest.importorskip("transformers")
    full = transformers.CONFIG_MAPPING[model_type](**config).to_dict()
    return architecture_from_config(full, name=f"tiny-{model_type}", confidence="A", source="test")


def _real_count(model_type: str, config: dict[str, Any], adapter: dict[str, Any]) -> int:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    built = transformers.CONFIG_MAPPING[model_type](**config)
    kind = transformers.AutoModelForSeq2SeqLM if model_type == "t5" else transformers.AutoModelForCausalLM
    fields = dict(adapter)
    model = peft.get_peft_model(kind.from_config(built), getattr(peft, fields.pop("kind"))(**fields))
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("model_type", "config", "method", "adapter", "spec"),
    [
        ("llama", TINY, "lora", {"kind": "LoraConfig", "r": 4, "target_modules": "all-linear"}, RANK_4),
        (
            "llama", TINY, "lora",
            {"kind": "LoraConfig", "r": 4, "target_modules": list(QV), "modules_to_save": ["lm_head"]},
            AdapterSpec(rank=4, target_modules=QV, modules_to_save=("lm_head",)),
        ),
        (
            "llama", TINY, "lora",
            {"kind": "LoraConfig", "r": 4, "target_modules": ["q_proj", "embed_tokens", "lm_head"]},
            AdapterSpec(rank=4, target_modules=("q_proj", "embed_tokens", "lm_head")),
        ),
        (
            "llama", TINY, "rslora",
            {"kind": "LoraConfig", "r": 4, "target_modules": list(QV), "use_rslora": True},
            AdapterSpec(rank=4, target_modules=QV),
        ),
        (
            "llama", TINY, "dora",
            {"kind": "LoraConfig", "r": 4, "target_modules": "all-linear", "use_dora": True}, AdapterSpec(rank=4),
        ),
        (
            "llama", TINY, "adalora",
            {"kind": "AdaLoraConfig", "init_r": 4, "target_r": 2, "total_step": 10, "target_modules": list(QV)},
            AdapterSpec(rank=4, target_modules=QV),
        ),
        (
            "llama", TINY, "ia3",
            {
                "kind": "IA3Config", "target_modules": ["k_proj", "v_proj", "down_proj"],
                "feedforward_modules": ["down_proj"],
            },
            AdapterSpec(target_modules=("k_proj", "v_proj", "down_proj")),
        ),
        (
            "llama", TINY, "vera", {"kind": "VeraConfig", "r": 4, "target_modules": ["q_proj", "o_proj"]},
            AdapterSpec(rank=4, target_modules=("q_proj", "o_proj")),
        ),
        (
            "llama", TINY, "prompt-tuning",
            {"kind": "PromptTuningConfig", "task_type": "CAUSAL_LM", "num_virtual_tokens": 7},
            AdapterSpec(num_virtual_tokens=7),
        ),
        (
            "llama", TINY, "prefix-tuning",
            {"kind": "PrefixTuningConfig", "task_type": "CAUSAL_LM", "num_virtual_tokens": 7},
            AdapterSpec(num_virtual_tokens=7),
        ),
        (
            "llama", TINY, "p-tuning",
            {"kind": "PromptEncoderConfig", "task_type": "CAUSAL_LM", "num_virtual_tokens": 7},
            AdapterSpec(num_virtual_tokens=7),
        ),
        ("llama", TINY, "layernorm", {"kind": "LNTuningConfig", "task_type": "CAUSAL_LM"}, AdapterSpec()),
        ("phi3", TINY, "lora", {"kind": "LoraConfig", "r": 4, "target_modules": "all-linear"}, RANK_4),
        (
            "mixtral", {**TINY, "num_local_experts": 4}, "lora",
            {"kind": "LoraConfig", "r": 4, "target_modules": list(QV)}, AdapterSpec(rank=4, target_modules=QV),
        ),
        (
            "mixtral", {**TINY, "num_local_experts": 4}, "lora",
            {"kind": "LoraConfig", "r": 4, "target_modules": "all-linear"}, AdapterSpec(rank=4),
        ),
        (
            "t5", T5, "lora",
            {"kind": "LoraConfig", "r": 4, "target_modules": ["q", "v"], "task_type": "SEQ_2_SEQ_LM"},
            AdapterSpec(rank=4, target_modules=("q", "v")),
        ),
        (
            "t5", T5, "p-tuning",
            {"kind": "PromptEncoderConfig", "task_type": "SEQ_2_SEQ_LM", "num_virtual_tokens": 7},
            AdapterSpec(num_virtual_tokens=7),
        ),
    ],
)  # fmt: skip
def test_counts_are_those_of_peft(
    model_type: str, config: dict[str, Any], method: str, adapter: dict[str, Any], spec: AdapterSpec
) -> None:
    ours = trained(_architecture(model_type, config), method, spec).trainable
    assert ours == _real_count(model_type, config, adapter)


def _named(model: str) -> ModelArchitecture:
    architecture = resolve(model).architecture
    assert architecture is not None
    return architecture


def test_mistral_7b_with_rank_64_on_queries_and_values() -> None:
    mistral = _named("mistralai/Mistral-7B-v0.1")
    assert trained(mistral, "lora", AdapterSpec(rank=64, target_modules=QV)).trainable == 27_262_976


def test_five_prompt_tokens_on_t5_xxl() -> None:
    t5 = _named("google/flan-t5-xxl")
    assert trained(t5, "prompt-tuning", AdapterSpec(num_virtual_tokens=5)).trainable == 20_480


def test_litgpt_prints_the_same_counts_for_its_adapters() -> None:
    """https://github.com/Lightning-AI/litgpt/blob/main/tutorials/resource-tables.md"""
    from planner.memory.blocks.litgpt import litgpt_view

    llama = litgpt_view(_named("meta-llama/Llama-2-7b-hf"))
    assert trained(llama, "adaption-prompt", AdapterSpec()).trainable == 1_229_760
    assert trained(llama, "llama-adapter-v2", AdapterSpec()).trainable == 4_279_744
    stablelm = litgpt_view(_named("stabilityai/stablelm-base-alpha-3b"))
    assert trained(stablelm, "adaption-prompt", AdapterSpec()).trainable == 573_888
    assert trained(stablelm, "llama-adapter-v2", AdapterSpec()).trainable == 2_125_248


def test_full_fine_tuning_trains_every_parameter_and_mezo_as_many() -> None:
    llama = _named("meta-llama/Llama-2-7b-hf")
    assert trained(llama, "full", AdapterSpec()).trainable == llama.params_total
    assert trained(llama, "mezo", AdapterSpec()).trainable == llama.params_total


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnsupportedError, match="waveft") as refused:
        trained(_named("meta-llama/Llama-2-7b-hf"), "waveft", AdapterSpec())
    assert all(method in str(refused.value.hint) for method in METHODS)


def test_modules_the_model_does_not_have_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="c_attn"):
        trained(_named("meta-llama/Llama-2-7b-hf"), "lora", AdapterSpec(target_modules=("c_attn",)))


@pytest.mark.parametrize("method", RARE)
def test_less_common_methods_count_as_peft_does(method: str) -> None:
    kinds = {"loha": "LoHa", "lokr": "LoKr", "hira": "Hira", "miss": "Miss", "oft": "OFT", "road": "Road"}
    kind = kinds.get(method, {"c3a": "C3A", "delora": "Delora"}.get(method, method))
    config = TINY | {"hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 4}
    fields: dict[str, Any] = {"kind": f"{kind}Config", "target_modules": list(QV)}
    if method not in ("oft", "road", "c3a"):
        fields["r"] = 4
    spec = AdapterSpec(rank=4, target_modules=QV)
    counted = trained(_architecture("llama", config), method, spec).trainable
    assert counted == _real_count("llama", config, fields)
