"""How an engine rearranges quantised weights while it loads them: what its kernels drop, undo or pad."""

from __future__ import annotations

from dataclasses import replace

from planner.citation import Citation
from planner.dtypes import WeightFormat, weight_format
from planner.memory.terms.serving_engines import POOLED, version_of
from planner.request import ServingWorkload

_UNDONE = Citation(
    title="vLLM: scales of double-quantised checkpoints are dequantised while loading",
    url="https://github.com/vllm-project/vllm/blob/main/vllm/model_executor/model_loader/bitsandbytes_loader.py",
)
_MARLIN = Citation(
    title="vLLM: Marlin takes symmetric GPTQ weights without zeros and without g_idx",
    url="https://github.com/vllm-project/vllm/blob/main/vllm/model_executor/layers/quantization/gptq_marlin.py",
)
_SWIZZLED = Citation(
    title="triton_kernels: MXFP4 columns are laid out in tiles of 128 bytes",
    url="https://github.com/triton-lang/triton/blob/main/python/triton_kernels/triton_kernels/tensor_details/"
    "layout_details/hopper_value.py",
)
_UNDOES_DOUBLE_SINCE = (0, 8, 5)
_SWIZZLED_COLUMNS = 256


def held_format(workload: ServingWorkload) -> WeightFormat:
    """The format of ``workload.weight_dtype`` as the engine holds it."""
    fmt = weight_format(workload.weight_dtype)
    if workload.engine not in POOLED:
        return fmt
    if fmt.scheme == "gptq":
        return replace(fmt, zero_bits=0, index_bytes=0, source=_MARLIN)
    if workload.engine == "vllm" and fmt.scheme == "mxfp4":
        return replace(fmt, column_multiple=_SWIZZLED_COLUMNS, source=_SWIZZLED)
    version = version_of(workload.engine_version)
    undoes = workload.engine == "vllm" and (version is None or version >= _UNDOES_DOUBLE_SINCE)
    if fmt.double_quantised and undoes:
        return replace(weight_format(fmt.name.removesuffix("-dq")), name=fmt.name, source=_UNDONE)
    return fmt
