"""Where to read what each part of a block keeps between forward and backward."""

from __future__ import annotations

from planner.citation import Citation
from planner.memory.blocks import litgpt, mixers, moe, quirks
from planner.memory.blocks.adapted import ADAPTER_SOURCES
from planner.memory.blocks.operators import AUTOGRAD, FLASH
from planner.memory.blocks.setting import Setting
from planner.model.architecture import LatentAttention, ModelArchitecture, RecurrentMixer

CHECKPOINT = Citation(
    title="PyTorch: activation checkpointing keeps a layer's input or what a policy selects",
    url="https://docs.pytorch.org/docs/stable/checkpoint.html",
)


def part_source(part: str, architecture: ModelArchitecture, setting: Setting, program: str) -> Citation:
    """The source behind ``part``, the kind of a tape's storages: the code that runs, else autograd's formulas."""
    mixers_of = [group.mixer for group in architecture.groups]
    if part in ("layer inputs", "selected outputs"):
        return CHECKPOINT
    if program == "litgpt":
        return litgpt.MODEL
    if part == "adapter" and setting.adapter is not None:
        return ADAPTER_SOURCES.get(setting.adapter.kind, AUTOGRAD)
    if part == "recurrence":
        return next(mixers.SCANS[mixer.kind] for mixer in mixers_of if isinstance(mixer, RecurrentMixer))
    if part == "attention" and any(isinstance(mixer, LatentAttention) for mixer in mixers_of):
        return mixers.LATENT
    if part in ("attention", "cross attention") and setting.attention != "eager":
        return FLASH
    if part in ("norms", "residual") and quirks.departs(architecture.model_type):
        return quirks.MODELLING
    return moe.ROUTING if part == "experts" else AUTOGRAD
