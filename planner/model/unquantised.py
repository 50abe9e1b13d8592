"""Modules a quantised checkpoint leaves in 16 bits, by the names its ``quantization_config`` lists.

bitsandbytes calls the list ``llm_int8_skip_modules`` (for 4 bits too), AWQ and FP8 ``modules_to_not_convert``,
compressed-tensors ``ignore``, ModelOpt ``exclude_modules``. A name covers the module it equals, all below it, and
every module with that component; ``*`` and ``re:`` are patterns.

Source: https://huggingface.co/docs/transformers/main_classes/quantization
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from planner.errors import RequestError
from planner.model.architecture import LayerGroup, Linear, ModelArchitecture, RecurrentMixer

_LIST_KEYS = ("llm_int8_skip_modules", "modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers")
_BLOCKS = {
    "attention": ("self_attn", "attn", "attention", "self_attention"),
    "recurrent": ("linear_attn", "mamba", "mixer", "conv"),
    "mlp": ("mlp", "feed_forward"),
    "expert": ("mlp.experts.0", "mlp.experts", "block_sparse_moe.experts.0", "feed_forward.experts"),
    "shared_expert": ("mlp.shared_expert", "mlp.shared_experts", "feed_forward.shared_expert"),
    "cross": ("cross_attn", "encoder_attn"),
}
"""Where models keep a projection of each role inside a layer."""
_LAYER = re.compile(r"^(.*?)(?:layers|h|blocks)\.(?=\d+(?:\.|$))")
_OTHER_TOWERS = ("vis", "audio", "vpm", "apm", "mtp")
_DATA = Path(__file__).parent / "data" / "unquantised_modules.json"


def listed_modules(quantization: Mapping[str, Any]) -> tuple[str, ...]:
    """The names ``quantization_config`` keeps out of quantisation; empty where it lists none."""
    for key in _LIST_KEYS:
        names = quantization.get(key)
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return tuple(names)
    return ()


@cache
def _known_uploads() -> Mapping[str, Mapping[str, Any]]:
    known: dict[str, dict[str, Any]] = json.loads(_DATA.read_text(encoding="utf-8"))
    return known


def known_modules(name: str) -> tuple[str, ...] | None:
    """What the upload called ``name`` keeps in 16 bits, where its list is known; None where it is not."""
    upload = _known_uploads().get(name.rpartition("/")[2].lower())
    return None if upload is None else tuple(upload["modules"])


def is_dynamic_upload(name: str) -> bool:
    """Whether an upload chose the modules it quantises one by one, as Unsloth's dynamic 4-bit ones do.

    Source: https://unsloth.ai/blog/dynamic-4bit
    """
    return name.lower().endswith("-unsloth-bnb-4bit")


def keeping(architecture: ModelArchitecture, names: Sequence[str]) -> ModelArchitecture:
    """``architecture`` with the named modules of its decoder marked as kept in 16 bits.

    Layers are taken in the order of the groups. Where a model mixes kinds of layers within that order and single
    layers are named, nothing is marked and the doubt is said.
    """
    entries = tuple(_entry(name) for name in names)
    mixed = any(isinstance(group.mixer, RecurrentMixer) for group in architecture.groups)
    if mixed and any(_LAYER.match(name) for name in names):
        doubt = "modules its checkpoint keeps in 16 bits are counted as quantised"
        return replace(architecture, doubts="; ".join(filter(None, (architecture.doubts, doubt))))
    groups: list[LayerGroup] = []
    layer = 0
    for group in architecture.groups:
        if group.stack == "encoder":
            groups.append(group)
            continue
        kept = [_kept(group, number, entries) for number in range(layer, layer + group.count)]
        layer += group.count
        for marks, run in groupby(kept):
            linears = tuple(
                replace(linear, keeps_precision=linear.keeps_precision or mark)
                for linear, mark in zip(group.linears, marks, strict=True)
            )
            groups.append(replace(group, count=len(list(run)), linears=linears))
    return replace(architecture, groups=tuple(groups))


_Entry = re.Pattern[str] | str


def _entry(name: str) -> _Entry:
    """A pattern, or a name that starts at the layer it speaks of."""
    if name.startswith("re:"):
        try:
            return re.compile(name.removeprefix("re:"))
        except re.error as error:
            raise RequestError(f"quantization_config lists the broken pattern {name[:60]!r} ({error})") from error
    return name


def _kept(group: LayerGroup, layer: int, entries: tuple[_Entry, ...]) -> tuple[bool, ...]:
    return tuple(
        any(_covers(entry, path) for path in _paths(linear, layer) for entry in entries)
        for linear in group.linears
    )


def _paths(linear: Linear, layer: int) -> Iterator[str]:
    for block in _BLOCKS.get(linear.role, ()):
        yield f"model.layers.{layer}.{block}.{linear.name}"


def _covers(entry: _Entry, path: str) -> bool:
    if isinstance(entry, re.Pattern):
        return entry.match(path) is not None
    if "*" in entry:
        return fnmatchcase(path, entry) or fnmatchcase(path, f"{entry}.*")
    at_layer = _LAYER.match(entry)
    if at_layer is None:
        return entry in path.split(".")
    if any(tower in at_layer.group(1) for tower in _OTHER_TOWERS):
        return False
    wanted = f"model.layers.{entry[at_layer.end() :]}"
    return path == wanted or path.startswith(f"{wanted}.")
