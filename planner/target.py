"""Whom an answer is for: a card and its software, and how far outward a measurement speaks of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from hardware_db.gpu import Gpu
from planner.request import ServingWorkload, TrainingWorkload

Scope = Literal["stack", "gpu", "generation", "all"]
SCOPES: tuple[Scope, ...] = ("stack", "gpu", "generation", "all")
"""From the exact card and software outward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom an answer is for, from the exact stack outward; None where it is not known."""

    stack: str | None = None
    gpu: str | None = None
    generation: str | None = None
    name: str = ""

    def key(self, scope: Scope) -> str:
        """What entries of this scope call this target; empty for "all" and where it is not known."""
        keys = {"stack": self.stack, "gpu": self.gpu, "generation": self.generation, "all": ""}
        return keys[scope] or ""

    def matches(self, scope: Scope, key: str) -> bool:
        """True where an entry of this scope speaks of this card; "all" never speaks of a CPU."""
        if scope == "all":
            return self.gpu != "cpu"
        return key != "" and key == self.key(scope)

    def in_words(self, scope: Scope) -> str:
        """Where measurements of this scope were made, seen from this target."""
        return {
            "stack": f"this {self.name} with this software",
            "gpu": f"this {self.name}",
            "generation": f"{self.generation} GPUs",
            "all": "other GPUs",
        }[scope]


def target_of(workload: TrainingWorkload | ServingWorkload, gpu: Gpu | None, *, with_stack: bool = True) -> Target:
    """Whom the answer is for. The stack is the one installed here, unless the request names another torch."""
    if gpu is None:
        return Target()
    named = workload.torch_version if isinstance(workload, TrainingWorkload) else None
    stack = stack_key(gpu.id, named) if with_stack else None
    return Target(stack=stack, gpu=gpu.id, generation=gpu.architecture, name=gpu.name)


def stack_key(gpu_id: str, torch_version: str | None = None) -> str:
    """Name of a GPU with the libraries that decide its memory: "h200 torch 2.13 transformers 5.23 …"."""
    return " ".join((gpu_id, *_software(torch_version)))


@cache
def _software(torch_version: str | None) -> tuple[str, ...]:
    from importlib.metadata import PackageNotFoundError, version

    parts = []
    for library in ("torch", "transformers", "peft", "bitsandbytes"):
        try:
            found = torch_version if library == "torch" and torch_version else version(library)
        except PackageNotFoundError:
            continue
        parts.append(f"{library} {'.'.join(found.split('+')[0].split('.')[:2])}")
    return tuple(parts)
