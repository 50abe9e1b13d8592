"""A model as the memory and time formulas see it: stacks of layer groups with named projections.

Letters: d hidden size, P = num_attention_heads * head_dim, K = num_key_value_heads * head_dim, f MLP width.
Names are those of Hugging Face ``config.json`` and of the modules in ``transformers``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A matrix multiplication of a layer, as named in the module tree (the last component: ``q_proj``).

    ``count`` is the number of such matrices in one layer (the experts of a MoE layer share one entry).
    """

    name: str
    in_features: int
    out_features: int
    bias: bool = False
    count: int = 1
    role: Literal["attention", "mlp", "expert", "shared_expert", "router", "recurrent", "cross", "other"]
    is_module: bool = True
    """False where the weight is a bare parameter (fused experts): bitsandbytes and peft do not see it."""
    keeps_precision: bool = False
    """True where transformers keeps a module out of quantisation (``_keep_in_fp32_modules``)."""

    @property
    def is_packable(self) -> bool:
        """Whether bitsandbytes packs this matrix."""
        return self.is_module and not self.keeps_precision

    @property
    def num_params(self) -> int:
        return self.count * (self.in_features * self.out_features + (self.out_features if self.bias else 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedQueryAttention:
    """Multi-head, multi-query and grouped-query attention, global or windowed."""

    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    window: int | None = None
    """Tokens a sliding or chunked layer looks back on; None: all."""
    qk_norm: Literal["head", "full"] | None = None
    rotary: bool = True
    shares_kv_with_earlier_layer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2): the cache holds ``kv_lora_rank + qk_rope_head_dim`` per token."""

    num_attention_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    indexer_heads: int = 0
    indexer_head_dim: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentMixer:
    """Mamba, Mamba-2 or a gated delta rule: a state of fixed size instead of a growing cache."""

    kind: Literal["mamba", "mamba2", "gated_deltanet", "short_conv"]
    inner_size: int
    state_elements: int
    """Elements of the recurrent state of one sequence in one layer."""
    conv_state_elements: int
    num_heads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseMlp:
    intermediate_size: int
    gated: bool
    activation: str = "silu"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeMlp:
    """Mixture of experts; memory is ``num_experts``, compute is ``num_experts_per_tok``."""

    num_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    shared_intermediate_size: int = 0
    dense_intermediate_size: int = 0
    """Width of a dense MLP run beside the experts in the same layer (Gemma-4)."""
    gated: bool = True
    activation: str = "silu"


Mixer = GroupedQueryAttention | LatentAttention | RecurrentMixer


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGroup:
    """``count`` identical layers. ``mixer`` or ``mlp`` is None where the block has none (Nemotron-H)."""

    count: int
    stack: Literal["decoder", "encoder"] = "decoder"
    mixer: Mixer | None
    cross_attention: GroupedQueryAttention | None = None
    mlp: DenseMlp | MoeMlp | None
    linears: tuple[Linear, ...]
    """Every matrix of one layer."""
    num_norms: int
    """Full-width norms of one layer (not q/k norms)."""
    other_params: int
    """Parameters of one layer outside ``linears``: norms, q/k norms, sinks, convolutions, router biases."""

    @property
    def params_per_layer(self) -> int:
        return sum(linear.num_params for linear in self.linears) + self.other_params


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArchitecture:
    """Everything the formulas need to know of a model. Equal models are equal values."""

    name: str
    """Hub id, or the directory's name for a local config."""
    model_type: str
    kind: Literal["decoder", "encoder", "encoder-decoder"]
    hidden_size: int
    vocab_size: int
    tie_word_embeddings: bool
    has_lm_head: bool
    lm_head_bias: bool = False
    norm: Literal["rmsnorm", "layernorm", "layernorm-no-bias", "layernorm-no-params"]
    max_position_embeddings: int | None
    groups: tuple[LayerGroup, ...]
    embedding_params: int
    """Token, position and type embeddings with their norms and projections; the tied head is not counted again."""
    other_params: int
    """Final norm, pooler, relative-bias tables: everything outside groups, embeddings and head."""
    vision_params: int = 0
    params_total: int
    """Unique parameters at run time: tied weights once, buffers excluded."""
    params_active: int
    """Parameters one token meets; equals ``params_total`` for dense models."""
    parallel_blocks: bool = False
    """True where attention and MLP read the same normed input (GPT-J, Falcon, Phi)."""
    scale_embeddings: bool = False
    logit_softcap: float | None = None
    unmodelled: tuple[Literal["kv_cache", "activations"], ...] = ()
    """What the layer groups cannot express: serving (kv_cache) or training (activations) is refused by name."""
    confidence: Literal["A", "B", "C"]
    """How well the description is attested; see ``planner/model/data/NOTES.md``."""
    source: str
    doubts: str = ""

    @property
    def num_layers(self) -> int:
        return sum(group.count for group in self.groups)

    @property
    def lm_head_params(self) -> int:
        """Parameters of the output head that are not shared with the embedding."""
        if not self.has_lm_head:
            return 0
        weight = 0 if self.tie_word_embeddings else self.vocab_size * self.hidden_size
        return weight + (self.vocab_size if self.lm_head_bias else 0)
