"""Every family's description against the model class of transformers, built from its config on the meta device."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import transformers
from transformers.pytorch_utils import Conv1D

from planner.model.architecture import Linear, ModelArchitecture
from planner.model.hf_config import architecture_from_config
from planner.model.registry import RegistryEntry, all_models

SMALL: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {
    "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 12,
    "num_key_value_heads": 4, "n_routed_experts": 8, "n_shared_experts": 2, "first_k_dense_replace": 2, **MOE,
}  # fmt: skip
DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 4, "head_dim": 24, "num_hidden_layers": 8,
}  # fmt: skip
GPT = {"vocab_size": 320, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 96}
ENCODER = {"num_key_value_heads": None, "type_vocab_size": 3}
SEQ2SEQ = {
    "vocab_size": 320, "d_model": 64, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 96, "decoder_ffn_dim": 80, "max_position_embeddings": 64,
}  # fmt: skip
T5 = {
    "vocab_size": 320,
    "d_model": 64,
    "d_ff": 96,
    "d_kv": 12,
    "num_heads": 4,
    "num_layers": 2,
    "num_decoder_layers": 3,
}
LAYERS = {"sliding_window": 32}

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "LlamaForCausalLM", {}),
    ("llama", "LlamaForCausalLM", {
        "attention_bias": True, "mlp_bias": True, "head_dim": 24, "tie_word_embeddings": True}),
    ("granite", "GraniteForCausalLM", {}),
    ("smollm3", "SmolLM3ForCausalLM", {}),
    ("seed_oss", "SeedOssForCausalLM", {"attention_bias": True, "attention_out_bias": False, "head_dim": 24}),
    ("exaone4", "Exaone4ForCausalLM", LAYERS),
    ("nemotron", "NemotronForCausalLM", {}),
    ("mamba2", "Mamba2ForCausalLM", {"num_heads": 8, "head_dim": 16, "n_groups": 2, "state_size": 8}),
    ("mistral", "MistralForCausalLM", LAYERS),
    ("ministral3", "Ministral3ForCausalLM", {"head_dim": 24}),
    ("phi3", "Phi3ForCausalLM", {}),
    ("phi", "PhiForCausalLM", {"num_key_value_heads": 4}),
    ("qwen2", "Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 4}),
    ("qwen3", "Qwen3ForCausalLM", {"head_dim": 24}),
    ("gemma", "GemmaForCausalLM", {"head_dim": 24}),
    ("gemma2", "Gemma2ForCausalLM", {"head_dim": 24, **LAYERS}),
    ("gemma3_text", "Gemma3ForCausalLM", {"head_dim": 24, **LAYERS, "num_hidden_layers": 13}),
    ("gemma3n_text", "Gemma3nForCausalLM", {
        "head_dim": 24, **LAYERS, "num_hidden_layers": 10, "num_kv_shared_layers": 4,
        "intermediate_size": [96] * 10,
        "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 300, "laurel_rank": 6,
        "layer_types": None,
        "activation_sparsity_pattern": None}),
    ("gemma4_text", "Gemma4ForCausalLM", {
        "head_dim": 24, "global_head_dim": 48, **LAYERS, "num_hidden_layers": 12, "num_kv_shared_layers": 6,
        "use_double_wide_mlp": True, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 300}),
    ("gemma4_text", "Gemma4ForCausalLM", {
        "head_dim": 24, "global_head_dim": 48, "num_global_key_value_heads": 1, "attention_k_eq_v": True,
        **LAYERS,
        "num_hidden_layers": 12, "hidden_size_per_layer_input": 0, "enable_moe_block": True, "num_experts": 6,
        "top_k_experts": 2, "moe_intermediate_size": 24}),
    ("glm", "GlmForCausalLM", {"head_dim": 16, "attention_bias": True}),
    ("glm4", "Glm4ForCausalLM", {"head_dim": 16, "attention_bias": True}),
    ("olmo", "OlmoForCausalLM", {}),
    ("olmo2", "Olmo2ForCausalLM", {}),
    ("olmo3", "Olmo3ForCausalLM", LAYERS),
    ("cohere", "CohereForCausalLM", {"use_qk_norm": True}),
    ("cohere2", "Cohere2ForCausalLM", LAYERS),
    ("stablelm", "StableLmForCausalLM", {"use_qkv_bias": True}),
    ("stablelm", "StableLmForCausalLM", {"qk_layernorm": True, "use_parallel_residual": True}),
    ("starcoder2", "Starcoder2ForCausalLM", {}),
    ("bitnet", "BitNetForCausalLM", {}),
    ("ernie4_5", "Ernie4_5ForCausalLM", {"head_dim": 16}),
    ("mixtral", "MixtralForCausalLM", {"num_local_experts": 6}),
    ("qwen2_moe", "Qwen2MoeForCausalLM", {
        "num_experts": 6, **MOE, "shared_expert_intermediate_size": 40, "decoder_sparse_step": 2,
        "mlp_only_layers": [3]}),
    ("qwen3_moe", "Qwen3MoeForCausalLM", {"num_experts": 6, **MOE, "head_dim": 24}),
    ("olmoe", "OlmoeForCausalLM", {"num_experts": 6, **MOE}),
    ("granitemoe", "GraniteMoeForCausalLM", {"num_local_experts": 6, "num_experts_per_tok": 2}),
    ("phimoe", "PhimoeForCausalLM", {"num_local_experts": 6, "attention_bias": True, "lm_head_bias": True}),
    ("gpt_oss", "GptOssForCausalLM", {"num_local_experts": 6, "num_experts_per_tok": 2, "head_dim": 24, **LAYERS}),
    ("minimax_m2", "MiniMaxM2ForCausalLM", {"num_local_experts": 6, "num_experts_per_tok": 2, "head_dim": 24}),
    ("glm4_moe", "Glm4MoeForCausalLM", {
        "n_routed_experts": 6, "n_shared_experts": 1, **MOE, "first_k_dense_replace": 2, "use_qk_norm": True}),
    ("dots1", "Dots1ForCausalLM", {
        "n_routed_experts": 6, "n_shared_experts": 2, **MOE, "first_k_dense_replace": 1}),
    ("ernie4_5_moe", "Ernie4_5_MoeForCausalLM", {
        "moe_num_experts": 6, "moe_k": 2, "moe_num_shared_experts": 2, **MOE, "moe_layer_start_index": 2,
        "moe_layer_end_index": 4}),
    ("llama4_text", "Llama4ForCausalLM", {
        "num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 80,
        "interleave_moe_layer_step": 2,
        "head_dim": 16, "attention_chunk_size": 32, "num_hidden_layers": 8, "layer_types": None,
        "no_rope_layers": None}),
    ("dbrx", "DbrxForCausalLM", {
        "vocab_size": 320, "d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 64,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 64}}),
    ("deepseek_v2", "DeepseekV2ForCausalLM", LATENT | {"q_lora_rank": None}),
    ("deepseek_v3", "DeepseekV3ForCausalLM", LATENT),
    ("deepseek_v32", "DeepseekV32ForCausalLM", LATENT | {"index_n_heads": 4, "index_head_dim": 8}),
    ("glm4_moe_lite", "Glm4MoeLiteForCausalLM", LATENT),
    ("glm_moe_dsa", "GlmMoeDsaForCausalLM", LATENT | {"index_n_heads": 4, "index_head_dim": 8}),
    ("deepseek_v4", "DeepseekV4ForCausalLM", {
        "head_dim": 32, "q_lora_rank": 24, "o_lora_rank": 8, "o_groups": 2, "n_routed_experts": 6, **MOE,
        "num_key_value_heads": 1, "index_n_heads": 4, "index_head_dim": 8, "compress_ratios": [0, 4, 128, 4,
        128, 0]}),
    ("qwen3_next", "Qwen3NextForCausalLM", DELTA | {
        "num_experts": 6, **MOE, "shared_expert_intermediate_size": 40}),
    ("qwen3_5_text", "Qwen3_5ForCausalLM", DELTA),
    ("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM", DELTA | {
        "num_experts": 6, **MOE, "shared_expert_intermediate_size": 40}),
    ("mamba", "MambaForCausalLM", {"intermediate_size": 128, "state_size": 8, "time_step_rank": 5}),
    ("falcon_mamba", "FalconMambaForCausalLM", {"intermediate_size": 128, "state_size": 8, "time_step_rank": 5}),
    ("jamba", "JambaForCausalLM", {
        "num_experts": 4, "num_experts_per_tok": 2, "mamba_dt_rank": 6, "mamba_d_state": 8,
        "num_hidden_layers": 9}),
    ("nemotron_h", "NemotronHForCausalLM", {
        "layers_block_type": ["mamba", "moe", "attention", "mlp", "mamba", "moe"], "head_dim": 16, "n_groups": 2,
        "ssm_state_size": 8, "mamba_num_heads": 8, "mamba_head_dim": 16, "n_routed_experts": 4,
        "moe_latent_size": 32,
        **MOE, "moe_shared_expert_intermediate_size": 40}),
    ("granitemoehybrid", "GraniteMoeHybridForCausalLM", {
        "layer_types": ["mamba", "mamba", "attention"] * 2, "num_local_experts": 0,
        "shared_intermediate_size": 96,
        "mamba_n_heads": 8, "mamba_d_state": 8, "tie_word_embeddings": True}),
    ("granitemoehybrid", "GraniteMoeHybridForCausalLM", {
        "layer_types": ["mamba", "attention"] * 3, "num_local_experts": 4, "num_experts_per_tok": 2,
        "shared_intermediate_size": 40, "mamba_n_heads": 8, "mamba_d_state": 8}),
    ("lfm2", "Lfm2ForCausalLM", {"layer_types": ["conv", "conv", "full_attention"] * 2, "block_multiple_of": 16}),
    ("lfm2_moe", "Lfm2MoeForCausalLM", {
        "layer_types": ["conv", "conv", "full_attention"] * 2, "num_experts": 4, **MOE, "num_dense_layers": 2}),
    ("gpt2", "GPT2LMHeadModel", GPT),
    ("gpt_bigcode", "GPTBigCodeForCausalLM", GPT),
    ("gptj", "GPTJForCausalLM", GPT | {"rotary_dim": 8}),
    ("gpt_neo", "GPTNeoForCausalLM", {
        "vocab_size": 320, "hidden_size": 64, "num_layers": 4, "num_heads": 4, "max_position_embeddings": 64,
        "attention_types": [[["global", "local"], 2]]}),
    ("gpt_neox", "GPTNeoXForCausalLM", {"num_key_value_heads": None}),
    ("opt", "OPTForCausalLM", {"ffn_dim": 96, "word_embed_proj_dim": 64, "num_key_value_heads": None}),
    ("opt", "OPTForCausalLM", {
        "ffn_dim": 96, "word_embed_proj_dim": 32, "do_layer_norm_before": False, "num_key_value_heads": None}),
    ("bloom", "BloomForCausalLM", {"vocab_size": 320, "hidden_size": 64, "n_layer": 2, "n_head": 4}),
    ("mpt", "MptForCausalLM", {"vocab_size": 320, "d_model": 64, "n_layers": 2, "n_heads": 4}),
    ("falcon", "FalconForCausalLM", {"num_key_value_heads": None}),
    ("falcon", "FalconForCausalLM", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon", "FalconForCausalLM", {"multi_query": False, "parallel_attn": False, "bias": True, "alibi": True}),
    ("bert", "BertModel", ENCODER),
    ("roberta", "RobertaModel", ENCODER),
    ("xlm-roberta", "XLMRobertaModel", ENCODER),
    ("distilbert", "DistilBertModel", {
        "vocab_size": 320, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 96,
        "max_position_embeddings": 64}),
    ("modernbert", "ModernBertForMaskedLM", {"layer_types": None, "local_attention": 32}),
    ("t5", "T5ForConditionalGeneration", T5),
    ("t5", "T5ForConditionalGeneration", T5 | {"feed_forward_proj": "gated-gelu"}),
    ("mt5", "MT5ForConditionalGeneration", T5 | {"feed_forward_proj": "gated-gelu"}),
    ("bart", "BartForConditionalGeneration", SEQ2SEQ),
    ("mbart", "MBartForConditionalGeneration", SEQ2SEQ),
]  # fmt: skip
TOWERS: list[tuple[str, str, dict[str, Any]]] = [
    ("gemma3", "Gemma3ForConditionalGeneration", {}),
    ("gemma4", "Gemma4ForConditionalGeneration", {"vision_config": {}, "audio_config": {}}),
    ("gemma4_unified", "Gemma4UnifiedForConditionalGeneration", {"vision_config": {}, "audio_config": {}}),
    ("paligemma", "PaliGemmaForConditionalGeneration", {}),
    ("llava", "LlavaForConditionalGeneration", {}),
    ("mistral3", "Mistral3ForConditionalGeneration", {}),
    ("llama4", "Llama4ForConditionalGeneration", {}),
    ("mllama", "MllamaForConditionalGeneration", {}),
    ("qwen2_vl", "Qwen2VLForConditionalGeneration", {}),
    ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", {}),
    ("qwen3_vl", "Qwen3VLForConditionalGeneration", {}),
    ("qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration", {}),
    ("qwen3_5", "Qwen3_5ForConditionalGeneration", {}),
    ("qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", {}),
]


def _real(config: Any, model_class: str) -> torch.nn.Module:
    with torch.device("meta"):
        model = getattr(transformers, model_class)._from_config(config)
    assert isinstance(model, torch.nn.Module)
    return model


def _saved(config: Any) -> dict[str, Any]:
    """The config as ``save_pretrained`` writes it."""
    loaded: dict[str, Any] = json.loads(config.to_json_string())
    return loaded


def _shape(model_type: str, changes: dict[str, Any]) -> dict[str, Any]:
    own_names = {"d_model", "n_embd", "dim", "n_layer", "num_layers"} & set(changes)
    return changes if own_names else SMALL | changes


def _count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _real_linears(model: torch.nn.Module) -> Counter[tuple[str, int, int, bool]]:
    """(last name, in, out, bias) of every matrix module inside the layers, fused experts apart."""
    found: Counter[tuple[str, int, int, bool]] = Counter()
    for path, module in model.named_modules():
        inside = re.search(r"\.\d+\.", f".{path}.")
        if not inside or not isinstance(module, torch.nn.Linear | Conv1D):
            continue
        name = path.rpartition(".")[2]
        if name.isdigit():  # Gemma-3n's projections between residual streams, beside the layers
            continue
        if isinstance(module, Conv1D):
            in_features, out_features = module.weight.shape
        else:
            out_features, in_features = module.weight.shape
        found[name, in_features, out_features, module.bias is not None] += 1
    return found


def _described(linears: Iterable[tuple[int, Linear]]) -> Counter[tuple[str, int, int, bool]]:
    found: Counter[tuple[str, int, int, bool]] = Counter()
    for count, linear in linears:
        if linear.is_module:
            found[linear.name, linear.in_features, linear.out_features, linear.bias] += count * linear.count
    return found


def _linears(architecture: ModelArchitecture) -> Iterable[tuple[int, Linear]]:
    return ((group.count, linear) for group in architecture.groups for linear in group.linears)


@pytest.mark.parametrize(
    ("model_type", "model_class", "changes"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)]
)
def test_every_matrix_and_every_parameter(model_type: str, model_class: str, changes: dict[str, Any]) -> None:
    config = transformers.AutoConfig.for_model(model_type, **_shape(model_type, changes))
    model = _real(config, model_class)
    architecture = architecture_from_config(_saved(config), name="case")
    assert _described(_linears(architecture)) == _real_linears(model)
    forced_tie = model_type in ("t5", "mt5") and changes.get("feed_forward_proj")
    own_head = architecture.vocab_size * architecture.hidden_size if forced_tie else 0
    assert architecture.params_total - own_head == _count(model)


@pytest.mark.parametrize(("model_type", "model_class", "changes"), TOWERS, ids=[case[0] for case in TOWERS])
def test_vision_towers_count_as_built(model_type: str, model_class: str, changes: dict[str, Any]) -> None:
    config = transformers.AutoConfig.for_model(model_type, **changes, text_config={"num_hidden_layers": 6})
    model = _real(config, model_class)
    architecture = architecture_from_config(_saved(config), name="case")
    assert architecture.vision_params > 0
    assert architecture.params_total == _count(model)


@pytest.mark.parametrize(("model_type", "model_class", "changes"), TOWERS, ids=[case[0] for case in TOWERS])
def test_nested_configs_may_leave_out_what_their_classes_imply(
    model_type: str, model_class: str, changes: dict[str, Any]
) -> None:
    nested = {"vision_config": {}, **changes, "text_config": {"num_hidden_layers": 6}}
    saved = _saved(transformers.AutoConfig.for_model(model_type, **copy.deepcopy(nested)))
    bare = {"model_type": model_type, "tie_word_embeddings": saved.get("tie_word_embeddings"), **nested}
    assert architecture_from_config(bare, name="case") == architecture_from_config(saved, name="case")


def _built_by_transformers() -> list[RegistryEntry]:
    """The smallest model of every type transformers has a causal, sequence-to-sequence or encoder class for."""
    own_code = {"baichuan", "chatglm", "deepseek", "grok-1", "internlm", "internlm2", "phi3small", "qwen"}
    smallest: dict[str, RegistryEntry] = {}
    for entry in sorted(all_models(), key=lambda entry: entry.params_total):
        smallest.setdefault(entry.config["model_type"], entry)
    return [entry for model_type, entry in smallest.items() if model_type not in own_code | {"mistral4"}]


@pytest.mark.parametrize("entry", _built_by_transformers(), ids=lambda entry: entry.id)
def test_a_registered_config_means_the_same_to_transformers(entry: RegistryEntry) -> None:
    values = copy.deepcopy(dict(entry.config))
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    architecture = entry.architecture()
    if architecture.kind == "encoder":
        auto = transformers.AutoModelForMaskedLM if architecture.has_lm_head else transformers.AutoModel
    elif architecture.kind == "encoder-decoder":
        auto = transformers.AutoModelForSeq2SeqLM
    else:
        auto = (
            transformers.AutoModelForImageTextToText
            if architecture.vision_params
            else transformers.AutoModelForCausalLM
        )
    with torch.device("meta"):
        model = auto.from_config(config)
    gated_t5 = entry.config["model_type"] in ("t5", "mt5") and not architecture.tie_word_embeddings
    assert _count(model) == entry.params_total - (architecture.lm_head_params if gated_t5 else 0)


@pytest.mark.parametrize(
    "model_type", ["llama", "mistral", "qwen2", "qwen3", "gemma", "mixtral", "gpt_oss", "glm", "smollm3"]
)
def test_what_a_config_leaves_out_is_that_of_its_class(model_type: str) -> None:
    sizes = SMALL | {
        "hidden_size": 128,
        "num_attention_heads": 64,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    }
    del sizes["num_key_value_heads"]
    with torch.device("meta"):
        config = transformers.AutoConfig.for_model(model_type, **sizes)
        model = transformers.AutoModelForCausalLM.from_config(config)
    assert architecture_from_config(sizes | {"model_type": model_type}, name="case").params_total == _count(model)


def test_t5_keeps_the_same_matrices_out_of_bitsandbytes_as_transformers() -> None:
    """What QLoRA of a T5 leaves in 16 bits: transformers' own list, built without weights."""
    from transformers import T5ForConditionalGeneration

    from planner.model.registry import resolve

    kept = set(T5ForConditionalGeneration._keep_in_fp32_modules or ())
    model = resolve("google/flan-t5-base").architecture
    assert model is not None
    names = {linear.name for group in model.groups for linear in group.linears if not linear.is_packable}
    assert names == kept == {"wo"}
