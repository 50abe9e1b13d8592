"""What each operator saves for its backward pass, one function per operator.

The rules are the formulas of ``tools/autograd/derivatives.yaml`` of PyTorch: a tensor is saved only when the
gradient of a *trainable or differentiable* operand needs it, so freezing weights changes what is kept.
Letters: B batch, S sequence, d hidden size, H heads, D head_dim. Sizes are elements of one rank.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.citation import Citation
from planner.dtypes import ELEMENT_BYTES
from planner.memory.ops import Int, round_up
from planner.memory.tape import Tape, Tensor

AUTOGRAD = Citation(
    title="PyTorch: derivative formulas and the tensors they save",
    url="https://github.com/pytorch/pytorch/blob/v2.9.0/tools/autograd/derivatives.yaml",
)
FLASH = Citation(
    title="PyTorch: flash and memory-efficient attention save q, k, v, out and the log-sum-exp",
    url="https://github.com/pytorch/pytorch/blob/v2.9.0/aten/src/ATen/native/transformers/cuda/attention.cu",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """How one matrix behaves in a matmul."""

    num_params: Int
    trainable: bool
    gradient_bytes: int = 2
    """Bytes per parameter of its gradient."""
    cast_bytes: Int = 0
    """Copy in the compute dtype that autocast makes of a wider weight and autograd keeps; 0: none."""
    saves_input: bool = False
    """bitsandbytes before 0.43.2 kept the input of frozen 4-bit matmuls for nothing."""
    dequantised_bytes: Int = 0
    """Temporary copy of a quantised weight in the compute dtype, forward and backward; 0: none."""


def linear(tape: Tape, name: str, x: Tensor, out_elements: Int, dtype: str, weight: Weight) -> Tensor:
    """y = x Wᵀ: saves x only for the gradient of W; a frozen W is needed for x but lives anyway."""
    return tape.op(
        name,
        (x,),
        out_elements,
        dtype,
        is_matmul=True,
        holds_input=weight.saves_input,
        saves_bytes=weight.cast_bytes,
        saves=(x,) if weight.trainable or weight.saves_input else (),
        trainable=weight.trainable,
        forward_scratch_bytes=weight.dequantised_bytes,
        backward_scratch_bytes=weight.dequantised_bytes,
        weight_gradient_bytes=weight.num_params * weight.gradient_bytes if weight.trainable else 0,
    )


def cast(tape: Tape, x: Tensor, dtype: str, *, name: str = "cast") -> Tensor:
    """``x.to(dtype)``: a copy unless the dtype is already right; saves nothing."""
    return x if x.dtype == dtype else tape.op(name, (x,), x.elements, dtype)


def add(tape: Tape, x: Tensor, y: Tensor, *, name: str = "sum") -> Tensor:
    """x + y in the wider dtype: saves nothing, hands its gradient on."""
    dtype = _promote(x.dtype, y.dtype)
    return tape.op(name, (x, y), x.elements, dtype, passes_gradient=True)


def mul(tape: Tape, x: Tensor, y: Tensor, *, name: str = "product") -> Tensor:
    """x * y: saves each operand the other's gradient needs."""
    saves = [operand for operand, other in ((x, y), (y, x)) if other.needs_grad]
    return tape.op(name, (x, y), x.elements, _promote(x.dtype, y.dtype), saves=saves)


def scale(tape: Tape, x: Tensor, *, name: str = "scaled") -> Tensor:
    """x times a number or a table shared by all layers (cos, sin): saves nothing of its own."""
    return tape.op(name, (x,), x.elements, x.dtype)


COMPOSITE_GELUS = frozenset({"gelu_new", "gelu_fast"})
"""Written out in Python by transformers (``NewGELUActivation``): four tensors are saved instead of one."""


def activation(tape: Tape, name: str, x: Tensor) -> Tensor:
    """silu, gelu, relu…: one fused operator that saves its input (relu: its output, of the same size)."""
    if name in COMPOSITE_GELUS:
        cube = tape.op("inner", (x,), x.elements, x.dtype, saves=(x,))
        bent = tape.op("tanh", (scale(tape, cube),), x.elements, x.dtype, saves_output=True)
        half = tape.op("half", (x,), x.elements, x.dtype)
        return mul(tape, half, scale(tape, bent, name="1 + tanh"), name=name)
    if name == "relu":
        return tape.op(name, (x,), x.elements, x.dtype, saves_output=True)
    return tape.op(name, (x,), x.elements, x.dtype, saves=(x,))


def softmax(tape: Tape, x: Tensor, *, dtype: str | None = None) -> Tensor:
    """Saves its output."""
    return tape.op("softmax", (x,), x.elements, dtype or x.dtype, saves_output=True)


def dropout(tape: Tape, x: Tensor, probability: float) -> Tensor:
    """``native_dropout`` saves a bool mask; with probability 0 the input itself is returned."""
    if probability == 0:
        return x
    return tape.op("dropout", (x,), x.elements, x.dtype, saves_bytes=x.elements)


def rms_norm(
    tape: Tape,
    x: Tensor,
    width: Int,
    *,
    trainable: bool,
    gradient_bytes: int = 2,
    upcast: bool = True,
    weighs_in_fp32: bool = False,
    keeps_input: bool = False,
) -> Tensor:
    """RMSNorm as modelling code writes it: x in fp32, x², mean, rsqrt, x·rsqrt, back to x's dtype, times weight.

    Saves the fp32 copy and one rsqrt per row; the normalised x too when the weight is trained. Without
    ``upcast`` all of it stays in x's dtype; with ``weighs_in_fp32`` the weight multiplies before the cast back;
    with ``keeps_input`` (T5) x itself is multiplied by the rsqrt and kept beside its fp32 copy.
    """
    wide = cast(tape, x, "fp32", name="norm input in fp32") if upcast else x
    rows = x.elements // width
    squares = tape.op("squares", (wide,), wide.elements, wide.dtype, saves=(wide,))
    variance = tape.op("rsqrt", (squares,), rows, wide.dtype, saves_output=True)
    scaled = x if keeps_input else wide
    normed = tape.op("normed", (scaled, variance), wide.elements, wide.dtype, saves=(scaled, variance))
    back = normed if weighs_in_fp32 else cast(tape, normed, x.dtype, name="normed")
    if weighs_in_fp32:
        weighted = tape.op(
            "norm output in fp32",
            (back,),
            x.elements,
            back.dtype,
            saves=(back,) if trainable else (),
            trainable=trainable,
            weight_gradient_bytes=width * gradient_bytes if trainable else 0,
        )
        return cast(tape, weighted, x.dtype, name="norm output")
    return tape.op(
        "norm output",
        (back,),
        x.elements,
        x.dtype,
        saves=(back,) if trainable else (),
        trainable=trainable,
        weight_gradient_bytes=width * gradient_bytes if trainable else 0,
    )


def fused_norm(
    tape: Tape, x: Tensor, width: Int, *, trainable: bool, gradient_bytes: int = 2, vectors: int = 2
) -> Tensor:
    """``native_layer_norm`` and fused RMS norms: save the input and fp32 statistics per row."""
    rows = x.elements // width
    return tape.op(
        "norm output",
        (x,),
        x.elements,
        x.dtype,
        saves=(x,),
        saves_bytes=vectors * rows * ELEMENT_BYTES["fp32"],
        trainable=trainable,
        weight_gradient_bytes=vectors * width * gradient_bytes if trainable else 0,
    )


def rotary(tape: Tape, x: Tensor) -> Tensor:
    """x·cos + rotate_half(x)·sin: linear in x, so nothing of x is saved."""
    rotated = tape.op("rotate half", (x,), x.elements, x.dtype, forward_scratch_bytes=x.size_bytes // 2)
    return add(tape, scale(tape, x, name="x cos"), scale(tape, rotated, name="x sin"), name="rotary")


def repeat_heads(tape: Tape, x: Tensor, repeats: int, *, name: str) -> Tensor:
    """``repeat_kv``: a copy per query head, nothing when heads are equal."""
    return x if repeats == 1 else tape.op(name, (x,), x.elements * repeats, x.dtype)


def flash_attention(tape: Tape, q: Tensor, k: Tensor, v: Tensor, *, lse_rows: Int) -> Tensor:
    """Fused attention: saves q, k, v, its output, and an fp32 log-sum-exp per query and head.

    The backward kernel accumulates the gradient of q in fp32 beside the three gradients.
    """
    return tape.op(
        "attention output",
        (q, k, v),
        q.elements,
        q.dtype,
        saves=(q, k, v),
        saves_output=True,
        saves_bytes=lse_rows * ELEMENT_BYTES["fp32"],
        backward_scratch_bytes=q.elements * ELEMENT_BYTES["fp32"],
    )


def efficient_attention(
    tape: Tape,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    batch: Int,
    queries: Int,
    keys: Int,
    lse_rows: Int,
    masked: bool,
    bias_heads: Int | None = None,
    value_elements: Int | None = None,
) -> Tensor:
    """Memory-efficient attention: as flash, plus a mask copy per layer whose rows are padded to 16 elements.

    With a position bias the mask has ``bias_heads`` heads; sequences share it unless padding sets them apart.
    """
    mask_bytes: Int = 0
    if masked or bias_heads is not None:
        copies = (batch if masked else 1) * (1 if bias_heads is None else bias_heads)
        mask_bytes = copies * queries * round_up(keys, 16) * ELEMENT_BYTES[q.dtype]
    return tape.op(
        "attention output",
        (q, k, v),
        q.elements if value_elements is None else value_elements,
        q.dtype,
        saves=(q, k, v),
        saves_output=True,
        saves_bytes=lse_rows * ELEMENT_BYTES["fp32"] + mask_bytes,
        backward_scratch_bytes=q.elements * ELEMENT_BYTES["fp32"],
    )


def eager_attention(
    tape: Tape, q: Tensor, k: Tensor, v: Tensor, *, scores: Int, probability: float, softmax_in_fp32: bool
) -> Tensor:
    """softmax(q kᵀ + mask) v spelled out: keeps B·H·S·S scores for the softmax and again for the second matmul."""
    raw = tape.op("scores", (q, k), scores, q.dtype, saves=(q, k))
    shifted = scale(tape, scale(tape, raw, name="scores"), name="masked scores")
    probabilities = softmax(tape, shifted, dtype="fp32" if softmax_in_fp32 else None)
    dropped = dropout(tape, cast(tape, probabilities, q.dtype), probability)
    mixed = tape.op("context", (dropped, v), q.elements, q.dtype, saves=(dropped, v))
    return tape.op("attention output", (mixed,), q.elements, q.dtype)


def capped_attention(tape: Tape, q: Tensor, k: Tensor, v: Tensor, *, scores: Int) -> Tensor:
    """Eager attention with tanh soft-capping (Gemma 2): also keeps the tanh's output, B·H·S·S in q's dtype."""
    raw = scale(tape, tape.op("scores", (q, k), scores, q.dtype, saves=(q, k)), name="scores")
    capped = tape.op("capped scores", (scale(tape, raw),), scores, q.dtype, saves_output=True)
    masked = scale(tape, scale(tape, capped), name="masked scores")
    probabilities = cast(tape, softmax(tape, masked, dtype="fp32"), q.dtype, name="probabilities")
    mixed = tape.op("context", (probabilities, v), q.elements, q.dtype, saves=(probabilities, v))
    return tape.op("attention output", (mixed,), q.elements, q.dtype)


def _promote(first: str, second: str) -> str:
    return first if ELEMENT_BYTES[first] >= ELEMENT_BYTES[second] else second
