"""Names, paths and sizes as a user writes them, and what they resolve to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import (
    EnvironmentProblemError,
    ExitCode,
    PlannerError,
    RequestError,
    UnknownNameError,
    UnsupportedError,
)
from planner.model.architecture import GroupedQueryAttention, LatentAttention, RecurrentMixer
from planner.model.registry import all_models, ambiguous_names, find, resolve

LLAMA = {
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))


def written(folder: Path, config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "config.json").write_text(text)
    return folder


def test_an_ambiguous_name_is_the_newest_and_names_the_others() -> None:
    found = resolve("llama-70b")
    assert found.architecture is not None
    assert found.architecture.name == "meta-llama/Llama-3.3-70B-Instruct"
    assert found.num_params_named == 70_000_000_000
    for other in ("Llama-2-70b-hf", "Meta-Llama-3-70B", "Llama-3.1-70B"):
        assert other in found.notes[0]


def test_a_model_that_owns_a_shared_name_keeps_it_and_the_others_are_named() -> None:
    found = resolve("t5-3b")
    assert found.architecture is not None
    assert found.architecture.name == "google-t5/t5-3b"
    assert "google/flan-t5-xl" in found.notes[0]


def test_every_ambiguous_name_leads_to_a_registered_model() -> None:
    for name, ids in ambiguous_names().items():
        assert all(find(model_id) for model_id in ids), name
        assert find(name) is not None


def test_every_name_and_alias_leads_home_in_any_case() -> None:
    for entry in all_models():
        assert find(entry.id.upper()) == entry
        for alias in entry.aliases:
            assert find(alias.title()) == entry, alias


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("llama-70b", 70_000_000_000),
        ("bigscience/bloom-7b1", 7_100_000_000),
        ("internlm/internlm2-1_8b", 1_800_000_000),
        ("HuggingFaceTB/SmolLM2-135M", 135_000_000),
        ("microsoft/bitnet-b1.58-2B-4T", 2_000_000_000),
        ("mistralai/Mixtral-8x7B-v0.1", 46_700_000_000),
        ("openai-community/gpt2", 124_000_000),
        ("deepseek-ai/DeepSeek-V3", 671_000_000_000),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 108_000_000_000),
        ("llama-33b", 33_000_000_000),
    ],
)
def test_the_size_a_model_is_named_by(name: str, size: int) -> None:
    assert resolve(name).num_params_named == size


def test_a_size_alone_has_no_architecture() -> None:
    found = resolve("params:7B")
    assert found.architecture is None
    assert found.num_params_named == 7_000_000_000
    assert found.notes


def test_near_misses_are_named_once_each() -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve("lama-7b")
    assert caught.value.hint is not None
    names = caught.value.hint.removeprefix("did you mean ").removesuffix("?").split(", ")
    assert "llama-7b" in names
    assert len(set(names)) == len(names) == 3


def test_a_typo_is_answered_with_near_misses() -> None:
    with pytest.raises(UnknownNameError) as error:
        resolve("lama-3.1-8b")
    assert "llama-3.1-8b" in (error.value.hint or "")


def test_a_hub_id_without_a_network_says_so() -> None:
    with pytest.raises(EnvironmentProblemError, match="switched off") as error:
        resolve("someone/some-model")
    assert error.value.exit_code == ExitCode.ENVIRONMENT


def test_a_cached_hub_config_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    import huggingface_hub.constants as constants

    cache = tmp_path / "cache"
    snapshot = cache / "models--someone--some-model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(LLAMA))
    refs = cache / "models--someone--some-model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.file_download, "HF_HUB_CACHE", str(cache), raising=False)
    found = resolve("someone/some-model")
    assert found.architecture is not None
    assert found.architecture.params_total == 6_738_415_616


@pytest.mark.parametrize(
    ("copy", "original", "weight_dtype"),
    [
        ("unsloth/Llama-3.2-3B-Instruct-bnb-4bit", "meta-llama/Llama-3.2-3B", "nf4-dq"),
        ("someone/Llama-3.2-3B-Instruct-Q4_K_M-GGUF", "meta-llama/Llama-3.2-3B", "gguf-q4_k_m"),
        ("unsloth/gpt-oss-20b-BF16", "openai/gpt-oss-20b", "bf16"),
        ("llama3.2:3b", "meta-llama/Llama-3.2-3B", None),
    ],
)
def test_a_quantised_upload_has_the_shape_of_its_original(
    copy: str, original: str, weight_dtype: str | None
) -> None:
    found = resolve(copy)
    assert found.architecture == resolve(original).architecture
    assert found.checkpoint_weight_dtype == weight_dtype
    assert original in found.notes[0]


def test_a_repository_of_many_gguf_files_asks_for_one() -> None:
    found = resolve("TheBloke/Llama-2-7B-GGUF")
    assert found.checkpoint_weight_dtype is None
    assert "--weight-dtype" in found.notes[0]


def test_a_local_config_equals_its_registry_row(tmp_path: Path) -> None:
    for entry in all_models()[::7]:
        folder = written(tmp_path / "model", dict(entry.config))
        local = resolve(str(folder)).architecture
        registered = entry.architecture()
        assert local is not None
        assert local.groups == registered.groups
        assert local.params_total == registered.params_total
        assert (local.vocab_size, local.norm, local.kind) == (
            registered.vocab_size,
            registered.norm,
            registered.kind,
        )


@pytest.mark.parametrize("spelling", ["{}", "{}/config.json", "{}/"])
def test_a_directory_and_its_file_are_the_same_model(tmp_path: Path, spelling: str) -> None:
    folder = written(tmp_path / "mine", LLAMA)
    found = resolve(spelling.format(folder))
    assert found.architecture is not None
    assert found.architecture.name == "mine"
    assert found.architecture.params_total == 6_738_415_616


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON at line 1"),
        ("[1, 2]", "does not hold an object"),
        ("null", "does not hold an object"),
        ('"llama"', "does not hold an object"),
        ("[" * 100_000, "not valid JSON"),
        ({}, "no model_type"),
        (LLAMA | {"model_type": 7}, "model_type"),
        (LLAMA | {"hidden_size": None}, "hidden_size"),
        (LLAMA | {"hidden_size": "wide"}, "hidden_size"),
        (LLAMA | {"num_hidden_layers": -3}, "num_hidden_layers"),
        (LLAMA | {"num_hidden_layers": 10**30}, "num_hidden_layers"),
        ('{"model_type": "llama", "num_hidden_layers": ' + "9" * 5000 + "}", "not valid JSON"),
        (LLAMA | {"num_attention_heads": 0}, "num_attention_heads"),
        (LLAMA | {"num_attention_heads": 31}, "hidden_size"),
        (LLAMA | {"num_key_value_heads": 5}, "num_attention_heads"),
        (LLAMA | {"vocab_size": True}, "vocab_size"),
        (LLAMA | {"intermediate_size": 1.5}, "intermediate_size"),
        (LLAMA | {"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"model_type": "gemma3", "text_config": 3}, "text_config"),
    ],
)
def test_a_broken_config_is_one_line_naming_the_key(tmp_path: Path, text: Any, says: str) -> None:
    folder = written(tmp_path / "broken", text)
    with pytest.raises(RequestError) as error:
        resolve(str(folder))
    assert says in error.value.message
    assert error.value.exit_code == ExitCode.BAD_REQUEST
    assert len(error.value.message) < 300


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "config.json").write_bytes(b"\xff\xfe\x00\x80")
    for path in (tmp_path / "nowhere" / "config.json", tmp_path / "binary", tmp_path):
        with pytest.raises(RequestError) as error:
            resolve(str(path))
        assert str(path) in error.value.message


def test_an_unknown_model_type_with_experts_is_refused_by_name(tmp_path: Path) -> None:
    folder = written(tmp_path / "odd", LLAMA | {"model_type": "novel", "n_routed_experts": 64})
    with pytest.raises(UnsupportedError, match="'novel'") as error:
        resolve(str(folder))
    assert "n_routed_experts" in (error.value.hint or "")


def test_an_unknown_model_type_of_llama_shape_is_taken_as_llama_with_a_doubt(tmp_path: Path) -> None:
    folder = written(tmp_path / "odd", LLAMA | {"model_type": "novel", "rms_norm_eps": 1e-5, "use_cache": True})
    found = resolve(str(folder))
    assert found.architecture is not None
    assert found.architecture.params_total == 6_738_415_616
    assert found.architecture.confidence == "C"
    assert "novel" in found.notes[0]


@pytest.mark.parametrize(
    ("quantization", "name"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
          "bnb_4bit_use_double_quant": True}, "nf4-dq"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        ({"quant_method": "gptq", "bits": 8}, "gptq-int8"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "gptq-int4-g32"),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, "gptq-int4-gch"),
        ({"quant_method": "awq", "bits": 4}, "awq-int4"),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, "awq-int4-g64"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"group_0": {"weights": {"type": "float", "num_bits": 4}}}}, "nvfp4"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {
            "type": "int", "num_bits": 8, "strategy": "channel", "symmetric": True}}}}, "gptq-int8-gch"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {
            "type": "int", "num_bits": 4, "group_size": 32, "symmetric": False}}}}, "awq-int4-g32"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        (None, None),
    ],
)  # fmt: skip
def test_the_weight_format_of_a_checkpoint(tmp_path: Path, quantization: Any, name: str | None) -> None:
    folder = written(tmp_path / "packed", LLAMA | {"quantization_config": quantization})
    assert resolve(str(folder)).checkpoint_weight_dtype == name


def test_a_group_size_that_is_none_is_refused(tmp_path: Path) -> None:
    odd = {"quant_method": "gptq", "bits": 4, "group_size": "many"}
    with pytest.raises(UnsupportedError, match="group size of many"):
        resolve(str(written(tmp_path / "packed", LLAMA | {"quantization_config": odd})))


def test_an_unknown_quantisation_is_refused_by_name(tmp_path: Path) -> None:
    folder = written(tmp_path / "packed", LLAMA | {"quantization_config": {"quant_method": "quip"}})
    with pytest.raises(UnsupportedError, match="quip"):
        resolve(str(folder))


def test_windows_latents_states_and_shared_layers_are_described() -> None:
    def mixers(name: str) -> list[tuple[int, Any]]:
        architecture = resolve(name).architecture
        assert architecture is not None
        return [(group.count, group.mixer) for group in architecture.groups]

    gemma3 = mixers("google/gemma-3-27b-it")
    assert [(count, mixer.window) for count, mixer in gemma3] == [(52, 1024), (10, None)]
    gemma4 = mixers("google/gemma-4-31B")
    assert [(count, mixer.head_dim, mixer.num_key_value_heads) for count, mixer in gemma4] == [
        (50, 256, 16),
        (10, 512, 4),
    ]
    shared = mixers("google/gemma-3n-E4B")
    assert sum(count for count, mixer in shared if mixer.shares_kv_with_earlier_layer) == 15
    ((_, latent), *_) = mixers("deepseek-ai/DeepSeek-V3")
    assert isinstance(latent, LatentAttention)
    assert (latent.kv_lora_rank, latent.qk_rope_head_dim) == (512, 64)
    hybrid = mixers("Qwen/Qwen3-Next-80B-A3B-Instruct")
    assert [count for count, mixer in hybrid if isinstance(mixer, RecurrentMixer)] == [36]
    assert [mixer.state_elements for _, mixer in hybrid if isinstance(mixer, RecurrentMixer)] == [32 * 128 * 128]
    flan = resolve("google/flan-t5-base").architecture
    assert flan is not None
    assert [group.cross_attention is not None for group in flan.groups] == [False, True]
    assert not flan.tie_word_embeddings
    scout = mixers("meta-llama/Llama-4-Scout-17B-16E-Instruct")
    assert [(count, mixer.window) for count, mixer in scout] == [(36, 8192), (12, None)]
    assert all(isinstance(mixer, GroupedQueryAttention) for _, mixer in scout)


def test_every_error_of_the_registry_is_the_planner_s_own() -> None:
    for name in (
        "",
        " ",
        "/",
        "..",
        "~nobody/x",
        "a/b/c",
        "params:",
        "params:-1",
        "params:1e99",
        "\0",
        "x" * 10_000,
    ):
        with pytest.raises(PlannerError):
            resolve(name)
