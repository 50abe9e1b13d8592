"""The words a request may use: methods, optimizers, kernels, engines. Formulas branch on these names only."""

from __future__ import annotations

FULL_METHODS = ("full", "layernorm", "mezo")
"""Methods that update base weights in place."""
RANKED_METHODS = (
    "lora", "qlora", "rslora", "lora+", "pissa", "dora", "qdora", "adalora", "vera", "loha", "lokr", "hira",
    "miss", "delora",
)  # fmt: skip
PROMPT_METHODS = ("prompt-tuning", "prefix-tuning", "p-tuning", "adaption-prompt", "llama-adapter-v2")
QUANTISED_METHODS = ("qlora", "qdora")
METHODS = (*FULL_METHODS, *RANKED_METHODS, *PROMPT_METHODS, "ia3", "oft", "c3a", "road", "bottleneck")

OPTIMIZERS = (
    "adamw",
    "adamw-fused",
    "adamw-forloop",
    "adamw-8bit",
    "paged-adamw",
    "paged-adamw-8bit",
    "sgd",
    "sgd-momentum",
    "adafactor",
    "lion",
    "lion-8bit",
    "paged-lion-8bit",
    "muon",
    "galore",
)
CHECKPOINTING = ("none", "full", "selective", "offload")
ATTENTION = ("eager", "sdpa", "flash-attention-2")
LOSSES = ("standard", "chunked", "fused")
OBJECTIVES = ("sft", "pretrain", "dpo", "orpo", "kto", "ppo", "grpo", "reward", "sequence-classification")
ENGINES = ("transformers", "vllm", "sglang", "llama.cpp", "litgpt", "autoawq")
UNMODELLED_ENGINES = {
    "ollama": "it runs llama.cpp: --engine llama.cpp",
    "lm-studio": "on NVIDIA GPUs it runs llama.cpp: --engine llama.cpp",
    "koboldcpp": "it runs llama.cpp: --engine llama.cpp",
    "tensorrt-llm": "--engine vllm shares its paged cache, not its start",
    "tgi": "--engine vllm shares its paged cache, not its start",
    "lmdeploy": "--engine vllm shares its paged cache, not its start",
    "exllamav2": "its own weight format is not modelled; --engine vllm serves gptq-int4",
    "exllamav3": "its own weight format is not modelled; --engine vllm serves gptq-int4",
    "mlx": "on Apple silicon --engine llama.cpp is modelled",
}
"""Engines people name that have no formulas here, and what to ask for instead."""
CPU_OFFLOAD = ("none", "optimizer", "parameters", "nvme")
PIPELINE_SCHEDULES = ("gpipe", "1f1b", "interleaved-1f1b", "zero-bubble")
COMPUTE_DTYPES = ("fp32", "bf16", "fp16")
KV_CACHE_DTYPES = ("fp32", "bf16", "fp16", "fp8", "int8", "int4", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")

TRAINABLE_FORMATS = ("fp32", "bf16", "fp16")
"""Storage formats autograd can update. Everything else only carries adapters."""
