"""Which matrices an adapter is put on, as peft and unsloth read ``target_modules``."""

from __future__ import annotations

from dataclasses import replace

from planner.model.architecture import LayerGroup, Linear, ModelArchitecture
from planner.request import AdapterSpec, TrainingWorkload

_WHOLE_ENDS = ("embed_tokens", "lm_head")
_SCALES_QUERIES = frozenset(
    {
        "opt",
        "gptj",
        "gpt_neo",
        "bart",
        "phi",
        "llama4",
        "llama4_text",
        "gemma",
        "gemma2",
        "gemma3_text",
        "qwen2",
        "qwen3",
    }
)
"""Families whose queries (the first projection) peft scales by default where it scales keys elsewhere.

Source: https://github.com/huggingface/peft/blob/main/src/peft/utils/constants.py
"""

_CONVERTED_EXPERTS = frozenset(
    {
        "mixtral", "minimax", "minimax_m2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "ernie4_5_moe",
        "flex_olmo", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "hunyuan_v1_moe", "olmoe", "qwen3_moe",
        "qwen3_next",
    }
)  # fmt: skip
"""Families whose fused experts peft finds by the names they had as modules.

Source: https://github.com/huggingface/peft/blob/main/src/peft/utils/transformers_weight_conversion.py
"""


def with_default_targets(architecture: ModelArchitecture, workload: TrainingWorkload) -> TrainingWorkload:
    """IA3 left at "all-linear" takes peft's own choice: keys (or queries), values and the MLP's last matrix."""
    if workload.method != "ia3" or workload.adapter.target_modules != "all-linear":
        return workload
    names: list[str] = []
    for group in architecture.groups:
        attention = [linear.name for linear in group.linears if linear.role == "attention"]
        feed = [linear.name for linear in group.linears if linear.role == "mlp"]
        if len(attention) >= 4:
            names += [attention[0 if architecture.model_type in _SCALES_QUERIES else 1], attention[2]]
        else:
            names += attention[:1]
        names += feed[-1:]
    if not names:
        return workload
    return replace(workload, adapter=replace(workload.adapter, target_modules=tuple(dict.fromkeys(names))))


def targets(architecture: ModelArchitecture, spec: AdapterSpec) -> tuple[tuple[LayerGroup, Linear], ...]:
    """Each matrix kind of the blocks the adapter is put on, with its layer group."""
    return tuple(
        (group, linear)
        for group in architecture.groups
        for linear in group.linears
        if is_target(linear, spec.target_modules, architecture.model_type)
    )


def with_whole_ends(workload: TrainingWorkload) -> TrainingWorkload:
    """Embedding and head named as targets, trained as whole copies instead (unsloth)."""
    spec = workload.adapter
    if isinstance(spec.target_modules, str):
        return workload
    ends = tuple(name for name in spec.target_modules if name in _WHOLE_ENDS)
    rest = tuple(name for name in spec.target_modules if name not in _WHOLE_ENDS)
    if not ends:
        return workload
    return replace(
        workload,
        adapter=replace(
            spec, target_modules=rest, modules_to_save=tuple(dict.fromkeys((*spec.modules_to_save, *ends)))
        ),
    )


def is_target(linear: Linear, target_modules: tuple[str, ...] | str, model_type: str) -> bool:
    """Whether peft would wrap this matrix: its name is listed, or every linear is asked for.

    "all-linear" reaches routers. Experts kept as one bare parameter it reaches only in the families whose
    checkpoints of transformers 4 peft knows how to convert; names do not reach them.
    """
    if target_modules == "all-linear" or "all-linear" in target_modules:
        return linear.is_module or linear.role != "expert" or model_type in _CONVERTED_EXPERTS
    if not linear.is_module:
        return False
    names = (target_modules,) if isinstance(target_modules, str) else target_modules
    return any(linear.name == name or linear.name.endswith(f".{name}") for name in names)
