"""Models by name: the shipped registry, a local ``config.json``, a hub id, or a size alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from planner.errors import RequestError, UnknownNameError
from planner.model.architecture import ModelArchitecture
from planner.model.hf_config import architecture_from_config, checkpoint_weight_dtype, quantization_of
from planner.model.naming import named_params, original_name, untuned_name
from planner.model.unquantised import is_dynamic_upload, keeping, known_modules, listed_modules
from planner.units import parse_count

_DATA = Path(__file__).parent / "data"
_PARAMS_PREFIX = "params:"
_LARGEST_NAMED = 10**16


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryEntry:
    """One model of the shipped registry; ``config`` is what the architecture is built from."""

    id: str
    family: str
    aliases: tuple[str, ...]
    params_total: int
    """The reconciled count the closed form is held against."""
    params_active: int | None
    kv_bytes_per_token_bf16: int | None
    """Active parameters and cache (as if no layer had a window) reconciled beside the count, where they were."""
    confidence: Literal["A", "B", "C"]
    config_source: str
    count_source: str
    doubts: str
    config: Mapping[str, Any]

    def architecture(self) -> ModelArchitecture:
        return architecture_from_config(
            self.config, name=self.id, confidence=self.confidence, source=self.config_source, doubts=self.doubts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModel:
    """What a model name stands for."""

    architecture: ModelArchitecture | None
    """None for "params:7B", where only the size is known."""
    num_params_named: int
    """The size the model is named by ("70B" is 70,000,000,000), else the count to three significant digits."""
    notes: tuple[str, ...] = ()
    """What was picked among several readings of the name, and what is doubtful."""
    checkpoint_weight_dtype: str | None = None
    """Weight format of a checkpoint that is already quantised, as named in ``planner.dtypes``."""
    config: Mapping[str, Any] | None = None
    """What the architecture was built from, as in ``config.json``; real and traced models are built from it."""


@cache
def all_models() -> tuple[RegistryEntry, ...]:
    """Every model of the shipped registry."""
    with (_DATA / "models.jsonl").open(encoding="utf-8") as lines:
        return tuple(_entry(json.loads(line)) for line in lines)


def _entry(row: Mapping[str, Any]) -> RegistryEntry:
    return RegistryEntry(
        id=row["id"],
        family=row["family"],
        aliases=tuple(row["aliases"]),
        params_total=row["params_total"],
        params_active=row.get("params_active"),
        kv_bytes_per_token_bf16=row.get("kv_bytes_per_token_bf16"),
        confidence=row["confidence"],
        config_source=row["config_source"],
        count_source=row.get("count_source", ""),
        doubts=row.get("doubts", ""),
        config=row["config"],
    )


@cache
def _by_name() -> Mapping[str, RegistryEntry]:
    """Lower-case hub ids, aliases, and the last components of ids that no other model goes by."""
    names: dict[str, RegistryEntry] = {}
    for entry in all_models():
        for alias in entry.aliases:
            names.setdefault(alias.lower(), entry)
    for entry in all_models():
        bare = entry.id.rpartition("/")[2].lower()
        if bare not in ambiguous_names():
            names.setdefault(bare, entry)
    for entry in all_models():
        names[entry.id.lower()] = entry
    return names


@cache
def ambiguous_names() -> Mapping[str, tuple[str, ...]]:
    """Names that several models go by, with the models' ids from oldest to newest."""
    text = (_DATA / "ambiguous_names.json").read_text(encoding="utf-8")
    return {name: tuple(ids) for name, ids in json.loads(text).items()}


_SHORTER_TUNED = re.compile(r"qwen/qwen2(\.5)?-[0-9.]+b(-a14b)?-instruct")
_SHORTER_TUNED_POSITIONS = 32_768
"""``max_position_embeddings`` of the Instruct models of Qwen2 and Qwen2.5; their base models say 131,072.

Source: https://huggingface.co/Qwen/Qwen2-7B-Instruct/blob/main/config.json
"""


def resolve(name: str) -> ResolvedModel:
    """The model ``name`` stands for: a registry name or alias, a path, a hub id, or "params:7B".

    Raises UnknownNameError with near misses, RequestError for a broken config, UnsupportedError for a model that
    is not modelled, EnvironmentProblemError where the hub is needed and cannot be reached.
    """
    name = name.strip()
    if name.lower().startswith(_PARAMS_PREFIX):
        return _by_size(name[len(_PARAMS_PREFIX) :])
    resolved = _from_registry(name) or _from_path(name) or _from_copy(name) or _from_hub(name)
    if resolved.architecture is not None and _SHORTER_TUNED.fullmatch(name.lower()):
        shorter = replace(resolved.architecture, max_position_embeddings=_SHORTER_TUNED_POSITIONS)
        return replace(resolved, architecture=shorter)
    return resolved


def _by_size(text: str) -> ResolvedModel:
    count = parse_count(text)
    if not 0 < count <= _LARGEST_NAMED:
        raise RequestError(f"{text[:40]!r} is not the size of a model", hint="write 7B or 350M")
    note = "only the size is known: nothing can be said about activations, KV cache or adapters"
    return ResolvedModel(architecture=None, num_params_named=count, notes=(note,))


def find(name: str) -> RegistryEntry | None:
    """The registered model of this id or alias, in any case; of several the newest, unless one owns the name."""
    key = name.strip().lower()
    candidates = ambiguous_names().get(key, ())
    return _by_name().get(key) or (_by_name().get(candidates[-1].lower()) if candidates else None)


@cache
def _architecture(entry_id: str) -> ModelArchitecture:
    return _by_name()[entry_id.lower()].architecture()


def _from_registry(name: str) -> ResolvedModel | None:
    entry = find(name)
    if entry is None:
        return None
    notes = []
    others = [other for other in ambiguous_names().get(name.lower(), ()) if other != entry.id]
    if others:
        notes.append(f"{name} is taken as {entry.id}; the name also fits {', '.join(others)}")
    if Path(name).is_dir():
        notes.append(f"there is a directory {name} too; write ./{name} for it")
    if entry.confidence == "C":
        notes.append(f"{entry.id}: its shape is not verified against a published config")
    architecture = _architecture(entry.id)
    return ResolvedModel(
        architecture=architecture,
        num_params_named=named_params((name, entry.id), architecture.params_total),
        notes=tuple(notes),
        checkpoint_weight_dtype=checkpoint_weight_dtype(entry.config),
        config=entry.config,
    )


@cache
def _by_untuned_name() -> Mapping[str, tuple[RegistryEntry, ...]]:
    """Models by their names without tuning endings."""
    found: dict[str, dict[str, RegistryEntry]] = {}
    for name, entry in _by_name().items():
        found.setdefault(untuned_name(name), {})[entry.id] = entry
    return {name: tuple(entries.values()) for name, entries in found.items()}


def _from_copy(name: str) -> ResolvedModel | None:
    """A quantised upload or a tuned variant of a registered model, where its name points at exactly one."""
    stem, weight_format = original_name(name)
    entry = _by_name().get(stem)
    if entry is None:
        candidates = _by_untuned_name().get(untuned_name(stem), ())
        if len(candidates) != 1:
            return None
        entry = candidates[0]
    resolved = _from_registry(entry.id)
    if resolved is None or resolved.architecture is None:
        return None
    notes = [f"{name} is not in the registry; by its name it has the shape of {entry.id}"]
    if weight_format is not None:
        notes[0] += f" with weights in {weight_format}"
    elif "gguf" in name.lower():
        notes[0] += "; which of its files is not said, name it: --weight-dtype q4_k_m"
    names = known_modules(name)
    if names is None and is_dynamic_upload(name):
        notes.append(f"{name} keeps modules in 16 bits that its config.json lists; weights are counted too low")
    return replace(
        resolved,
        architecture=keeping(resolved.architecture, names or ()),
        notes=(*notes, *resolved.notes),
        checkpoint_weight_dtype=weight_format or resolved.checkpoint_weight_dtype,
    )


def _from_path(name: str) -> ResolvedModel | None:
    if not name or "\0" in name or len(name) > 4096:
        return None
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # "~nobody" is no home
        return None
    try:
        if path.is_dir():
            path = path / "config.json"
        elif not (path.is_file() or path.suffix == ".json" or name.startswith((".", "/", "~"))):
            return None
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RequestError(f"there is no {path}", hint="give a directory with config.json, or its path") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RequestError(f"cannot read {path}: {reason}", hint="give a Hugging Face config.json") from None
    label = path.parent.resolve().name if path.name == "config.json" else path.stem
    return from_config_text(text, name=label, source=str(path))


def from_config_text(text: str, *, name: str, source: str) -> ResolvedModel:
    """The model a ``config.json`` describes; broken JSON is a RequestError."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise RequestError(f"{source} is not valid JSON{where}", hint="give a Hugging Face config.json") from None
    architecture = architecture_from_config(config, name=name, source=source)
    quantization = quantization_of(config)
    if quantization is not None:
        architecture = keeping(architecture, listed_modules(quantization))
    return ResolvedModel(
        architecture=architecture,
        num_params_named=named_params((name,), architecture.params_total),
        notes=(architecture.doubts,) if architecture.doubts else (),
        checkpoint_weight_dtype=checkpoint_weight_dtype(config),
        config=config,
    )


def _from_hub(name: str) -> ResolvedModel:
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name, re.ASCII):
        raise UnknownNameError(f"there is no model {name[:80]!r}", hint=_near_misses(name))
    from planner.model.hub import config_text

    return from_config_text(
        config_text(name), name=name, source=f"https://huggingface.co/{name}/blob/main/config.json"
    )


def _near_misses(name: str) -> str:
    from difflib import get_close_matches

    known = dict.fromkeys((*_by_name(), *ambiguous_names()))
    near = get_close_matches(name.lower()[:80], known, n=3, cutoff=0.6)
    return f"did you mean {', '.join(near)}?" if near else "see plan models for the names, or give a config.json"
