"""The weight format of a quantised checkpoint, from the ``quantization_config`` of its ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.dtypes import same_size_hint
from planner.errors import UnsupportedError


def weight_format_name(quantization: Mapping[str, Any]) -> str:
    """A name of ``planner.dtypes``; raises UnsupportedError for a scheme that is not known.

    Source: https://huggingface.co/docs/transformers/main_classes/quantization
    """
    method = str(quantization.get("quant_method") or "").lower()
    bits = quantization.get("bits", quantization.get("w_bit", 4))
    if method == "bitsandbytes" or (
        not method and ("load_in_4bit" in quantization or "load_in_8bit" in quantization)
    ):
        return _bitsandbytes(quantization)
    if method == "gptq" and bits in (2, 3, 4, 8):
        return f"gptq-int{bits}" + _grouped(quantization.get("group_size"))
    if method == "awq" and bits == 4:
        return "awq-int4" + _grouped(quantization.get("group_size", quantization.get("q_group_size")))
    if method in ("fp8", "fbgemm_fp8"):
        return "fp8"
    if method == "mxfp4":
        return "mxfp4"
    if method == "bitnet":
        return "bitnet"
    if method in ("compressed-tensors", "modelopt"):
        return _compressed_tensors(quantization)
    what = f"{method or 'unnamed'} quantisation" + (f" at {bits} bits" if "bits" in quantization else "")
    hint = same_size_hint(method) or "plan its unquantised model"
    raise UnsupportedError(f"a checkpoint in {what[:80]} is not modelled", hint=hint)


def _bitsandbytes(quantization: Mapping[str, Any]) -> str:
    if quantization.get("load_in_8bit"):
        return "int8"
    kind = "nf4" if quantization.get("bnb_4bit_quant_type", "fp4") == "nf4" else "fp4"
    return kind + ("-dq" if quantization.get("bnb_4bit_use_double_quant") else "")


def _grouped(size: object) -> str:
    """The suffix of a group size that is not the usual 128; -1 stands for one group per row."""
    if size in (None, 128):
        return ""
    if isinstance(size, bool) or not isinstance(size, int) or not (size == -1 or 0 < size < 100_000):
        raise UnsupportedError(
            f"a group size of {str(size)[:20]} is not modelled", hint="-1, or 32 to 1024 weights"
        )
    return f"-g{'ch' if size == -1 else size}"


def _compressed_tensors(quantization: Mapping[str, Any]) -> str:
    """Groups with one scheme: floats of 8 bits are fp8, floats of 4 bits NVFP4; integers as ``_integers`` says.

    Source: https://github.com/vllm-project/compressed-tensors/blob/main/src/compressed_tensors/quantization/quant_args.py
    """
    algorithm = str(quantization.get("quant_algo") or "").upper()
    if algorithm in ("FP8", "NVFP4"):
        return algorithm.lower()
    groups = quantization.get("config_groups")
    schemes = groups.values() if isinstance(groups, Mapping) else ()
    weights = [scheme.get("weights") for scheme in schemes if isinstance(scheme, Mapping)]
    kinds = {_kind(each) for each in weights if isinstance(each, Mapping)}
    if len(kinds) == 1 and (kind := kinds.pop()) is not None:
        return kind
    raise UnsupportedError(
        "this mix of compressed-tensors formats is not modelled", hint="plan its unquantised model"
    )


def _kind(weights: Mapping[str, Any]) -> str | None:
    """Integers without zero points lie as GPTQ's do, with zero points as AWQ's; a channel is one group per row."""
    kind = f"{weights.get('type')}{weights.get('num_bits')}"
    if kind in ("float8", "float4"):
        return {"float8": "fp8", "float4": "nvfp4"}[kind]
    if kind not in ("int4", "int8"):
        return None
    by_row = weights.get("strategy") in ("channel", "tensor")
    group = _grouped(-1 if by_row else weights.get("group_size"))
    return ("awq-int4" if kind == "int4" and weights.get("symmetric") is False else f"gptq-{kind}") + group
