"""Optimizer states and the temporaries of one optimizer step, on one rank.

Letters: P trained parameters of the rank, b bytes of one, M parameters of its largest tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.citation import Citation
from planner.dtypes import ELEMENT_BYTES
from planner.errors import UnsupportedError
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int, ceil_div

_ADAM = Citation(
    title="torch.optim: Adam keeps two states in the parameter's dtype; foreach makes one list-wide temporary",
    url="https://github.com/pytorch/pytorch/blob/v2.9.0/torch/optim/adam.py",
)
_SGD = Citation(title="torch.optim.SGD", url="https://github.com/pytorch/pytorch/blob/v2.9.0/torch/optim/sgd.py")
_MUON = Citation(
    title="torch.optim.Muon: one momentum and bf16 Newton-Schulz iterates of one matrix",
    url="https://github.com/pytorch/pytorch/blob/v2.9.0/torch/optim/_muon.py",
)
_BNB = Citation(
    title="bitsandbytes: 8-bit states, one fp32 scale per 256, fp32 below 4,096 elements, paging",
    url="https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/optim/optimizer.py",
)
_ADAFACTOR = Citation(
    title="transformers: Adafactor keeps row and column sums in fp32",
    url="https://github.com/huggingface/transformers/blob/v4.57.1/src/transformers/optimization.py",
)
_LION = Citation(title="Lion: one momentum", url="https://arxiv.org/abs/2302.06675")
_GALORE = Citation(
    title="GaLore: Adam states of gradients projected to rank r", url="https://arxiv.org/abs/2403.03507"
)
_NONE = Citation(title="MeZO: no gradients, no states", url="https://arxiv.org/abs/2305.17333")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerRule:
    """Memory law of one optimizer.

    States cost ``state_elements`` × the parameter's bytes plus ``state_bytes`` per parameter; a step costs
    ``list_temporaries`` copies of all trained parameters and ``tensor_temporaries`` of the largest one.
    """

    state_elements: int = 0
    state_bytes: int = 0
    scale_block: int = 0
    """Parameters per fp32 scale of each 8-bit state."""
    list_temporaries: int = 0
    tensor_temporaries: int = 0
    fp32_tensor_temporaries: int = 0
    paged: bool = False
    """States live in managed memory, outside the caching allocator."""
    factored: bool = False
    projected: bool = False
    formula: str
    source: Citation


_RULES = {
    "adamw": OptimizerRule(state_elements=2, list_temporaries=1, formula="2 P b", source=_ADAM),
    "adamw-fused": OptimizerRule(state_elements=2, formula="2 P b", source=_ADAM),
    "adamw-forloop": OptimizerRule(state_elements=2, tensor_temporaries=2, formula="2 P b", source=_ADAM),
    "adamw-8bit": OptimizerRule(state_bytes=2, scale_block=256, formula="2 P + 8 P / 256", source=_BNB),
    "paged-adamw": OptimizerRule(state_elements=0, state_bytes=8, paged=True, formula="8 P, paged", source=_BNB),
    "paged-adamw-8bit": OptimizerRule(
        state_bytes=2, scale_block=256, paged=True, formula="2 P + 8 P / 256, paged", source=_BNB
    ),
    "sgd": OptimizerRule(formula="0", source=_SGD),
    "sgd-momentum": OptimizerRule(state_elements=1, formula="P b", source=_SGD),
    "adafactor": OptimizerRule(factored=True, fp32_tensor_temporaries=3, formula="4 Σ (n + m)", source=_ADAFACTOR),
    "lion": OptimizerRule(state_elements=1, tensor_temporaries=1, formula="P b", source=_LION),
    "lion-8bit": OptimizerRule(state_bytes=1, scale_block=256, formula="P + 4 P / 256", source=_BNB),
    "paged-lion-8bit": OptimizerRule(
        state_bytes=1, scale_block=256, paged=True, formula="P + 4 P / 256, paged", source=_BNB
    ),
    "muon": OptimizerRule(state_elements=1, tensor_temporaries=4, formula="P b", source=_MUON),
    "galore": OptimizerRule(projected=True, tensor_temporaries=2, formula="2 Σ r m b + Σ r n b", source=_GALORE),
    "none": OptimizerRule(formula="0", source=_NONE),
}
_ALIASES = {
    "adam": "adamw", "adamw-torch": "adamw", "adamw_torch": "adamw", "adamw-foreach": "adamw",
    "adamw_torch_fused": "adamw-fused", "fused-adamw": "adamw-fused", "adamw_8bit": "adamw-8bit",
    "adamw_bnb_8bit": "adamw-8bit", "adam-8bit": "adamw-8bit", "8bit-adam": "adamw-8bit",
    "paged_adamw_8bit": "paged-adamw-8bit", "paged-adam-8bit": "paged-adamw-8bit",
    "paged_adamw_32bit": "paged-adamw", "paged-adamw-32bit": "paged-adamw", "galore-adamw": "galore",
    "sgd_momentum": "sgd-momentum",
}  # fmt: skip
GALORE_RANK = 128


def optimizer_names() -> tuple[str, ...]:
    """Optimizers whose memory is known."""
    return tuple(name for name in _RULES if name != "none")


def optimizer_rule(name: str) -> OptimizerRule:
    """The memory law of ``name``; raises UnsupportedError for an optimizer that is not modelled."""
    key = name.lower()
    rule = _RULES.get(_ALIASES.get(key, key))
    if rule is None:
        raise UnsupportedError(
            f"the optimizer {name[:40]!r} is not modelled", hint=f"known: {', '.join(optimizer_names())}"
        )
    return rule


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedTensors:
    """The trained parameters of one rank as the optimizer sees them."""

    num_params: Int
    dtype: str
    largest: Int
    """Parameters of the largest tensor."""
    factored_params: Int
    """Σ (rows + columns) over the matrices."""
    fp32_state_params: Int = 0
    """Of ``num_params``, those whose states an 8-bit optimizer keeps in fp32: Trainer's embeddings."""


def state_bytes(rule: OptimizerRule, tensors: TrainedTensors) -> Int:
    """States kept between steps, in bytes."""
    params, element = tensors.num_params, ELEMENT_BYTES[tensors.dtype]
    if rule.factored:
        return tensors.factored_params * ELEMENT_BYTES["fp32"]
    if rule.projected:
        return 3 * GALORE_RANK * tensors.factored_params // 2 * element
    whole = scales = 0 * params
    if rule.scale_block:
        params = params - tensors.fp32_state_params
        whole = rule.state_bytes * tensors.fp32_state_params * ELEMENT_BYTES["fp32"]
        scales = rule.state_bytes * ceil_div(params, rule.scale_block) * ELEMENT_BYTES["fp32"]
    return params * (rule.state_elements * element + rule.state_bytes) + scales + whole


def optimizer_state_term(rule: OptimizerRule, tensors: TrainedTensors, *, on_gpu: bool) -> MemoryTerm:
    """States between steps. Paged or offloaded states take no GPU memory."""
    held = on_gpu and not rule.paged
    return MemoryTerm(
        kind="optimizer",
        label="optimizer states",
        size_bytes=state_bytes(rule, tensors) if held else 0 * tensors.num_params,
        formula=rule.formula if held else f"{rule.formula} in host memory",
        inputs={"P": tensors.num_params, "b": ELEMENT_BYTES[tensors.dtype]},
        source=rule.source,
    )


def optimizer_step_term(rule: OptimizerRule, tensors: TrainedTensors, *, on_gpu: bool) -> MemoryTerm:
    """Temporaries at the worst moment of ``optimizer.step()``; none on the GPU where states are offloaded."""
    element = ELEMENT_BYTES[tensors.dtype]
    size = (
        rule.list_temporaries * tensors.num_params * element
        + rule.tensor_temporaries * tensors.largest * element
        + rule.fp32_tensor_temporaries * tensors.largest * ELEMENT_BYTES["fp32"]
    )
    return MemoryTerm(
        kind="workspace",
        label="optimizer temporaries",
        size_bytes=size if on_gpu else 0 * size,
        formula="lists × P b + tensors × M b",
        inputs={
            "P": tensors.num_params,
            "b": element,
            "M": tensors.largest,
            "lists": rule.list_temporaries,
            "tensors": rule.tensor_temporaries + rule.fp32_tensor_temporaries,
        },
        source=rule.source,
    )
