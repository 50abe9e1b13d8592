"""Suites by name, and the run that a case of one means on a device.

Everything is built from configs with random weights: no network, no checkpoint. On a CPU the same runs are made
with every dimension shrunk, which rehearses the whole path in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.errors import UnknownNameError
from planner.model import registry
from planner.model.architecture import ModelArchitecture
from planner.request import ServingWorkload, TrainingWorkload
from validate.matrix import Case, full, quick, recipes, small, standard
from validate.measure.spec import Device, Head, RunSpec

SUITES = {"quick": quick, "standard": standard, "full": full, "recipes": recipes, "small": small}


def suite(name: str) -> tuple[Case, ...]:
    """The cases of a suite, or the single case of that name in the full one; raises UnknownNameError."""
    if name in SUITES:
        return tuple(SUITES[name]())
    found = tuple(case for case in full() if case.name == name)
    if not found:
        recipe_names = ", ".join(case.name for case in recipes())
        raise UnknownNameError(
            f"there is no suite {name[:40]!r}",
            hint=f"choose {', '.join(SUITES)}, or one run such as {recipe_names}",
        )
    return found[:1]


def spec_of(
    case: Case, device: Device, memory_limit_bytes: int | None = None
) -> tuple[RunSpec, ModelArchitecture]:
    """The run of a case on a device and the architecture it builds; on a CPU everything is shrunk."""
    from planner.model.hf_config import architecture_from_config

    config: Mapping[str, Any] = registry.resolve(case.model).config or {}
    workload, lengths = case.workload, case.lengths
    if device == "cpu" and not case.keeps_size:
        config, workload, lengths = shrunk_config(config), _shrunk(workload), lengths[:3] and (20, 32, 8)
    architecture = architecture_from_config(config, name=case.model, source="registry")
    spec = RunSpec(
        model=case.model, config=config, head=head_of(architecture, workload), workload=workload, device=device,
        runner=case.runner, steps=case.steps, lengths=lengths,  # type: ignore[arg-type]
        memory_limit_bytes=memory_limit_bytes,
    )  # fmt: skip
    return spec, architecture


def head_of(architecture: ModelArchitecture, workload: TrainingWorkload | ServingWorkload) -> Head:
    """The head a workload trains or generates with."""
    if getattr(workload, "objective", "sft") in ("sequence-classification", "reward"):
        return "sequence-classification"
    heads: dict[str, Head] = {"decoder": "causal-lm", "encoder": "masked-lm", "encoder-decoder": "seq2seq-lm"}
    return heads[architecture.kind]


_TINY = {
    "hidden_size": 64, "n_embed": 64, "d_model": 64, "intermediate_size": 128, "d_ff": 128, "d_kv": 16,
    "head_dim": 16, "num_hidden_layers": 2, "num_layers": 2, "num_decoder_layers": 2, "n_layer": 2,
    "num_attention_heads": 4, "num_heads": 4, "n_head": 4, "num_key_value_heads": 2, "vocab_size": 512,
    "max_position_embeddings": 256, "sliding_window": 64, "num_local_experts": 4, "num_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
}  # fmt: skip
"""Each named dimension of a ``config.json`` at rehearsal scale."""


def shrunk_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with every dimension it names shrunk, the family's structure kept."""
    tiny = {name: _TINY.get(name, value) if value is not None else None for name, value in config.items()}
    tiny.pop("layer_types", None)
    tiny |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    if tiny.get("num_key_value_heads") and config["num_key_value_heads"] == config["num_attention_heads"]:
        tiny["num_key_value_heads"] = _TINY["num_attention_heads"]
    return tiny


def _shrunk(workload: TrainingWorkload | ServingWorkload) -> TrainingWorkload | ServingWorkload:
    if isinstance(workload, ServingWorkload):
        return replace(workload, prompt_tokens=32, output_tokens=8, concurrency=min(2, workload.concurrency))
    evaluation = workload.evaluation and replace(workload.evaluation, batch_size=2, seq_len=32, num_samples=6)
    target = None if workload.target_seq_len is None else 16
    adapter = replace(workload.adapter, rank=min(8, workload.adapter.rank), num_virtual_tokens=4)
    return replace(
        workload, batch_size=min(2, workload.batch_size), seq_len=32, target_seq_len=target, evaluation=evaluation,
        adapter=adapter,
    )  # fmt: skip
