"""litgpt's own model: one fused query-key-value matrix, an untied head, its LoRA and adapters.

Follows ``litgpt/model.py``, ``lora.py``, ``adapter.py`` and ``adapter_v2.py``; the details that cost memory are
commented where they do.
"""

from __future__ import annotations

from dataclasses import replace

from planner.citation import Citation
from planner.dtypes import ELEMENT_BYTES
from planner.errors import UnsupportedError
from planner.memory.blocks.adapted import adapted_linear, scale_shift
from planner.memory.blocks.decoder import mlp, norm
from planner.memory.blocks.operators import (
    Weight,
    add,
    capped_attention,
    cast,
    dropout,
    eager_attention,
    efficient_attention,
    flash_attention,
    linear,
    repeat_heads,
    rotary,
    scale,
)
from planner.memory.blocks.quirks import quirks
from planner.memory.blocks.setting import Setting
from planner.memory.ops import Int
from planner.memory.tape import Tape, Tensor
from planner.model.architecture import (
    DenseMlp,
    GroupedQueryAttention,
    LayerGroup,
    Linear,
    ModelArchitecture,
)

MODEL = Citation(
    title="litgpt: model, LoRA and adapters", url="https://github.com/Lightning-AI/litgpt/blob/main/litgpt/lora.py"
)
PROMPT_TOKENS, FIRST_ADAPTED_LAYER = 10, 2
_SEPARATE = ("q_proj", "k_proj", "v_proj")
_OUTPUT = "o_proj"


def litgpt_view(architecture: ModelArchitecture) -> ModelArchitecture:
    """``architecture`` as litgpt builds it: canonical projection names and a head of its own."""
    if not architecture.has_lm_head or not all(_is_plain(group) for group in architecture.groups):
        raise UnsupportedError(
            f"litgpt training of {architecture.name} is not modelled", hint="plan it with framework transformers"
        )
    tied = architecture.vocab_size * architecture.hidden_size if architecture.tie_word_embeddings else 0
    return replace(
        architecture,
        tie_word_embeddings=False,
        params_total=architecture.params_total + tied,
        groups=tuple(
            replace(group, linears=_canonical(group), mlp=_fused_activation(group))
            for group in architecture.groups
        ),
    )


def _is_plain(group: LayerGroup) -> bool:
    return (
        isinstance(group.mixer, GroupedQueryAttention)
        and isinstance(group.mlp, DenseMlp)
        and group.stack == "decoder"
        and group.cross_attention is None
    )


def _fused_activation(group: LayerGroup) -> DenseMlp:
    """litgpt calls PyTorch's gelu where transformers spells its approximation out."""
    assert isinstance(group.mlp, DenseMlp)
    return replace(group.mlp, activation="gelu") if "gelu" in group.mlp.activation else group.mlp


def _canonical(group: LayerGroup) -> tuple[Linear, ...]:
    attention = group.mixer
    assert isinstance(attention, GroupedQueryAttention)
    parts = [item for item in group.linears if item.role == "attention"]
    first = parts[0]
    heads, kv_heads = attention.num_attention_heads, attention.num_key_value_heads
    widths = (heads * attention.head_dim, kv_heads * attention.head_dim, kv_heads * attention.head_dim)
    queries = tuple(
        replace(first, name=name, out_features=width) for name, width in zip(_SEPARATE, widths, strict=True)
    )
    feed = [item for item in group.linears if item.role == "mlp"]
    if len(feed) == 2 and isinstance(group.mlp, DenseMlp) and group.mlp.gated:
        half = replace(feed[0], out_features=feed[0].out_features // 2)
        feed = [replace(half, name="gate_proj"), replace(half, name="up_proj"), feed[1]]
    return (*queries, replace(parts[-1], name=_OUTPUT), *feed)


def litgpt_block(
    tape: Tape, x: Tensor, group: LayerGroup, architecture: ModelArchitecture, setting: Setting
) -> Tensor:
    """x -> x after one layer, sequential or parallel."""
    width = architecture.hidden_size
    post_norms = group.num_norms >= 4
    tape.kind = "norms"
    normed = norm(tape, x, width, architecture, setting)
    attended = _attention(tape, normed, group, architecture, setting)
    if post_norms:
        attended = norm(tape, attended, width, architecture, setting)
    if architecture.parallel_blocks:
        second = norm(tape, x, width, architecture, setting) if group.num_norms > 1 else normed
        mixed = mlp(tape, second, group, setting)
        tape.kind = "residual"
        return add(tape, add(tape, mixed, attended), x)
    tape.kind = "residual"
    x = add(tape, attended, x)
    tape.kind = "norms"
    mixed = mlp(tape, norm(tape, x, width, architecture, setting), group, setting)
    if post_norms:
        mixed = norm(tape, mixed, width, architecture, setting)
    tape.kind = "residual"
    return add(tape, mixed, x)


def _attention(
    tape: Tape, x: Tensor, group: LayerGroup, architecture: ModelArchitecture, setting: Setting
) -> Tensor:
    tape.kind = "attention"
    attention = group.mixer
    assert isinstance(attention, GroupedQueryAttention)
    heads, kv_heads = attention.num_attention_heads, attention.num_key_value_heads
    fused = _fused_qkv(tape, x, group, setting)
    tape.kind = "attention"
    query = fused.elements * heads // (heads + 2 * kv_heads)
    key = fused.elements * kv_heads // (heads + 2 * kv_heads)
    q, k, v = tape.split(fused, query, key, key)
    if kv_heads != heads:
        # Heads are gathered into copies; with equal heads v stays a view and holds the fused storage.
        q = q if kv_heads == 1 else tape.op("queries", (q,), q.elements, q.dtype)
        k = repeat_heads(tape, k, heads // kv_heads, name="repeated keys")
        v = repeat_heads(tape, v, heads // kv_heads, name="repeated values")
    q, k = rotary(tape, q), rotary(tape, k)
    rows = setting.batch * heads * setting.seq
    if quirks(architecture.model_type).caps_attention:
        out = capped_attention(tape, q, k, v, scores=rows * setting.seq)
    elif setting.attention == "eager":
        scores = rows * setting.seq
        out = eager_attention(tape, q, k, v, scores=scores, probability=0.0, softmax_in_fp32=setting.autocast)
    else:
        out = flash_attention(tape, q, k, v, lse_rows=rows)
    if setting.prompt_tokens:
        out = _attend_prompt(tape, q, out, setting, rows)
    # Flash attention's output keeps the memory order of q, which ``cat`` made head-major: joining heads copies.
    joined = tape.op("joined heads", (out,), out.elements, out.dtype)
    return adapted_linear(tape, joined, group.linears[3], setting)


def _fused_qkv(tape: Tape, x: Tensor, group: LayerGroup, setting: Setting) -> Tensor:
    """Query, key and value in one matmul; the LoRA branch covers the enabled ones."""
    parts = group.linears[:3]
    whole = replace(parts[0], name="qkv", out_features=sum(part.out_features for part in parts))
    branch = setting.adapter
    enabled = [part for part in parts if branch is not None and branch.applies(part)]
    bare = replace(setting, adapter=None)
    base = adapted_linear(tape, x, whole, bare)
    if branch is None or not enabled:
        return base
    tape.kind = "adapter"
    if branch.kind == "scale-shift":
        return scale_shift(tape, base, whole.out_features)
    rows = x.elements // whole.in_features
    element = ELEMENT_BYTES[branch.dtype]
    dtype = setting.compute_dtype if setting.autocast else branch.dtype
    dropped = cast(tape, dropout(tape, x, branch.dropout), dtype)
    rank: Int = branch.rank * len(enabled)
    down = Weight(num_params=rank * whole.in_features, trainable=True, gradient_bytes=element)
    covered = sum(part.out_features for part in enabled)
    up = Weight(num_params=branch.rank * covered, trainable=True, gradient_bytes=element)
    low = linear(tape, "lora_A", dropped, rows * rank, dtype, down)
    update = linear(tape, "lora_B", low, rows * covered, dtype, up)
    if len(enabled) < 3:
        # index_copy keeps its source: its derivative expands to the source's shape.
        source = tape.op("lora update", (update,), update.elements, update.dtype)
        update = tape.op("zero-padded update", (source,), base.elements, source.dtype, saves=(source,))
    return add(tape, base, scale(tape, update), name="qkv + LoRA")


def _attend_prompt(tape: Tape, q: Tensor, out: Tensor, setting: Setting, rows: Int) -> Tensor:
    """LLaMA-Adapter: a second attention on 10 trained tokens, gated per head, added to the first."""
    tape.kind = "adapter"
    prompt = tape.op("prompt keys", (), PROMPT_TOKENS * q.elements // setting.tokens, q.dtype, trainable=True)
    values = tape.op("prompt values", (), prompt.elements, q.dtype, trainable=True)
    extra = efficient_attention(
        tape, q, prompt, values,
        batch=1, queries=setting.seq, keys=PROMPT_TOKENS, lse_rows=rows, masked=True,
    )  # fmt: skip
    gate = tape.op("gate", (), rows // setting.tokens, q.dtype, trainable=True)
    gated = tape.op(
        "gated", (extra, gate), extra.elements, q.dtype, saves=(extra,), backward_scratch_bytes=extra.size_bytes
    )
    return add(tape, out, gated)
