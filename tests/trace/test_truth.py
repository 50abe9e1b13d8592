"""A trace is true: on real CPU tensors the same step allocates and frees the same bytes, event by event."""

from __future__ import annotations

from typing import Any

import pytest

from planner.request import AdapterSpec
from tests.trace.steps_of import Config, readable, run, traced, workload
from validate.trace.events import Kind

LLAMA: Config = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 200, "tie_word_embeddings": False,
}  # fmt: skip
QWEN2: Config = {
    "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 200, "tie_word_embeddings": True,
}  # fmt: skip
GPT2: Config = {
    "model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 200, "n_positions": 64,
}  # fmt: skip
MIXTRAL: Config = {
    "model_type": "mixtral", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 200, "num_local_experts": 4,
}  # fmt: skip
GEMMA2: Config = {
    "model_type": "gemma2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 200, "sliding_window": 8,
}  # fmt: skip
BERT: Config = {
    "model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": 200, "max_position_embeddings": 64,
}  # fmt: skip
T5: Config = {
    "model_type": "t5", "d_model": 64, "d_ff": 128, "d_kv": 16, "num_layers": 2, "num_heads": 4, "vocab_size": 200,
    "decoder_start_token_id": 0,
}  # fmt: skip
LORA = AdapterSpec(rank=4)

CASES: dict[str, tuple[Config, dict[str, Any]]] = {
    "llama full": (LLAMA, {}),
    "llama full, fp32": (LLAMA, {"weight_dtype": "fp32", "compute_dtype": "fp32"}),
    "llama full, fp32 weights in autocast": (LLAMA, {"weight_dtype": "fp32", "autocast": True}),
    "llama full, checkpointed": (LLAMA, {"gradient_checkpointing": "full"}),
    "llama full, eager attention": (LLAMA, {"attention": "eager"}),
    "llama full, padded": (LLAMA, {"padding_mask": True}),
    "llama full, outputs and cache kept": (LLAMA, {"keep_outputs": True, "use_cache": True}),
    "llama full, accumulated": (LLAMA, {"gradient_accumulation_steps": 2}),
    "llama full, fused adamw": (LLAMA, {"optimizer": "adamw-fused"}),
    "llama full, 8-bit adamw": (LLAMA, {"optimizer": "adamw-8bit"}),
    "llama full, adafactor": (LLAMA, {"optimizer": "adafactor"}),
    "llama full, muon": (LLAMA, {"optimizer": "muon"}),
    "llama lora": (LLAMA, {"method": "lora", "adapter": LORA}),
    "llama lora, checkpointed": (LLAMA, {"method": "lora", "adapter": LORA, "gradient_checkpointing": "full"}),
    "llama dora": (LLAMA, {"method": "dora", "adapter": LORA}),
    "llama prompt tuning": (LLAMA, {"method": "prompt-tuning"}),
    "qwen2 lora with dropout": (QWEN2, {"method": "lora", "adapter": AdapterSpec(rank=4, dropout=0.1)}),
    "gpt2 full": (GPT2, {}),
    "gemma2 full": (GEMMA2, {}),
    "mixtral lora, checkpointed": (MIXTRAL, {"method": "lora", "adapter": LORA, "gradient_checkpointing": "full"}),
    "bert full, padded": (BERT, {"padding_mask": True}),
    "bert classification": (BERT, {"objective": "sequence-classification"}),
    "t5 full": (T5, {}),
    "t5 lora": (T5, {"method": "lora", "adapter": LORA}),
}
QUANTISED: dict[str, dict[str, Any]] = {
    "nf4": {"weight_dtype": "nf4", "method": "qlora", "adapter": LORA},
    "nf4, double quantisation": {"weight_dtype": "nf4-dq", "method": "qlora", "adapter": LORA},
    "nf4, checkpointed": {
        "weight_dtype": "nf4-dq", "method": "qlora", "adapter": LORA, "gradient_checkpointing": "full",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_fake_and_real_steps_allocate_the_same_bytes_event_by_event(name: str) -> None:
    config, changes = CASES[name]
    asked = workload(**changes)
    assert readable(traced(config, asked)) == readable(run(config, asked))


@pytest.mark.parametrize("name", QUANTISED)
def test_hand_placed_4_bit_weights_behave_as_those_of_bitsandbytes(name: str) -> None:
    asked = workload(**QUANTISED[name])
    on_fake = traced(LLAMA, asked)
    real = run(LLAMA, asked, by_the_libraries=True)
    assert readable(on_fake) == readable(real)
    assert sum(kind is Kind.ALLOC for kind, *_ in on_fake.rows) == on_fake.num_allocations > 500
