"""A reader who follows the source of a line arrives at what the line came from."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

from planner.memory.engine import breakdown
from planner.model.registry import resolve
from planner.request import Parallelism, TrainingWorkload
from validate.trace.buffers import buffer_source

ROOT = Path(__file__).parents[2]
LORA = TrainingWorkload(gradient_checkpointing="none")
FULL = replace(LORA, method="full")


def sources_of(model: str, workload: TrainingWorkload) -> dict[str, str]:
    """Url by label of the activations kept for the backward pass."""
    architecture = resolve(model).architecture
    assert architecture is not None
    phases = breakdown(architecture, workload, Parallelism(), None).phases
    terms = next(phase.terms for phase in phases if phase.phase == "backward")
    return {term.label: term.source.url or "" for term in terms}


@pytest.mark.parametrize(
    ("model", "workload", "part", "where"),
    [
        ("llama-8b", FULL, "attention", "cuda/attention.cu"),
        ("llama-8b", replace(FULL, attention="eager"), "attention", "derivatives.yaml"),
        ("llama-8b", FULL, "mlp", "derivatives.yaml"),
        ("llama-8b", LORA, "adapter", "tuners/lora/layer.py"),
        ("llama-8b", replace(LORA, method="ia3"), "adapter", "tuners/ia3/layer.py"),
        ("llama-8b", replace(FULL, gradient_checkpointing="full"), "layer inputs", "checkpoint"),
        ("gemma-2-9b", FULL, "norms", "transformers/models"),
        ("mixtral-8x7b", FULL, "experts", "moe.py"),
        ("deepseek-v2-lite", FULL, "attention", "modeling_deepseek_v2.py"),
        ("tiiuae/falcon-mamba-7b", FULL, "recurrence", "selective_scan"),
        ("Qwen/Qwen3.5-27B", FULL, "recurrence", "gated_delta_rule"),
        ("llama-8b", replace(LORA, framework="litgpt"), "attention", "litgpt"),
    ],
)
def test_a_part_of_a_layer_cites_the_code_that_keeps_it(
    model: str, workload: TrainingWorkload, part: str, where: str
) -> None:
    assert where in sources_of(model, workload)[f"activations: {part}"]


@pytest.mark.parametrize(
    ("buffer", "where"),
    [
        ("cuBLAS workspace (forward thread)", "CublasHandlePool"),
        ("cuBLASLt workspace (backward thread)", "CublasHandlePool"),
        ("embedding_dense_backward.default", "Embedding.cu"),
        ("_scaled_dot_product_flash_attention_backward.default", "flash_api"),
        ("_scaled_dot_product_efficient_attention_backward.default", "attention_backward"),
        ("bitsandbytes.gemm_4bit.default", "bitsandbytes"),
    ],
)
def test_a_buffer_of_a_trace_cites_the_library_that_asks_for_it(buffer: str, where: str) -> None:
    assert where in (buffer_source(buffer).url or "")


def test_no_source_is_written_down_and_never_cited() -> None:
    files = {
        path: path.read_text() for room in ("hardware_db", "planner", "validate", "tui")
        for path in (ROOT / room).rglob("*.py")
    }  # fmt: skip
    named = {
        target.id: path
        for path, text in files.items()
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name) and node.value.func.id == "Citation"
        for target in node.targets if isinstance(target, ast.Name)
    }  # fmt: skip
    assert named
    unused = {f"{path.relative_to(ROOT)}: {name}" for name, path in named.items() if not cited(name, path, files)}
    assert not unused


def cited(name: str, home: Path, files: dict[Path, str]) -> bool:
    """Whether a name is used where it is defined, or in a file that names its module."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    elsewhere = (text for path, text in files.items() if path != home and home.stem in text)
    return len(word.findall(files[home])) > 1 or any(word.search(text) for text in elsewhere)
