"""A transformer block as the modelling files of ``transformers`` write it.

Which matrices play which part is read from the architecture's linears by role and shape, so fused and separate
projections, gated and plain MLPs, sequential and parallel residuals share one program.
"""

from __future__ import annotations

from collections.abc import Callable

from planner.memory.blocks.adapted import adapted_linear
from planner.memory.blocks.mixers import latent_attention, recurrent
from planner.memory.blocks.moe import experts
from planner.memory.blocks.operators import (
    activation,
    add,
    capped_attention,
    cast,
    dropout,
    eager_attention,
    efficient_attention,
    flash_attention,
    fused_norm,
    mul,
    repeat_heads,
    rms_norm,
    rotary,
)
from planner.memory.blocks.quirks import quirks
from planner.memory.blocks.setting import Setting
from planner.memory.tape import Tape, Tensor
from planner.model.architecture import (
    DenseMlp,
    GroupedQueryAttention,
    LatentAttention,
    LayerGroup,
    Linear,
    ModelArchitecture,
    MoeMlp,
    RecurrentMixer,
)


def norm(tape: Tape, x: Tensor, width: int, architecture: ModelArchitecture, setting: Setting) -> Tensor:
    """The model's norm over ``width`` features."""
    if architecture.norm == "rmsnorm" and not setting.fused_norms:
        out = rms_norm(
            tape, x, width, trainable=setting.norms_trained, gradient_bytes=setting.gradient_bytes,
            upcast=setting.norm_upcast, weighs_in_fp32=setting.norm_weighs_in_fp32,
            keeps_input=quirks(architecture.model_type).norm_keeps_input,
        )  # fmt: skip
    else:
        vectors = {"rmsnorm": 1, "layernorm": 2, "layernorm-no-bias": 1, "layernorm-no-params": 0}[
            architecture.norm
        ]
        trainable = setting.norms_trained and vectors > 0
        out = fused_norm(
            tape, x, width, trainable=trainable, gradient_bytes=setting.gradient_bytes, vectors=max(vectors, 1)
        )
    return cast(tape, out, setting.norm_dtype)


def transformer_block(
    tape: Tape, x: Tensor, group: LayerGroup, architecture: ModelArchitecture, setting: Setting
) -> Tensor:
    """x -> x after one layer of ``group``."""
    width = architecture.hidden_size
    if architecture.parallel_blocks:
        tape.kind = "norms"
        normed = norm(tape, x, width, architecture, setting)
        second = norm(tape, x, width, architecture, setting) if group.num_norms > 1 else normed
        attended = mixer(tape, normed, group, architecture, setting)
        mixed = mlp(tape, second, group, setting)
        tape.kind = "residual"
        return add(tape, add(tape, attended, mixed), x)
    post_norms = group.num_norms >= 4
    if group.mixer is not None:
        x = _residual(
            tape, x, architecture, setting, lambda h: mixer(tape, h, group, architecture, setting), post_norms
        )
    if group.cross_attention is not None:
        x = _residual(tape, x, architecture, setting, lambda h: cross_attention(tape, h, group, setting), False)
    if group.mlp is not None:
        x = _residual(tape, x, architecture, setting, lambda h: mlp(tape, h, group, setting), post_norms)
    return x


def _residual(
    tape: Tape,
    x: Tensor,
    architecture: ModelArchitecture,
    setting: Setting,
    inner: Callable[[Tensor], Tensor],
    post_norm: bool,
) -> Tensor:
    tape.kind = "norms"
    out = inner(norm(tape, x, architecture.hidden_size, architecture, setting))
    out = dropout(tape, out, setting.dropout)
    if post_norm:
        tape.kind = "norms"
        out = norm(tape, out, architecture.hidden_size, architecture, setting)
    tape.kind = "residual"
    return add(tape, x, out, name="residual")


def mixer(tape: Tape, x: Tensor, group: LayerGroup, architecture: ModelArchitecture, setting: Setting) -> Tensor:
    """Self attention of one layer, or what stands in its place."""
    if isinstance(group.mixer, LatentAttention):
        return latent_attention(tape, x, group, setting)
    if isinstance(group.mixer, RecurrentMixer):
        return recurrent(tape, x, group, setting)
    tape.kind = "attention"
    attention = group.mixer
    assert isinstance(attention, GroupedQueryAttention)
    modules = [item for item in group.linears if item.role == "attention"]
    q, k, v = query_key_value(tape, x, modules[:-1], attention, setting)
    if attention.qk_norm:
        q = rms_norm(tape, q, attention.head_dim, trainable=setting.norms_trained)
        k = rms_norm(tape, k, attention.head_dim, trainable=setting.norms_trained)
    if attention.rotary:
        q, k = rotary(tape, q), rotary(tape, k)
    if not (isinstance(setting.prefix_tokens, int) and setting.prefix_tokens == 0):
        k, v = (_with_prefix(tape, part, setting) for part in (k, v))
    elif setting.caches_kv:
        k = tape.op("cached keys", (k,), k.elements, k.dtype)
        v = tape.op("cached values", (v,), v.elements, v.dtype)
        tape.hold(k)
        tape.hold(v)
    if quirks(architecture.model_type).caps_attention:
        scores = setting.batch * (attention.num_attention_heads // setting.tp) * setting.seq * setting.seq
        repeats = attention.num_attention_heads // attention.num_key_value_heads
        k = repeat_heads(tape, k, repeats, name="repeated keys")
        v = repeat_heads(tape, v, repeats, name="repeated values")
        out = capped_attention(tape, q, k, v, scores=scores)
    else:
        out = attend(
            tape, q, k, v, attention, setting, keys=setting.seq + setting.prefix_tokens, biased=setting.biased
        )
    if quirks(architecture.model_type).joins_heads_by_copy and setting.attention != "eager":
        out = tape.op("joined heads", (out,), out.elements, out.dtype)
    return adapted_linear(tape, out, modules[-1], setting, shards="in")


def _with_prefix(tape: Tape, x: Tensor, setting: Setting) -> Tensor:
    """Trained keys or values joined in front: a longer copy, held as a cache."""
    elements = x.elements // setting.seq * (setting.seq + setting.prefix_tokens)
    joined = tape.op("with prefix", (x,), elements, x.dtype, trainable=True)
    tape.hold(joined)
    return joined


def cross_attention(tape: Tape, x: Tensor, group: LayerGroup, setting: Setting) -> Tensor:
    """Attention of a decoder on the encoder's output, whose gradient is summed elsewhere."""
    tape.kind = "cross attention"
    attention = group.cross_attention
    assert attention is not None
    query, key, value, out = [item for item in group.linears if item.role == "cross"]
    memory = tape.input(
        "encoder output",
        setting.batch * setting.memory_seq * key.in_features,
        setting.norm_dtype,
        needs_grad=x.needs_grad,
        external=True,
    )
    q = adapted_linear(tape, x, query, setting)
    k = adapted_linear(tape, memory, key, setting)
    v = adapted_linear(tape, memory, value, setting)
    mixed = attend(tape, q, k, v, attention, setting, keys=setting.memory_seq)
    return adapted_linear(tape, mixed, out, setting, shards="in")


def query_key_value(
    tape: Tape, x: Tensor, modules: list[Linear], attention: GroupedQueryAttention, setting: Setting
) -> tuple[Tensor, Tensor, Tensor]:
    if len(modules) >= 3:
        query, key, value = (adapted_linear(tape, x, module, setting) for module in modules[:3])
        return query, key, value
    fused = adapted_linear(tape, x, modules[0], setting)
    heads, kv_heads = attention.num_attention_heads, attention.num_key_value_heads
    query_elements = fused.elements * heads // (heads + 2 * kv_heads)
    kv_elements = fused.elements * kv_heads // (heads + 2 * kv_heads)
    query, key, value = tape.split(fused, query_elements, kv_elements, kv_elements)
    return query, key, value


def attend(
    tape: Tape,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attention: GroupedQueryAttention,
    setting: Setting,
    *,
    keys: int,
    biased: bool = False,
) -> Tensor:
    heads = attention.num_attention_heads // setting.tp
    repeats = attention.num_attention_heads // attention.num_key_value_heads
    if setting.autocast:
        q, k, v = (cast(tape, tensor, setting.compute_dtype) for tensor in (q, k, v))
    if setting.repeats_kv:
        k = repeat_heads(tape, k, repeats, name="repeated keys")
        v = repeat_heads(tape, v, repeats, name="repeated values")
    rows = setting.batch * heads * setting.seq
    if setting.attention == "eager":
        return eager_attention(
            tape, q, k, v, scores=rows * keys, probability=setting.dropout, softmax_in_fp32=setting.softmax_in_fp32
        )
    if setting.attention == "efficient":
        return efficient_attention(
            tape,
            q,
            k,
            v,
            batch=setting.batch,
            queries=setting.seq,
            keys=keys,
            lse_rows=rows,
            masked=setting.masked,
            bias_heads=heads if biased else None,
        )
    return flash_attention(tape, q, k, v, lse_rows=rows)


def mlp(tape: Tape, x: Tensor, group: LayerGroup, setting: Setting) -> Tensor:
    """Dense MLP: gate, up and down projections, or one up and one down; or a mixture of experts."""
    if isinstance(group.mlp, MoeMlp):
        return experts(tape, x, group, setting)
    tape.kind = "mlp"
    spec = group.mlp
    assert isinstance(spec, DenseMlp)
    modules = [item for item in group.linears if item.role == "mlp"]
    name = spec.activation
    if len(modules) == 3:
        gate = adapted_linear(tape, x, modules[0], setting)
        up = adapted_linear(tape, x, modules[1], setting)
        hidden = mul(tape, activation(tape, name, gate), up, name="gated")
    elif spec.gated:
        both = adapted_linear(tape, x, modules[0], setting)
        gate, up = tape.split(both, both.elements // 2, both.elements // 2)
        hidden = mul(tape, activation(tape, name, gate), up, name="gated")
    else:
        hidden = activation(tape, name, adapted_linear(tape, x, modules[0], setting))
    hidden = dropout(tape, hidden, setting.inner_dropout)
    return adapted_linear(tape, hidden, modules[-1], setting, shards="in")
