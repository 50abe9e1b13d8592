"""Launch commands of vLLM and SGLang.

Flags: https://docs.vllm.ai/en/stable/cli/serve/ and https://docs.sglang.io/advanced_features/server_arguments.html.
"""

from __future__ import annotations

import shlex

from planner.dtypes import weight_format
from planner.errors import UnsupportedError
from planner.export.chosen import Chosen
from planner.memory.terms.vllm_start import default_share_percent
from planner.request_text import comment

VLLM_FILE = "serve_vllm.sh"
SGLANG_FILE = "serve_sglang.sh"
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_VLLM_QUANTISATION = {"gptq": "gptq", "awq": "awq", "fp8": "fp8", "bitsandbytes": "bitsandbytes"}
_SGLANG_QUANTISATION = {"gptq": "gptq", "awq": "awq", "fp8": "fp8", "bitsandbytes": "bitsandbytes"}


def vllm_files(chosen: Chosen) -> dict[str, str]:
    """``serve_vllm.sh``."""
    return {VLLM_FILE: _script(chosen, vllm_packages(chosen), vllm_command(chosen))}


def sglang_files(chosen: Chosen) -> dict[str, str]:
    """``serve_sglang.sh``."""
    return {SGLANG_FILE: _script(chosen, ["sglang[all]"], sglang_command(chosen))}


def vllm_command(chosen: Chosen) -> list[str]:
    """``vllm serve`` with the limits of the plan; requests per replica become ``--max-num-seqs``."""
    workload, spread = chosen.serving, chosen.parallelism
    command = ["vllm", "serve", chosen.model_id, "--dtype", _DTYPES[workload.compute_dtype]]
    command += _when(spread.tp > 1, "--tensor-parallel-size", spread.tp)
    command += _when(spread.pp > 1, "--pipeline-parallel-size", spread.pp)
    command += _when(spread.dp_replicate > 1, "--data-parallel-size", spread.dp_replicate)
    command += ["--max-model-len", str(workload.max_model_len or workload.context_tokens)]
    command += ["--max-num-seqs", str(workload.max_num_seqs or workload.concurrency)]
    share = workload.gpu_memory_utilization or default_share_percent(workload) / 100
    command += ["--gpu-memory-utilization", str(share)]
    command += _when(workload.max_num_batched_tokens, "--max-num-batched-tokens", workload.max_num_batched_tokens)
    command += _when(workload.kv_cache_dtype == "fp8", "--kv-cache-dtype", "fp8")
    quantisation = _quantisation(workload.weight_dtype, _VLLM_QUANTISATION, "vLLM")
    command += _when(quantisation, "--quantization", quantisation)
    if workload.num_lora_adapters:
        command += ["--enable-lora", "--max-loras", str(workload.num_lora_adapters)]
        command += ["--max-lora-rank", str(workload.lora_rank)]
    return command + ([] if workload.cuda_graphs else ["--enforce-eager"])


def vllm_packages(chosen: Chosen) -> list[str]:
    """What to install; since 0.28 bitsandbytes weights need a plug-in (vllm-project/vllm#43529)."""
    stored = weight_format(chosen.serving.weight_dtype)
    return ["vllm", "vllm-bnb-plugin"] if stored.scheme == "bitsandbytes" else ["vllm"]


def sglang_command(chosen: Chosen) -> list[str]:
    """``python -m sglang.launch_server`` with the limits of the plan."""
    workload, spread = chosen.serving, chosen.parallelism
    command = ["python", "-m", "sglang.launch_server", "--model-path", chosen.model_id]
    command += ["--dtype", _DTYPES[workload.compute_dtype]]
    command += _when(spread.tp > 1, "--tp-size", spread.tp)
    command += _when(spread.pp > 1, "--pp-size", spread.pp)
    command += _when(spread.dp_replicate > 1, "--dp-size", spread.dp_replicate)
    command += ["--context-length", str(workload.max_model_len or workload.context_tokens)]
    command += ["--max-running-requests", str(workload.concurrency)]
    fraction = workload.gpu_memory_utilization
    command += _when(fraction, "--mem-fraction-static", fraction)
    command += _when(workload.max_num_batched_tokens, "--chunked-prefill-size", workload.max_num_batched_tokens)
    command += _when(workload.kv_cache_dtype == "fp8", "--kv-cache-dtype", "fp8_e5m2")
    quantisation = _quantisation(workload.weight_dtype, _SGLANG_QUANTISATION, "SGLang")
    command += _when(quantisation, "--quantization", quantisation)
    return command + ([] if workload.cuda_graphs else ["--disable-cuda-graph"])


def _when(condition: object, flag: str, value: object) -> list[str]:
    return [flag, str(value)] if condition else []


def _quantisation(weight_dtype: str, names: dict[str, str], engine: str) -> str | None:
    stored = weight_format(weight_dtype)
    if not stored.is_quantised:
        return None
    if stored.scheme in ("mxfp4", "nvfp4"):
        return None  # read from the checkpoint's own configuration
    if stored.scheme not in names:
        raise UnsupportedError(f"{engine} does not serve {weight_dtype} weights", hint="--weight-dtype awq-int4")
    return names[stored.scheme]


def _script(chosen: Chosen, packages: list[str], command: list[str]) -> str:
    needs = f"# Needs: pip install {' '.join(shlex.quote(package) for package in packages)}"
    lines = ["#!/usr/bin/env bash", comment(chosen.request), needs, "set -euo pipefail", wrapped(command)]
    return "\n".join(lines) + "\n"


def wrapped(command: list[str]) -> str:
    """A command over several lines, one option each."""
    words = [shlex.quote(word) for word in command]
    text = ""
    for word in words:
        text += f" \\\n  {word}" if word.startswith("--") else f" {word}"
    return text.strip()
