"""The pass over a prompt as formulas see it, against transformers' own code on fake tensors."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, Qwen3Config, Qwen3MoeConfig

from planner.memory.serving import serving_breakdown
from planner.model.hf_config import architecture_from_config
from planner.request import Parallelism, ServingWorkload

TOKENS = 2048
SMALL = {"num_hidden_layers": 3, "max_position_embeddings": 4096, "vocab_size": 32_000}
CONFIGS = {
    "llama": LlamaConfig(hidden_size=1024, intermediate_size=2816, num_attention_heads=8, **SMALL),
    "grouped": Qwen3Config(
        hidden_size=1024, intermediate_size=3072, num_attention_heads=16, num_key_value_heads=4, head_dim=128,
        **SMALL,
    ),
    "no gate": GPTNeoXConfig(hidden_size=1024, intermediate_size=4096, num_attention_heads=16, **SMALL),
    "experts": Qwen3MoeConfig(
        hidden_size=1024, moe_intermediate_size=384, num_experts=16, num_experts_per_tok=4, num_attention_heads=8,
        num_key_value_heads=2, head_dim=128, **SMALL,
    ),
}  # fmt: skip


class Live(TorchDispatchMode):
    """Bytes of live storages, parameters aside, and their peak."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        held = (*model.parameters(), *model.buffers())
        self.known = {tensor.untyped_storage()._cdata for tensor in held}
        self.watched: dict[int, Any] = {}
        self.live_bytes = self.peak_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf.untyped_storage())
        return result

    def add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return

        def gone(_: Any) -> None:
            self.known.discard(key)
            self.live_bytes -= size

        self.known.add(key)
        self.watched[key] = weakref.ref(storage, gone)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)


def traced_peak(config: Any) -> int:
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16).eval()
        live = Live(model)
        tokens = torch.zeros(1, TOKENS, dtype=torch.long)
        with torch.no_grad(), live:
            model(input_ids=tokens, use_cache=True, logits_to_keep=1)
    return live.peak_bytes


@pytest.mark.parametrize("name", CONFIGS)
def test_prompt_pass(name: str) -> None:
    config = CONFIGS[name]
    architecture = architecture_from_config(config.to_dict(), name=name, source="test")
    workload = ServingWorkload(prompt_tokens=TOKENS, output_tokens=1)
    memory = serving_breakdown(architecture, workload, Parallelism(), None)
    prefill = next(phase for phase in memory.phases if phase.phase == "prefill")
    predicted = sum(
        term.size_bytes for term in prefill.terms if term.kind in ("kv_cache", "activations", "logits")
    )
    assert predicted == pytest.approx(traced_peak(config), rel=0.03)
