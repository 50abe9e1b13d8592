"""Models by a few typed words: those that hold every word, best match first, else those of a like name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import IntEnum
from functools import cache

from planner.model.registry import RegistryEntry, all_models

LEAST_LIKENESS = 0.55
"""``SequenceMatcher.ratio`` below which two names have nothing to do with each other."""
MOST_LIKE = 8
LEAST_YEAR = 1000
Name = tuple[str, ...]
"""The words of a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """``matching`` hold what was typed. Where none does, ``near`` are the most alike, which may mean nothing."""

    matching: tuple[RegistryEntry, ...]
    near: tuple[RegistryEntry, ...] = ()


class _Match(IntEnum):
    """How a name holds the typed words; smaller is better."""

    EXACT = 0
    BEGINS = 1
    WHOLE_WORDS = 2
    WORD_STARTS = 3
    INSIDE = 4
    ACROSS_NAMES = 5
    NONE = 6


def find_models(query: str) -> Found:
    """Models for ``query`` of words in any order; an empty one matches all, in the registry's order.

    Among equals a model known by its own id goes before one known by an alias, then a newer version first.
    """
    words = tuple(_words(query))
    if not words:
        return Found(matching=all_models())
    ranked = [(_rank(words, entry, names), entry) for entry, names in _named()]
    matching = [(rank, entry) for rank, entry in ranked if rank[0] is not _Match.NONE]
    matching.sort(key=lambda pair: pair[0])
    if matching:
        return Found(matching=tuple(entry for _, entry in matching))
    typed = " ".join(words)
    alike = [(max(_likeness(typed, name) for name in names), entry) for entry, names in _named()]
    alike.sort(key=lambda pair: -pair[0])
    return Found(matching=(), near=tuple(entry for ratio, entry in alike[:MOST_LIKE] if ratio >= LEAST_LIKENESS))


def _rank(words: Name, entry: RegistryEntry, names: tuple[Name, ...]) -> tuple[_Match, bool, bool, float]:
    kinds = [_match(words, name) for name in names]
    best = min(kinds)
    if best is _Match.NONE:
        together = {*_words(entry.family), *(word for name in names for word in name)}
        best = _Match.ACROSS_NAMES if all(any(_holds(held, word) for held in together) for word in words) else best
    by_alias = min(kinds[:2]) > best
    unusual = entry.confidence == "C" or not entry.id[0].isalnum() or "#" in entry.id
    return best, unusual, by_alias, -_version(entry.id)


def _match(words: Name, name: Name) -> _Match:
    if words == name:
        return _Match.EXACT
    if _starts("".join(words), "".join(name)):
        return _Match.BEGINS
    if all(word in name for word in words):
        return _Match.WHOLE_WORDS
    if all(any(_starts(word, held) for held in name) for word in words):
        return _Match.WORD_STARTS
    return _Match.INSIDE if all(any(_holds(held, word) for held in name) for word in words) else _Match.NONE


def _starts(word: str, held: str) -> bool:
    """Whether ``held`` begins with ``word``; a number is not begun by its first digits."""
    cut = word[-1].isdigit() and held[len(word) : len(word) + 1].isdigit()
    return held.startswith(word) and not cut


def _holds(held: str, word: str) -> bool:
    """Whether ``word`` stands anywhere in ``held``; one with digits stands at its start only."""
    return _starts(word, held) if any(letter.isdigit() for letter in word) else word in held


def _words(text: str) -> Iterable[str]:
    return re.findall(r"[a-z0-9.]+", text.lower())


@cache
def _named() -> tuple[tuple[RegistryEntry, tuple[Name, ...]], ...]:
    """Every model with the words of its last component, of its whole id, and of each alias."""
    return tuple(
        (entry, tuple(tuple(_words(name)) for name in (entry.id.rpartition("/")[2], entry.id, *entry.aliases)))
        for entry in all_models()
    )


def _version(model_id: str) -> float:
    """The first number of a name that is no size and no date: 3.1 of "Llama-3.1-8B", 0 of "TinyLlama"."""
    found = re.findall(r"(?<![\d.])(\d+(?:\.\d+)?)(?![\d.]*[bmkex])", model_id.rpartition("/")[2].lower())
    return float(found[0]) if found and float(found[0]) < LEAST_YEAR else 0.0


def _likeness(typed: str, name: Name) -> float:
    matcher = SequenceMatcher(None, typed, " ".join(name), autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() >= LEAST_LIKENESS else 0.0


def alias_for(query: str, entry: RegistryEntry) -> str:
    """The alias of ``entry`` that holds what was typed; empty where its own name does, or none."""
    words = tuple(_words(query))
    if not words or _match(words, tuple(_words(entry.id))) is not _Match.NONE:
        return ""
    matches = [(_match(words, tuple(_words(alias))), alias) for alias in entry.aliases]
    best = min(matches, key=lambda pair: pair[0], default=(_Match.NONE, ""))
    return best[1] if best[0] is not _Match.NONE else ""
