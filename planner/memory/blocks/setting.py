"""Everything a block's program needs to know besides the model: sizes, dtypes, what is trained, which kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from planner.memory.ops import Int
from planner.model.architecture import Linear

AttentionKernel = Literal["flash", "efficient", "eager"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterBranch:
    """The trainable branch beside a frozen linear."""

    kind: str
    """"lora", "dora", "ia3", "vera", "scale-shift", or a name of ``planner.memory.blocks.branches``."""
    rank: Int
    dtype: str
    dropout: float
    applies: Callable[[Linear], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One rank's view of a training step. Letters: B batch, S sequence."""

    batch: Int
    seq: Int
    """Tokens of one sequence on this rank."""
    memory_seq: Int = 0
    """Encoder tokens a decoder's cross attention reads."""
    tp: Int = 1
    ep: Int = 1
    stream_dtype: str
    """Residual stream."""
    norm_dtype: str
    """Output of norms: fp32 where norm weights were upcast."""
    compute_dtype: str
    """Dtype matmuls run in."""
    linear_dtype: str | None
    """Dtype linears return; None: that of their input (bitsandbytes casts back)."""
    autocast: bool
    casts_weights: bool = False
    """Autocast meets weights wider than the compute dtype: their casts live from forward to backward."""
    weights_trained: bool
    norms_trained: bool
    gradient_bytes: int
    adapter: AdapterBranch | None
    dequantised_element_bytes: int
    """Bytes per weight of the temporary copy a quantised matmul makes; 0: weights are not quantised."""
    attention: AttentionKernel
    masked: bool
    biased: bool = False
    """A position bias per head is made in every layer's self attention and reaches the kernel as its mask."""
    repeats_kv: bool
    """True where k and v are copied per query head before attention."""
    caches_kv: bool
    """True where the forward pass also fills a KV cache."""
    dropout: float = 0.0
    inner_dropout: float = 0.0
    fused_norms: bool = False
    norm_upcast: bool = True
    norm_weighs_in_fp32: bool = False
    saves_quantised_inputs: bool = False
    old_kernels: bool = False
    """A GPU before compute capability 8, which kernels in bfloat16 do not run on."""
    quantised_head: bool = False
    loads_packed: bool = False
    """A 4-bit or 8-bit checkpoint is loaded: 16-bit tables pass through the device on the way."""
    softmax_in_fp32: bool = True
    prefix_tokens: Int = 0
    """Trained keys and values in front of every layer's own (prefix tuning)."""
    prompt_tokens: int = 0
    """Trained tokens every layer attends to on the side (LLaMA-Adapter)."""

    @property
    def tokens(self) -> Int:
        return self.batch * self.seq
