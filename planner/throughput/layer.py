"""Forward cost of one decoder or encoder layer: matrices, attention, elementwise traffic, launches.

Elementwise bytes are counted kernel by kernel in the implementation that runs them. Per element of width d:
an eager RMSNorm casts to fp32, squares, averages, scales and casts back (24 B), a LayerNorm is one kernel
(4 B), a residual addition reads two and writes one (6 B); rotary embedding on q and k costs 18 B per element
eagerly; a gated activation 10 B per element of the MLP width, a plain one 4 B. Compiled or fused code reads and
writes once.
Counted from transformers' modeling_llama.py and PyTorch's native kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from planner.citation import Citation
from planner.model.architecture import DenseMlp, GroupedQueryAttention, LatentAttention, LayerGroup, MoeMlp
from planner.throughput.flops import active_count

Implementation = Literal["eager", "compiled", "fused"]
ELEMENTWISE = Citation(
    title="kernels of transformers' eager Llama block",
    url="https://github.com/huggingface/transformers/blob/main/src/transformers/models/llama/modeling_llama.py",
)
_FUSED_FRAMEWORKS = ("megatron", "nemo", "transformer-engine", "unsloth")


def implementation_of(framework: str, *, compiled: bool) -> Implementation:
    """Which kernels a framework's layer runs: op by op, compiled by inductor, or hand-fused."""
    if framework.lower().startswith(_FUSED_FRAMEWORKS):
        return "fused"
    return "compiled" if compiled else "eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """What one layer of a group costs per token and per pass, before any device is known."""

    elementwise_bytes_per_token: float
    launches: float
    """Kernels the host launches in a forward pass."""
    num_heads: int
    head_dim: int
    num_linears: float


def _heads(group: LayerGroup) -> tuple[int, int, int]:
    """Query heads, width of one head, and width of q plus k (what rotary embedding touches)."""
    mixer = group.mixer
    if isinstance(mixer, GroupedQueryAttention):
        turned = (mixer.num_attention_heads + mixer.num_key_value_heads) * mixer.head_dim
        return mixer.num_attention_heads, mixer.head_dim, turned if mixer.rotary else 0
    if isinstance(mixer, LatentAttention):
        width = mixer.qk_nope_head_dim + mixer.qk_rope_head_dim
        return mixer.num_attention_heads, width, mixer.num_attention_heads * mixer.qk_rope_head_dim
    return 0, 128, 0


def layer_shape(group: LayerGroup, hidden_size: int, norm: str, implementation: Implementation) -> LayerShape:
    """Elementwise bytes per token and kernel launches of one layer of ``group``."""
    d = hidden_size
    num_heads, head_dim, turned = _heads(group)
    eager = implementation == "eager"
    rms = norm == "rmsnorm"
    norm_bytes = 24 if eager and rms else 4
    size = float(group.num_norms * norm_bytes * d)
    launches = group.num_norms * (6.0 if eager and rms else 1.0)
    if turned:
        size += (18 if eager else 4) * turned
        launches += 10 if eager else 1
    size += 2 * (6 if eager else 4) * d
    launches += 2 if eager else 1
    width, gated = 0.0, False
    if isinstance(group.mlp, DenseMlp):
        width, gated = group.mlp.intermediate_size, group.mlp.gated
    elif isinstance(group.mlp, MoeMlp):
        width = (
            group.mlp.num_experts_per_tok * group.mlp.moe_intermediate_size + group.mlp.shared_intermediate_size
        )
        gated = group.mlp.gated
        size += group.mlp.num_experts_per_tok * 12 * d  # permute, unpermute and weighted sum of expert outputs
        launches += 12 if eager else 6
    size += ((10 if eager else 6) if gated else 4) * width
    launches += 2 if eager and gated else 1
    num_linears = float(len(group.linears))
    if isinstance(group.mlp, MoeMlp):
        experts = [linear for linear in group.linears if linear.role == "expert"]
        num_linears += sum(active_count(group, linear) - 1 for linear in experts if linear.is_module)
    launches += num_linears + (5 if num_heads else 8)
    return LayerShape(
        elementwise_bytes_per_token=size,
        launches=launches,
        num_heads=num_heads,
        head_dim=head_dim,
        num_linears=num_linears,
    )
