"""Models by name: the shipped registry, a local ``config.json``, a hub id, or a size alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from planner.errors import RequestError, UnknownNameError
from planner.model.architecture import ModelArchitecture
from planner.model.hf_config import architecture_from_config, checkpoint_weight_dtype
from planner.units import BILLION, MILLION, parse_count

_DATA = Path(__file__).parent / "data"
_PARAMS_PREFIX = "params:"
_LARGEST_NAMED = 10**16
_SIZE_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:[._]\d+)?)([bm])(\d?)(?![A-Za-z0-9])", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryEntry:
    """One model of the shipped registry; ``config`` is what the architecture is built from."""

    id: str
    family: str
    aliases: tuple[str, ...]
    params_total: int
    """The reconciled count the closed form is held against."""
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
        confidence=row["confidence"],
        config_source=row["config_source"],
        count_source=row.get("count_source", ""),
        doubts=row.get("doubts", ""),
        config=row["config"],
    )


@cache
def _by_name() -> Mapping[str, RegistryEntry]:
    """Lower-case hub ids, their last components and aliases; a full id wins over a bare name."""
    names: dict[str, RegistryEntry] = {}
    for entry in all_models():
        for alias in entry.aliases:
            names.setdefault(alias.lower(), entry)
    for entry in all_models():
        names.setdefault(entry.id.rpartition("/")[2].lower(), entry)
    for entry in all_models():
        names[entry.id.lower()] = entry
    return names


@cache
def ambiguous_names() -> Mapping[str, tuple[str, ...]]:
    """Names that several models go by, with the models' ids from oldest to newest."""
    text = (_DATA / "ambiguous_names.json").read_text(encoding="utf-8")
    return {name: tuple(ids) for name, ids in json.loads(text).items()}


def resolve(name: str) -> ResolvedModel:
    """The model ``name`` stands for: a registry name or alias, a path, a hub id, or "params:7B".

    Raises UnknownNameError with near misses, RequestError for a broken config, UnsupportedError for a model that
    is not modelled, EnvironmentProblemError where the hub is needed and cannot be reached.
    """
    name = name.strip()
    if name.lower().startswith(_PARAMS_PREFIX):
        return _by_size(name[len(_PARAMS_PREFIX) :])
    return _from_registry(name) or _from_path(name) or _from_hub(name)


def _by_size(text: str) -> ResolvedModel:
    count = parse_count(text)
    if not 0 < count <= _LARGEST_NAMED:
        raise RequestError(f"{text[:40]!r} is not a model size", hint="write params:7B or params:350M")
    note = "only the size is known: nothing can be said about activations, KV cache or adapters"
    return ResolvedModel(architecture=None, num_params_named=count, notes=(note,))


def _from_registry(name: str) -> ResolvedModel | None:
    key = name.lower()
    candidates = ambiguous_names().get(key, ())
    entry = _by_name().get(key) or (_by_name().get(candidates[-1].lower()) if candidates else None)
    if entry is None:
        return None
    notes = []
    others = [other for other in candidates if other != entry.id]
    if others:
        notes.append(f"{name} is taken as {entry.id}; the name also fits {', '.join(others)}")
    if Path(name).is_dir():
        notes.append(f"there is a directory {name} too; write ./{name} for it")
    if entry.confidence == "C":
        notes.append(f"{entry.id}: its shape is not verified against a published config")
    architecture = entry.architecture()
    return ResolvedModel(
        architecture=architecture,
        num_params_named=named_params((name, entry.id), architecture.params_total),
        notes=tuple(notes),
        checkpoint_weight_dtype=checkpoint_weight_dtype(entry.config),
        config=entry.config,
    )


def _from_path(name: str) -> ResolvedModel | None:
    if not name or "\0" in name or len(name) > 4096:
        return None
    path = Path(name).expanduser()
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

    known = [*_by_name(), *ambiguous_names()]
    near = get_close_matches(name.lower()[:80], known, n=3, cutoff=0.6)
    return f"did you mean {', '.join(near)}?" if near else "see plan models for the names, or give a config.json"


def named_params(names: tuple[str, ...], params_total: int) -> int:
    """The size in the first of ``names`` that states one close to the truth, else the count to three digits.

    A stated size further than 1.5x from the count is not the size of the whole model (Llama-4-Scout-17B names the
    active parameters, Gemma-3n-E4B the effective ones), and a product such as 8x7B is not a size.
    """
    for name in names:
        for whole, unit, decimal in _SIZE_IN_NAME.findall(name.rpartition("/")[2]):
            number = whole.replace("_", ".") + (f".{decimal}" if decimal else "")
            size = round(float(number) * (BILLION if unit.lower() == "b" else MILLION))
            if 2 * params_total <= 3 * size and 2 * size <= 3 * params_total:
                return size
    unit_size = int(10 ** max(len(str(params_total)) - 3, 0))
    return (params_total + unit_size // 2) // unit_size * unit_size
