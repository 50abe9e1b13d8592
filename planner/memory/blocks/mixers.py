"""Mixers other than grouped-query attention: latent attention and recurrences."""

from __future__ import annotations

from planner.citation import Citation
from planner.dtypes import ELEMENT_BYTES
from planner.memory.blocks.adapted import adapted_linear
from planner.memory.blocks.operators import (
    activation,
    cast,
    eager_attention,
    efficient_attention,
    flash_attention,
    fused_norm,
    mul,
    rms_norm,
    rotary,
)
from planner.memory.blocks.setting import Setting
from planner.memory.tape import Tape, Tensor
from planner.model.architecture import LatentAttention, LayerGroup, Linear, RecurrentMixer

LATENT = Citation(
    title="transformers: DeepSeek's latent attention expands keys and values before the kernel",
    url="https://github.com/huggingface/transformers/blob/v4.57.1/src/transformers/models/deepseek_v2/modeling_deepseek_v2.py",
)
_MAMBA = "https://github.com/state-spaces/mamba/blob/main/mamba_ssm/ops"
SCANS = {
    "mamba": Citation(
        title="mamba: the selective scan saves its inputs and a state per chunk",
        url=f"{_MAMBA}/selective_scan_interface.py",
    ),
    "mamba2": Citation(
        title="mamba: the chunked scan saves its inputs and one state per chunk",
        url=f"{_MAMBA}/triton/ssd_combined.py",
    ),
    "gated_deltanet": Citation(
        title="flash-linear-attention: the chunked gated delta rule",
        url="https://github.com/fla-org/flash-linear-attention/blob/main/fla/ops/gated_delta_rule/chunk.py",
    ),
    "short_conv": Citation(
        title="causal-conv1d: the convolution saves its input",
        url="https://github.com/Dao-AILab/causal-conv1d/blob/main/causal_conv1d/causal_conv1d_interface.py",
    ),
}
"""By the kind of ``RecurrentMixer``."""
CHUNK_TOKENS = {"mamba": 2048, "mamba2": 256, "gated_deltanet": 64, "short_conv": 0}
"""Tokens per saved state of each kind's kernel; 0: no states."""


def latent_attention(tape: Tape, x: Tensor, group: LayerGroup, setting: Setting) -> Tensor:
    """DeepSeek's attention: low-rank queries and keys/values, heads expanded, values narrower than keys."""
    tape.kind = "attention"
    spec = group.mixer
    assert isinstance(spec, LatentAttention)
    modules = {item.name: item for item in group.linears if item.role == "attention"}
    heads = spec.num_attention_heads // setting.tp
    rows = setting.tokens
    trained, gradient = setting.norms_trained, setting.gradient_bytes
    q = x
    if spec.q_lora_rank is not None:
        down, up = _pick(modules, "q_a"), _pick(modules, "q_b")
        low = adapted_linear(tape, x, down, setting, shards="none")
        low = rms_norm(tape, low, spec.q_lora_rank, trainable=trained, gradient_bytes=gradient)
        q = adapted_linear(tape, low, up, setting)
    else:
        q = adapted_linear(tape, x, _pick(modules, "q_proj"), setting)
    compressed = adapted_linear(tape, x, _pick(modules, "kv_a"), setting, shards="none")
    latent, k_rope = tape.split(compressed, rows * spec.kv_lora_rank, rows * spec.qk_rope_head_dim)
    latent = rms_norm(tape, latent, spec.kv_lora_rank, trainable=trained, gradient_bytes=gradient)
    expanded = adapted_linear(tape, latent, _pick(modules, "kv_b"), setting)
    k_nope, v = tape.split(expanded, rows * heads * spec.qk_nope_head_dim, rows * heads * spec.v_head_dim)
    key_dim = spec.qk_nope_head_dim + spec.qk_rope_head_dim
    q_nope, q_rope = tape.split(q, rows * heads * spec.qk_nope_head_dim, rows * heads * spec.qk_rope_head_dim)
    query = tape.op("queries", (q_nope, rotary(tape, q_rope)), rows * heads * key_dim, q.dtype)
    key = tape.op("keys", (k_nope, rotary(tape, k_rope)), rows * heads * key_dim, q.dtype)
    query, key, v = (cast(tape, tensor, setting.compute_dtype) for tensor in (query, key, v))
    lse_rows = setting.batch * heads * setting.seq
    if setting.attention == "eager":
        mixed = eager_attention(
            tape, query, key, v,
            scores=lse_rows * setting.seq, probability=setting.dropout, softmax_in_fp32=True,
        )  # fmt: skip
        mixed = tape.op("attention output", (mixed,), rows * heads * spec.v_head_dim, mixed.dtype)
    elif setting.attention == "flash":
        padded = tape.op("padded values", (v,), rows * heads * key_dim, v.dtype)
        mixed = flash_attention(tape, query, key, padded, lse_rows=lse_rows)
        mixed = tape.op("unpadded output", (mixed,), rows * heads * spec.v_head_dim, v.dtype)
    else:
        mixed = efficient_attention(
            tape, query, key, v, batch=setting.batch, queries=setting.seq, keys=setting.seq,
            lse_rows=lse_rows, masked=setting.masked, value_elements=rows * heads * spec.v_head_dim,
        )  # fmt: skip
    return adapted_linear(tape, mixed, _pick(modules, "o_proj"), setting, shards="in")


def _pick(modules: dict[str, Linear], prefix: str) -> Linear:
    for name, module in modules.items():
        if name.startswith(prefix) or prefix in name:
            return module
    return list(modules.values())[-1]


def recurrent(tape: Tape, x: Tensor, group: LayerGroup, setting: Setting) -> Tensor:
    """Mamba, Mamba-2, gated delta rule or short convolution, with their fused kernels.

    Each keeps its projections' outputs, the convolution's output, the gate's product and one state per chunk.
    """
    tape.kind = "recurrence"
    spec = group.mixer
    assert isinstance(spec, RecurrentMixer)
    modules = [item for item in group.linears if item.role == "recurrent"]
    entries = [item for item in modules[:-1] if item.in_features == modules[0].in_features]
    inner = setting.tokens * spec.inner_size // setting.tp
    projected = [adapted_linear(tape, x, module, setting) for module in entries]
    joined = projected[0] if len(projected) == 1 else tape.op(
        "projections", projected, sum((part.elements for part in projected), start=0), x.dtype, saves=projected
    )  # fmt: skip
    conv = tape.op("convolution", (joined,), inner, joined.dtype, saves=(joined,))
    signal = activation(tape, "silu", conv)
    chunk = CHUNK_TOKENS[spec.kind]
    states = 0
    if chunk:
        states = (
            setting.batch * -(-setting.seq // chunk) * spec.state_elements * ELEMENT_BYTES["fp32"] // setting.tp
        )
    scanned = tape.op("scan", (signal,), inner, signal.dtype, saves=(signal,), saves_bytes=states)
    gate = activation(tape, "silu", tape.op("gate", (joined,), inner, joined.dtype))
    mixed = mul(tape, scanned, gate, name="gated")
    if spec.kind in ("mamba2", "gated_deltanet"):
        mixed = fused_norm(
            tape, mixed, spec.inner_size, trainable=setting.norms_trained,
            gradient_bytes=setting.gradient_bytes, vectors=1,
        )  # fmt: skip
    return adapted_linear(tape, mixed, modules[-1], setting, shards="in")
