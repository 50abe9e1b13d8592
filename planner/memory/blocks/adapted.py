"""A linear layer with the branch its fine-tuning method puts beside it."""

from __future__ import annotations

from planner.citation import Citation
from planner.dtypes import ELEMENT_BYTES
from planner.memory.blocks.branches import BRANCHES, ON_INPUT, branch_of, turned_input
from planner.memory.blocks.operators import Weight, add, cast, dropout, linear, mul, scale
from planner.memory.blocks.setting import Setting
from planner.memory.ops import Int
from planner.memory.tape import Tape, Tensor
from planner.model.architecture import Linear

_PEFT = "https://github.com/huggingface/peft/blob/main/src/peft/tuners"
_PEFT_LORA = Citation(
    title="peft: LoRA casts its input to the adapter's dtype unless autocast is on", url=f"{_PEFT}/lora/layer.py"
)
ADAPTER_SOURCES = {
    "lora": _PEFT_LORA,
    "dora": _PEFT_LORA,
    "ia3": Citation(title="peft: IA3 multiplies by a trained vector", url=f"{_PEFT}/ia3/layer.py"),
    "vera": Citation(title="peft: VeRA trains vectors between frozen matrices", url=f"{_PEFT}/vera/layer.py"),
}
"""By the kind of ``AdapterBranch``."""


def adapted_linear(tape: Tape, x: Tensor, module: Linear, setting: Setting, *, shards: str = "out") -> Tensor:
    """``module`` applied to x, with its adapter. ``shards``: the side tensor parallelism cuts ("out" or "in")."""
    in_features = module.in_features // setting.tp if shards == "in" else module.in_features
    out_features = module.out_features // setting.tp if shards == "out" else module.out_features
    rows = x.elements // in_features
    branch = setting.adapter
    applies = branch is not None and branch.applies(module)
    if branch is not None and applies and branch.kind == "ia3" and is_feed_forward(module):
        x = _ia3_input(tape, x, in_features, branch.dtype)
        applies = False
    if branch is not None and applies and branch.kind in ON_INPUT:
        outer, tape.kind = tape.kind, "adapter"
        x = turned_input(tape, x, branch)
        tape.kind, applies = outer, False
    base = _base(tape, x, module, setting, in_features * out_features, rows * out_features)
    if branch is None or not applies:
        return base
    outer, tape.kind = tape.kind, "adapter"
    try:
        if branch.kind in ("lora", "dora"):
            return _lora(tape, x, base, in_features, out_features, rows, setting)
        if branch.kind == "ia3":
            return _ia3(tape, base, out_features, setting)
        if branch.kind in BRANCHES:
            return branch_of(tape, x, base, in_features, out_features, rows, branch)
        if branch.kind == "vera":
            return _vera(tape, x, base, out_features, rows, setting)
        return scale_shift(tape, base, out_features)
    finally:
        tape.kind = outer


def is_feed_forward(module: Linear) -> bool:
    """Whether IA3 scales this matrix's input (the last of an MLP) instead of its output."""
    return module.role == "mlp" and module.in_features > module.out_features


def _ia3_input(tape: Tape, x: Tensor, in_features: Int, dtype: str) -> Tensor:
    """x in the adapter's dtype times a trained vector: keeps the copy."""
    outer, tape.kind = tape.kind, "adapter"
    vector = tape.op("ia3_l", (), in_features, dtype, trainable=True)
    scaled = _times_vector(tape, cast(tape, x, dtype, name="IA3 input"), vector, "scaled input")
    tape.kind = outer
    return cast(tape, scaled, x.dtype)


def _base(tape: Tape, x: Tensor, module: Linear, setting: Setting, num_params: Int, out_elements: Int) -> Tensor:
    weight = Weight(
        num_params=num_params,
        trainable=setting.weights_trained,
        gradient_bytes=setting.gradient_bytes,
        cast_bytes=num_params * ELEMENT_BYTES[setting.compute_dtype] if setting.casts_weights else 0,
        saves_input=setting.saves_quantised_inputs and module.is_packable,
        dequantised_bytes=num_params * setting.dequantised_element_bytes if module.is_packable else 0,
    )
    inner = cast(tape, x, setting.compute_dtype)
    out = linear(tape, module.name, inner, out_elements, setting.compute_dtype, weight)
    return cast(tape, out, setting.linear_dtype or x.dtype)


def _lora(
    tape: Tape, x: Tensor, base: Tensor, in_features: Int, out_features: Int, rows: Int, setting: Setting
) -> Tensor:
    """base + B(A(dropout(x))) · scale. Without autocast x is copied to the adapter's dtype for every linear."""
    branch = setting.adapter
    assert branch is not None
    dtype = setting.compute_dtype if setting.autocast else branch.dtype
    inner = dropout(tape, cast(tape, x, dtype, name="LoRA input"), branch.dropout)
    inner = cast(tape, inner, dtype)
    down = _trained(branch.rank * in_features, branch.dtype, dtype)
    up = _trained(branch.rank * out_features, branch.dtype, dtype)
    low = linear(tape, "lora_A", inner, rows * branch.rank, dtype, down)
    out = scale(tape, linear(tape, "lora_B", low, rows * out_features, dtype, up), name="lora scaled")
    if branch.kind == "dora":
        return _dora(tape, x, base, out, setting)
    return cast(tape, add(tape, base, out, name="linear + LoRA"), base.dtype)


def _trained(num_params: Int, dtype: str, compute_dtype: str) -> Weight:
    """A trained matrix, which autocast copies to the compute dtype and keeps for backward."""
    copied = num_params * _bytes(compute_dtype) if _bytes(compute_dtype) < _bytes(dtype) else 0
    return Weight(num_params=num_params, trainable=True, gradient_bytes=_bytes(dtype), cast_bytes=copied)


def _dora(tape: Tape, x: Tensor, base: Tensor, out: Tensor, setting: Setting) -> Tensor:
    """(m/‖W+BA‖ − 1)·base + m/‖W+BA‖·B(A(x)): both products are kept for the gradient of m."""
    branch = setting.adapter
    assert branch is not None
    magnitude = tape.op("magnitude", (), 1, branch.dtype, trainable=True)
    scaled_base = mul(tape, magnitude, base, name="DoRA base")
    grown = tape.op("DoRA base", (scaled_base,), base.elements, branch.dtype, passes_gradient=True)
    scaled_out = scale(tape, mul(tape, magnitude, out, name="DoRA update"), name="DoRA update")
    update = add(tape, grown, scaled_out, name="DoRA update")
    return cast(tape, add(tape, base, update, name="linear + DoRA"), base.dtype)


def _ia3(tape: Tape, base: Tensor, out_features: Int, setting: Setting) -> Tensor:
    """base times a trained vector: keeps base for the vector's gradient."""
    branch = setting.adapter
    assert branch is not None
    vector = tape.op("ia3_l", (), out_features, branch.dtype, trainable=True)
    return cast(tape, _times_vector(tape, base, vector, "IA3 output"), base.dtype)


def _vera(tape: Tape, x: Tensor, base: Tensor, out_features: Int, rows: Int, setting: Setting) -> Tensor:
    """base + b ∘ B(d ∘ A(x)) with frozen shared A and B: keeps A(x) and B(…) for the gradients of d and b."""
    branch = setting.adapter
    assert branch is not None
    frozen = Weight(num_params=0, trainable=False)
    inner = dropout(tape, cast(tape, x, branch.dtype, name="VeRA input"), branch.dropout)
    low = linear(tape, "vera_A", inner, rows * branch.rank, branch.dtype, frozen)
    d = tape.op("vera_lambda_d", (), branch.rank, branch.dtype, trainable=True)
    middle = _times_vector(tape, low, d, "VeRA middle")
    high = linear(tape, "vera_B", middle, rows * out_features, branch.dtype, frozen)
    b = tape.op("vera_lambda_b", (), out_features, branch.dtype, trainable=True)
    update = _times_vector(tape, high, b, "VeRA update")
    return cast(tape, add(tape, base, update, name="linear + VeRA"), base.dtype)


def scale_shift(tape: Tape, base: Tensor, out_features: Int) -> Tensor:
    """(base + bias) · scale with both trained (LLaMA-Adapter v2): keeps the biased output."""
    shift = tape.op("adapter_bias", (), out_features, base.dtype, trainable=True)
    shifted = tape.op("biased output", (base, shift), base.elements, base.dtype, passes_gradient=False)
    factor = tape.op("adapter_scale", (), out_features, base.dtype, trainable=True)
    return _times_vector(tape, shifted, factor, "scaled output")


def _times_vector(tape: Tape, x: Tensor, vector: Tensor, name: str) -> Tensor:
    """x ∘ vector, broadcast over rows; the vector's gradient is reduced from a product as large as x."""
    saves = [x] if vector.needs_grad else []
    dtype = x.dtype if _bytes(x.dtype) >= _bytes(vector.dtype) else vector.dtype
    return tape.op(
        name, (x, vector), x.elements, dtype, saves=saves, backward_scratch_bytes=x.elements * _bytes(dtype)
    )


def _bytes(dtype: str) -> int:
    return ELEMENT_BYTES[dtype]
