"""Branches of peft's less common methods: what each keeps for one matrix of n inputs and m outputs.

Held against traces of peft's own modules by tests/trace.
"""

from __future__ import annotations

from planner.dtypes import ELEMENT_BYTES
from planner.memory.blocks.operators import add, cast
from planner.memory.blocks.setting import AdapterBranch
from planner.memory.ops import Int
from planner.memory.tape import Tape, Tensor

ON_INPUT = frozenset({"oft"})
"""Methods that change what the frozen matrix reads."""
BRANCHES = frozenset({"loha", "lokr", "hira", "miss", "road", "c3a", "delora"})
"""Methods that change what it returns."""


def turned_input(tape: Tape, x: Tensor, branch: AdapterBranch) -> Tensor:
    """OFT: x times a trained block-diagonal rotation; keeps x in the adapter's dtype."""
    wide = cast(tape, x, branch.dtype, name="OFT input")
    turned = tape.op("turned input", (wide,), x.elements, branch.dtype, saves=(wide,), trainable=True)
    return cast(tape, turned, x.dtype)


def branch_of(
    tape: Tape, x: Tensor, base: Tensor, in_features: Int, out_features: Int, rows: Int, branch: AdapterBranch
) -> Tensor:
    """base plus what the method makes of x, or of base itself (RoAd)."""
    if branch.kind == "road":
        return _turned_output(tape, base, branch)
    outputs = rows * out_features
    if branch.kind in ("loha", "lokr", "hira"):
        update = _by_delta(tape, x, in_features * out_features, outputs, branch)
    elif branch.kind == "miss":
        sums = tape.op("sums of inputs", (x,), rows * branch.rank, branch.dtype)
        update = tape.op("MiSS update", (sums,), outputs, branch.dtype, saves=(sums,), trainable=True)
    elif branch.kind == "c3a":
        wide = cast(tape, x, branch.dtype, name="C3A input")
        update = tape.op("C3A update", (wide,), outputs, branch.dtype, saves=(wide,), trainable=True)
    else:
        update = _decoupled(tape, x, outputs, rows, branch)
    return cast(tape, add(tape, base, update, name=f"linear + {branch.kind}"), base.dtype)


def _by_delta(tape: Tape, x: Tensor, params: Int, outputs: Int, branch: AdapterBranch) -> Tensor:
    """LoHa, LoKr, HiRA: a whole matrix is made from the factors, used once, and kept for the gradient of x."""
    wide = cast(tape, x, branch.dtype, name="adapter input")
    delta = tape.op("delta of the weight", (), params, branch.dtype, trainable=True)
    saves = (wide, delta) if x.needs_grad else (wide,)
    return tape.op("delta product", (wide, delta), outputs, branch.dtype, saves=saves)


def _decoupled(tape: Tape, x: Tensor, outputs: Int, rows: Int, branch: AdapterBranch) -> Tensor:
    """DeLoRA: the input scaled by the weight's norm, two factors, and a trained length between them."""
    scaled = tape.op("scaled input", (cast(tape, x, branch.dtype),), x.elements, branch.dtype)
    low = tape.op("DeLoRA A", (scaled,), rows * branch.rank, branch.dtype, saves=(scaled,), trainable=True)
    length = tape.op("DeLoRA length", (low,), low.elements, branch.dtype, saves=(low,), trainable=True)
    return tape.op("DeLoRA B", (length,), outputs, branch.dtype, saves=(length,), trainable=True)


def _turned_output(tape: Tape, base: Tensor, branch: AdapterBranch) -> Tensor:
    """RoAd: pairs of outputs are turned; keeps them in the adapter's dtype, as they are and swapped."""
    wide = cast(tape, base, branch.dtype, name="outputs")
    swapped = tape.op("swapped outputs", (wide,), base.elements, branch.dtype)
    turned = tape.op(
        "turned outputs", (wide, swapped), base.elements, branch.dtype, saves=(wide, swapped), trainable=True,
        backward_scratch_bytes=base.elements * ELEMENT_BYTES[branch.dtype],
    )  # fmt: skip
    return cast(tape, turned, base.dtype)
