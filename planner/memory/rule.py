"""The founding documents' rules of thumb, exactly as stated: tier ``rule``.

P is the number of parameters the model is *named* by (70B -> 70e9), Q the bits of a weight. Arithmetic is exact
(decimals, then whole bytes), so 70B at 16 bits is 168,000,000,000 bytes.
"""

from __future__ import annotations

from decimal import Decimal

from planner.bits import bits_choice
from planner.citation import Citation
from planner.errors import RequestError
from planner.memory.breakdown import MemoryTerm
from planner.memory.estimate import Estimate
from planner.quantity import Quantity, Tier

SOURCE = Citation(title="founding documents")

FULL_PRECISION_BITS = 32
BYTES_PER_PARAM = 4
ADAM_BYTES_PER_PARAM = 8
GRADIENT_BYTES_PER_PARAM = 4
ACTIVATION_BYTES_PER_PARAM = 8
PESSIMISTIC_TRAINING_FACTOR = 20
SERVING_OVERHEAD = Decimal("1.2")


def stored_weights(num_params: int, bits: str = "32") -> Estimate:
    """P × 4 B / (32 / Q): 1B parameters are 4 GB at full precision."""
    size_bytes = round(_weights(num_params, bits))
    weights = _term("weights", "weights", size_bytes, "P × 4 B / (32 / Q)", P=num_params, Q=bits)
    return _estimate("store", "", "stored weights", (weights,))


def serving(num_params: int, bits: str = "16") -> Estimate:
    """M = (P × 4 B / (32 / Q)) × 1.2, for Q in 32, 16, 8, 4 and 1.58."""
    weights_bytes = round(_weights(num_params, bits))
    total_bytes = round(_weights(num_params, bits) * SERVING_OVERHEAD)
    terms = (
        _term("weights", "weights", weights_bytes, "P × 4 B / (32 / Q)", P=num_params, Q=bits),
        _term("overhead", "serving overhead", total_bytes - weights_bytes, "weights × 0.2", weights=weights_bytes),
    )
    return _estimate("serve", "", "", terms)


def training(num_params: int) -> Estimate:
    """24 B per parameter: weights 4, Adam states 8, gradients 4, activations and temporaries 8."""
    terms = tuple(
        _term(kind, label, per_param * num_params, f"{per_param} B × P", P=num_params)
        for kind, label, per_param in (
            ("weights", "weights", BYTES_PER_PARAM),
            ("optimizer", "Adam states", ADAM_BYTES_PER_PARAM),
            ("gradients", "gradients", GRADIENT_BYTES_PER_PARAM),
            ("activations", "activations and temporaries", ACTIVATION_BYTES_PER_PARAM),
        )
    )
    return _estimate("train", "full", "", terms)


def pessimistic_training(num_params: int) -> Estimate:
    """About 20 times the storage: 80 GB per 1B parameters at 32 bits."""
    size_bytes = PESSIMISTIC_TRAINING_FACTOR * BYTES_PER_PARAM * num_params
    everything = _term("training", "everything", size_bytes, "20 × P × 4 B", P=num_params)
    return _estimate("train", "full", "pessimistic", (everything,))


def gpus_needed(size_bytes: int, gpu_memory_bytes: int) -> int:
    """The smallest number of equal GPUs whose memory together holds ``size_bytes``."""
    return -(-size_bytes // gpu_memory_bytes)


def lora_params(rank: int, in_features: int, out_features: int) -> int:
    """r × (d_in + d_out) trainable parameters beside one matrix: 512 x 64 at r = 8 gives 4,608."""
    if min(rank, in_features, out_features) < 1:
        raise RequestError("rank and matrix sizes are positive", hint="for example rank 8 beside 512 x 64")
    return rank * (in_features + out_features)


def prompt_tuning_params(num_virtual_tokens: int, hidden_size: int) -> int:
    """Tokens × hidden size: 5 tokens on T5-XXL (4,096) give 20,480."""
    return num_virtual_tokens * hidden_size


def _weights(num_params: int, bits: str) -> Decimal:
    if num_params < 1:
        raise RequestError("the number of parameters is positive", hint="for example 7B")
    bits_choice(bits)
    return num_params * BYTES_PER_PARAM * Decimal(bits) / FULL_PRECISION_BITS


def _term(kind: str, label: str, size_bytes: int, formula: str, **inputs: object) -> MemoryTerm:
    return MemoryTerm(kind=kind, label=label, size_bytes=size_bytes, formula=formula, inputs=inputs, source=SOURCE)


def _estimate(task: str, method: str, label: str, terms: tuple[MemoryTerm, ...]) -> Estimate:
    total_bytes = sum(term.size_bytes for term in terms)
    return Estimate(
        task=task, method=method, tier=Tier.RULE, quantity=Quantity.DEVICE, low_bytes=total_bytes,
        expected_bytes=total_bytes, high_bytes=total_bytes, num_gpus=1, phase="rule", terms=terms, label=label,
    )  # fmt: skip
