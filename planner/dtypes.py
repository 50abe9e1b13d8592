"""Storage formats of weights: bytes of one matrix to the byte, and which modules a format leaves alone.

Letters: n input features, m output features of a matrix, stored row by row (m rows of n).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from planner import gguf
from planner.citation import Citation
from planner.errors import RequestError, UnknownNameError, UnsupportedError
from planner.units import BITS_PER_BYTE

_TORCH = Citation(title="torch dtypes", url="https://docs.pytorch.org/docs/stable/tensor_attributes.html")
_BITSANDBYTES = Citation(
    title="bitsandbytes: blocks of 64 with one absmax, double quantisation in blocks of 256 (functional.py)",
    url="https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/functional.py",
)
_LLM_INT8 = Citation(title="LLM.int8(): one scale per row", url="https://arxiv.org/abs/2208.07339")
_GPTQ = Citation(
    title="AutoGPTQ: packed words, group scales and zeros, g_idx",
    url="https://github.com/AutoGPTQ/AutoGPTQ/blob/main/auto_gptq/nn_modules/qlinear/qlinear_cuda_old.py",
)
_AWQ = Citation(
    title="AutoAWQ: packed words, group scales and zeros",
    url="https://github.com/casper-hansen/AutoAWQ/blob/main/awq/modules/linear/gemm.py",
)
_FP8 = Citation(
    title="transformers: fine-grained FP8, scales per 128 x 128 tile",
    url="https://huggingface.co/docs/transformers/quantization/finegrained_fp8",
)
_FBGEMM = Citation(
    title="transformers: FBGEMM FP8, as Llama-3.1-405B-Instruct-FP8 is published",
    url="https://huggingface.co/docs/transformers/quantization/fbgemm_fp8",
)
_MX = Citation(
    title="OCP microscaling formats: one 8-bit scale per 32 elements",
    url="https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf",
)
_NVFP4 = Citation(
    title="NVFP4: one FP8 scale per 16 elements and one FP32 per tensor",
    url="https://developer.nvidia.com/blog/introducing-nvfp4-for-efficient-and-accurate-low-precision-inference/",
)
_BITNET = Citation(
    title="transformers: BitNet packs four ternary weights in a byte",
    url="https://huggingface.co/docs/transformers/quantization/bitnet",
)

Grouping = Literal["none", "flat", "input", "row", "tile"]
Scheme = Literal["plain", "bitsandbytes", "gptq", "awq", "fp8", "int8", "mxfp4", "nvfp4", "bitnet", "gguf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixBytes:
    """Storage of one matrix: the packed weights, and the quantisation state beside them."""

    packed_bytes: int
    state_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.packed_bytes + self.state_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """How a weight matrix is stored. ``bits`` counts the packed weight alone, without scales."""

    name: str
    scheme: Scheme
    bits: int
    source: Citation
    grouping: Grouping = "none"
    """What shares a scale: a run of the flattened matrix, a run of one row, a row, or a square tile."""
    group_size: int = 0
    """Weights that share a scale (the edge of a tile); 0 with "input": the whole row."""
    scale_bytes: int = 0
    zero_bits: int = 0
    index_bytes: int = 0
    """Bytes per input feature (GPTQ's g_idx)."""
    tensor_state_bytes: int = 0
    """Constants beside every matrix: code books, global scales."""
    mlp_only: bool = False
    """Attention, and the whole first and last layer, stay in the compute dtype (Meta's FBGEMM checkpoints)."""
    column_multiple: int = 1
    """Input features are padded to a multiple of so many."""
    double_quantised: bool = False
    """bitsandbytes: scales kept as int8 with one fp32 per 256 of them."""

    @property
    def is_quantised(self) -> bool:
        return self.scheme != "plain"

    @property
    def full_fine_tuning(self) -> bool:
        """Whether the weights themselves can be trained; quantised ones train only behind adapters."""
        return self.scheme == "plain"

    @property
    def mixture(self) -> str:
        """Name of a GGUF mixture, without the "gguf-" prefix."""
        return self.name.removeprefix("gguf-")

    def quantises(
        self, role: str, *, is_module: bool = True, kept: bool = False, model_has_experts: bool = False
    ) -> bool:
        """Whether a matrix of a block with ``role`` (``Linear.role``) is stored in this format.

        Embeddings, norms and the output head never are, outside GGUF. bitsandbytes packs ``nn.Linear`` modules
        only, so experts held as one bare parameter stay in the compute dtype; MXFP4 checkpoints pack only experts.
        ``kept``: the checkpoint or the library keeps this module in 16 bits, which GGUF files know nothing of.
        """
        if kept and self.scheme != "gguf":
            return False
        if self.scheme in ("plain", "bitsandbytes"):
            return is_module
        if role == "router" or (self.mlp_only and role != "mlp"):
            return False
        if self.scheme == "mxfp4" and model_has_experts:
            return role == "expert"
        return role != "recurrent" or self.scheme == "gguf" or is_module

    def matrix_bytes(self, in_features: int, out_features: int) -> MatrixBytes:
        """Storage of one matrix of ``out_features`` rows and ``in_features`` columns, biases excluded."""
        n, m = _ceil(in_features, self.column_multiple) * self.column_multiple, out_features
        weights = n * m
        if self.scheme == "gguf":
            row = gguf.row_bytes(gguf.tensor_type(self.mixture, "", 0, 1, 1, 0), n)
            return MatrixBytes(packed_bytes=row * m, state_bytes=0)
        packed = _ceil(weights * self.bits, BITS_PER_BYTE)
        groups = {
            "none": 0,
            "flat": _ceil(weights, self.group_size or weights),
            "input": _ceil(n, self.group_size or n) * m,
            "row": m,
            "tile": _ceil(n, self.group_size or n) * _ceil(m, self.group_size or m),
        }[self.grouping]
        scales = groups + 4 * _ceil(groups, 256) if self.double_quantised else groups * self.scale_bytes
        zeros = _ceil(groups * self.zero_bits, BITS_PER_BYTE)
        state = scales + zeros + self.index_bytes * n + self.tensor_state_bytes
        return MatrixBytes(packed_bytes=packed, state_bytes=state)


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


_CODE_BOOK_BYTES = 16 * 4
_NESTED_STATE_BYTES = 256 * 4 + 4
"""bitsandbytes: the 256-entry map of the second quantisation and the mean it subtracts."""


def _bnb(name: str, *, nested: bool) -> WeightFormat:
    constants = _CODE_BOOK_BYTES + (_NESTED_STATE_BYTES if nested else 0)
    return WeightFormat(
        name=name, scheme="bitsandbytes", bits=4, source=_BITSANDBYTES, grouping="flat", group_size=64,
        scale_bytes=4, double_quantised=nested, tensor_state_bytes=constants,
    )  # fmt: skip


def _gptq(bits: int) -> WeightFormat:
    return WeightFormat(
        name=f"gptq-int{bits}", scheme="gptq", bits=bits, source=_GPTQ, grouping="input", group_size=128,
        scale_bytes=2, zero_bits=bits, index_bytes=4,
    )  # fmt: skip


_FORMATS = {
    item.name: item
    for item in (
        WeightFormat(name="fp32", scheme="plain", bits=32, source=_TORCH),
        WeightFormat(name="bf16", scheme="plain", bits=16, source=_TORCH),
        WeightFormat(name="fp16", scheme="plain", bits=16, source=_TORCH),
        WeightFormat(
            name="fp8", scheme="fp8", bits=8, source=_FP8, grouping="tile", group_size=128, scale_bytes=4
        ),
        WeightFormat(
            name="fp8-fbgemm", scheme="fp8", bits=8, source=_FBGEMM, grouping="row", scale_bytes=4, mlp_only=True
        ),
        WeightFormat(name="int8", scheme="bitsandbytes", bits=8, source=_LLM_INT8, grouping="row", scale_bytes=4),
        _bnb("nf4", nested=False),
        _bnb("nf4-dq", nested=True),
        _bnb("fp4", nested=False),
        _bnb("fp4-dq", nested=True),
        *(_gptq(bits) for bits in (2, 3, 4, 8)),
        WeightFormat(
            name="awq-int4", scheme="awq", bits=4, source=_AWQ, grouping="input", group_size=128,
            scale_bytes=2, zero_bits=4,
        ),
        WeightFormat(
            name="mxfp4", scheme="mxfp4", bits=4, source=_MX, grouping="input", group_size=32, scale_bytes=1
        ),
        WeightFormat(
            name="nvfp4", scheme="nvfp4", bits=4, source=_NVFP4, grouping="input", group_size=16, scale_bytes=1,
            tensor_state_bytes=4,
        ),
        WeightFormat(name="bitnet", scheme="bitnet", bits=2, source=_BITNET, tensor_state_bytes=2),
    )
}  # fmt: skip

_ALIASES = {
    "float32": "fp32", "f32": "fp32", "float": "fp32", "bfloat16": "bf16", "float16": "fp16", "f16": "fp16",
    "half": "fp16", "float8": "fp8", "fp8_e4m3": "fp8", "llm.int8": "int8", "int4": "nf4", "awq": "awq-int4",
    "gptq": "gptq-int4", "bitnet-1.58": "bitnet",
}  # fmt: skip
_UNMODELLED = {
    "hqq": "at 4 bits in groups of 64 nf4 takes the same bytes",
    "torchao": "int8 takes the bytes of its int8, gptq-int4 nearly those of its int4 in groups of 128",
    "quanto": "int8 takes the bytes of its int8",
    "eetq": "int8 takes the same bytes",
    "exl2": "its bits differ from layer to layer; gptq-int4 is the nearest of 4 bits",
    "exl3": "its bits differ from layer to layer; gptq-int4 is the nearest of 4 bits",
    "aqlm": "gptq-int2 is the nearest of 2 bits",
}
"""Schemes people name that are not modelled, by how their names begin, and what takes as many bytes.

Source: https://huggingface.co/docs/transformers/quantization/overview
"""
_GROUPED = re.compile(r"(gptq-int[2348]|awq-int4)-g(\d{1,5}|ch)")


def same_size_hint(name: str) -> str | None:
    """What takes about the bytes of a scheme that is not modelled, such as "hqq"; None for any other name."""
    return next((hint for known, hint in _UNMODELLED.items() if name.strip().lower().startswith(known)), None)


def weight_format_names() -> tuple[str, ...]:
    """Every name ``weight_format`` knows, group sizes aside."""
    return (*_FORMATS, *(f"gguf-{name}" for name in sorted(gguf.MIXTURE_NAMES)))


@cache
def weight_format(name: str, *, group_size: int | None = None) -> WeightFormat:
    """The format called ``name``: "bf16", "nf4-dq", "gptq-int4", "gptq-int4-g32", "gguf-q4_k_m" or plain "q4_k_m"…

    ``group_size`` (or a ``-g`` suffix, "-gch" for one group per row) replaces the 128 of GPTQ and AWQ.
    """
    key = name.strip().lower()
    key = _ALIASES.get(key, key)
    if match := _GROUPED.fullmatch(key):
        key, suffix = match.groups()
        group_size = 0 if suffix == "ch" else int(suffix)
    mixture = key.removeprefix("gguf-")
    if mixture in gguf.MIXTURE_NAMES and key not in _FORMATS:
        weights, size_bytes = gguf.BLOCKS[gguf.tensor_type(mixture, "", 0, 1, 1, 0)]
        bits = size_bytes * BITS_PER_BYTE // weights
        source = gguf.BLOCK_LAYOUTS if mixture in gguf.BLOCKS else gguf.MIXTURES
        return WeightFormat(name=f"gguf-{mixture}", scheme="gguf", bits=bits, source=source)
    if key not in _FORMATS:
        from difflib import get_close_matches

        if hint := same_size_hint(key):
            raise UnsupportedError(f"{name[:40]} weights are not modelled", hint=hint)
        near = get_close_matches(key, weight_format_names(), n=3)
        raise UnknownNameError(
            f"there is no weight format {name[:40]!r}",
            hint=f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(_FORMATS)}, gguf-*",
        )
    found = _FORMATS[key]
    if group_size is None or group_size == found.group_size:
        return found
    if found.scheme not in ("gptq", "awq"):
        raise RequestError(f"{key} has no choice of group size", hint="group sizes belong to gptq and awq")
    size = max(group_size, 0)
    return replace(found, name=f"{key}-g{size or 'ch'}", group_size=size)


ELEMENT_BYTES = {
    "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "fp8_e5m2": 1,
    "int64": 8, "int32": 4, "int8": 1, "bool": 1,
}  # fmt: skip
"""Bytes of one element of a tensor, by the names used here; ``element_bytes`` takes aliases too."""


def element_bytes(dtype: str) -> int:
    """Bytes of one element of a plain dtype such as "bf16"."""
    size = ELEMENT_BYTES.get(_ALIASES.get(dtype.lower(), dtype.lower()))
    if size is None:
        raise UnknownNameError(
            f"there is no plain dtype {dtype[:40]!r}", hint=f"known: {', '.join(ELEMENT_BYTES)}"
        )
    return size
