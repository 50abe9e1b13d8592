"""The pieces layers are made of: projections by their module names, and layers merged into groups.

Letters: d hidden size, P = num_attention_heads * head_dim, K = num_key_value_heads * head_dim, f MLP width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from planner.model.architecture import (
    DenseMlp,
    GroupedQueryAttention,
    LayerGroup,
    Linear,
    MoeMlp,
)

Norm = Literal["rmsnorm", "layernorm", "layernorm-no-bias", "layernorm-no-params"]
Role = Literal["attention", "mlp", "expert", "shared_expert", "router", "recurrent", "cross", "other"]

_NORM_VECTORS = {"rmsnorm": 1, "layernorm": 2, "layernorm-no-bias": 1, "layernorm-no-params": 0}


def norm_params(norm: Norm, width: int) -> int:
    """Parameters of one norm: a weight, and a bias where the norm has one."""
    return _NORM_VECTORS[norm] * width


def separate_qkv(
    d: int,
    attention: GroupedQueryAttention,
    *,
    qkv_bias: bool = False,
    o_bias: bool = False,
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj"),
    role: Role = "attention",
) -> tuple[Linear, ...]:
    """Query, key, value and output projections as four matrices: 2 d P + 2 d K."""
    p = attention.num_attention_heads * attention.head_dim
    k = attention.num_key_value_heads * attention.head_dim
    query, key, value, out = names
    return (
        Linear(name=query, in_features=d, out_features=p, bias=qkv_bias, role=role),
        Linear(name=key, in_features=d, out_features=k, bias=qkv_bias, role=role),
        Linear(name=value, in_features=d, out_features=k, bias=qkv_bias, role=role),
        Linear(name=out, in_features=p, out_features=d, bias=o_bias, role=role),
    )


def fused_qkv(
    d: int,
    attention: GroupedQueryAttention,
    *,
    qkv_bias: bool = False,
    o_bias: bool = False,
    names: tuple[str, str],
    role: Role = "attention",
) -> tuple[Linear, ...]:
    """One matrix for query, key and value, and the output projection: 2 d P + 2 d K."""
    p = attention.num_attention_heads * attention.head_dim
    k = attention.num_key_value_heads * attention.head_dim
    qkv, out = names
    return (
        Linear(name=qkv, in_features=d, out_features=p + 2 * k, bias=qkv_bias, role=role),
        Linear(name=out, in_features=p, out_features=d, bias=o_bias, role=role),
    )


def gated_mlp(
    d: int,
    f: int,
    *,
    bias: bool = False,
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
    role: Role = "mlp",
) -> tuple[Linear, ...]:
    """A gated MLP of three matrices: 3 d f."""
    gate, up, down = names
    return (
        Linear(name=gate, in_features=d, out_features=f, bias=bias, role=role),
        Linear(name=up, in_features=d, out_features=f, bias=bias, role=role),
        Linear(name=down, in_features=f, out_features=d, bias=bias, role=role),
    )


def fused_gated_mlp(
    d: int, f: int, *, bias: bool = False, names: tuple[str, str], role: Role = "mlp"
) -> tuple[Linear, ...]:
    """A gated MLP whose gate and up projections are one matrix: 3 d f."""
    gate_up, down = names
    return (
        Linear(name=gate_up, in_features=d, out_features=2 * f, bias=bias, role=role),
        Linear(name=down, in_features=f, out_features=d, bias=bias, role=role),
    )


def plain_mlp(
    d: int, f: int, *, bias: bool = False, names: tuple[str, str], role: Role = "mlp"
) -> tuple[Linear, ...]:
    """An MLP without a gate: 2 d f."""
    up, down = names
    return (
        Linear(name=up, in_features=d, out_features=f, bias=bias, role=role),
        Linear(name=down, in_features=f, out_features=d, bias=bias, role=role),
    )


def fused_experts(d: int, moe: MoeMlp, *, bias: bool = False) -> tuple[Linear, ...]:
    """Routed experts as transformers 5 stores them: bare parameters over all experts, no ``nn.Linear``."""
    width = moe.moe_intermediate_size * (2 if moe.gated else 1)
    first = "gate_up_proj" if moe.gated else "up_proj"
    experts = moe.num_experts
    return (
        Linear(
            name=first, in_features=d, out_features=width, bias=bias, count=experts, role="expert", is_module=False
        ),
        Linear(
            name="down_proj",
            in_features=moe.moe_intermediate_size,
            out_features=d,
            bias=bias,
            count=experts,
            role="expert",
            is_module=False,
        ),
    )


def router(d: int, num_experts: int, *, name: str = "gate", bias: bool = False, is_module: bool = False) -> Linear:
    """The expert router: d x experts; transformers 5 keeps it as a bare parameter in most families."""
    return Linear(
        name=name, in_features=d, out_features=num_experts, bias=bias, role="router", is_module=is_module
    )


def dense(f: int, *, gated: bool, activation: str) -> DenseMlp:
    return DenseMlp(intermediate_size=f, gated=gated, activation=activation)


def merge_layers(layers: Iterable[LayerGroup]) -> tuple[LayerGroup, ...]:
    """Equal layers become one group, in order of first appearance."""
    counts: dict[LayerGroup, int] = {}
    for layer in layers:
        key = replace(layer, count=1)
        counts[key] = counts.get(key, 0) + layer.count
    return tuple(replace(layer, count=count) for layer, count in counts.items())
