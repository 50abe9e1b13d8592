"""Which catalogue entry a GPU name means, by rules of spelling instead of a list of spellings.

A name is split into its model ("rtx 4090"), an optional form factor ("sxm5") and an optional memory size
("80gb"). The model must agree exactly, so a laptop GPU or a MIG slice never passes for the card. A stated form
factor or size must agree too; among what is left the catalogue's order decides, and the file lists the variant
most often met first ("A100" is the SXM4 80 GB, "H100" the SXM5 80 GB, "V100" the SXM2 16 GB).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import dropwhile

# fmt: off
_VENDOR_WORDS = frozenset((
    "nvidia", "tesla", "geforce", "amd", "instinct", "radeon", "intel", "r", "tm", "google", "habana",
    "tensor", "core", "gpu", "gpus", "graphics", "generation", "edition", "oam", "hgx", "dgx",
))
# fmt: on
_SERIES_WORDS = frozenset(("rtx", "gtx", "rx", "quadro", "apple", "aws", "jetson", "arc", "ryzen"))
_FORM = re.compile(r"(sxm[2-6]?|pcie|nvl(?!ink|[0-9]))")
_MEMORY = re.compile(r"(?<![a-z0-9.])([0-9]+(?:\.[0-9]+)?) ?(?:gib|gb|g)\b|(?<=[a-z])([0-9]+)(?:gib|gb)\b")
_MEMORY_KIND = re.compile(r"\b(hbm2e?|hbm3e?|gddr[567]x?)\b")
_NOISE = re.compile(r"\b[0-9]+ ?w\b|\bnvl[0-9]+\b")
_PARENTHESIS = re.compile(r"\([^)]*\)")
_SIZE_TOLERANCE = 0.07
"""Marketing size against what drivers and sellers print: 15 for 16, 45 for 48, 141 for 144. gpuhunt snaps within
the same share (https://github.com/dstackai/gpuhunt, ``correct_gpu_memory_gib``)."""


@dataclass(frozen=True, slots=True)
class ParsedName:
    words: str
    """Every word but the vendor's, run together: two names that agree here are the same name."""
    model: str
    """Model words without vendor and series noise, run together: "rtx4090", "a100"."""
    short_model: str
    """``model`` without the series words before it: "4090"."""
    form: str | None
    sizes_gb: tuple[float, ...]
    memory_kind: str | None


@lru_cache(maxsize=1024)
def parse(name: str) -> ParsedName:
    """Split a product name; ``name`` keeps its parentheses only where they are part of the model."""
    text = re.sub(r"[^a-z0-9.]+", " ", name.lower())
    text = _FORM.sub(r" \1 ", text)
    all_words = "".join(word for word in text.split() if word not in _VENDOR_WORDS)
    form = _FORM.search(text)
    kind = _MEMORY_KIND.search(text)
    sizes = tuple(float(match[1] or match[2]) for match in _MEMORY.finditer(text))
    for pattern in (_MEMORY, _MEMORY_KIND, _NOISE, _FORM):
        text = pattern.sub(" ", text)
    words = [word for word in text.replace(".", " ").split() if word not in _VENDOR_WORDS]
    return ParsedName(
        words=all_words,
        model="".join(words),
        short_model="".join(dropwhile(_SERIES_WORDS.__contains__, words)),
        form=form[1] if form else None,
        sizes_gb=sizes,
        memory_kind=kind[1] if kind else None,
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """What matching needs of one catalogue entry."""

    id: str
    names: tuple[str, ...]
    memory_gb: float
    memory_kind: str | None

    @property
    def spellings(self) -> tuple[str, ...]:
        """Each name with its parenthesis and without."""
        return tuple(dict.fromkeys(text for name in self.names for text in (name, _PARENTHESIS.sub(" ", name))))


def _size_agrees(stated_gb: float, memory_gb: float) -> bool:
    return abs(stated_gb - memory_gb) <= _SIZE_TOLERANCE * memory_gb


def _narrow(parsed: ParsedName, found: list[tuple[Entry, ParsedName]]) -> list[Entry]:
    """Keep entries that agree with the stated form factor, size and kind of memory."""
    if parsed.form and any(name.form for _, name in found):
        found = [(entry, name) for entry, name in found if name.form and name.form.startswith(parsed.form)]
    found = [
        (entry, name)
        for entry, name in found
        if all(_size_agrees(size_gb, entry.memory_gb) for size_gb in parsed.sizes_gb)
    ]
    if parsed.sizes_gb and found:
        nearest = min(abs(entry.memory_gb - parsed.sizes_gb[0]) for entry, _ in found)
        found = [(e, n) for e, n in found if abs(e.memory_gb - parsed.sizes_gb[0]) == nearest]
    same_kind = [pair for pair in found if pair[0].memory_kind == parsed.memory_kind]
    if parsed.memory_kind and same_kind:
        found = same_kind
    return list(dict.fromkeys(entry for entry, _ in found))


def match(query: str, entries: Iterable[Entry]) -> list[str]:
    """Ids that ``query`` may mean, the likeliest first; empty when nothing agrees."""
    entries = list(entries)
    plain = _PARENTHESIS.sub(" ", query)
    for text in dict.fromkeys((query, plain)):
        parsed = parse(text)
        if not parsed.model:
            continue
        named = [(entry, parse(name)) for entry in entries for name in entry.spellings]
        found = [entry for entry, name in named if name.words == parsed.words]
        if not found:
            found = _narrow(parsed, [(entry, name) for entry, name in named if name.model == parsed.model])
        if not found:
            loose = [(entry, name) for entry, name in named if name.short_model == parsed.short_model]
            found = _narrow(parsed, loose) if len({name.model for _, name in loose}) == 1 else []
        if found:
            return [entry.id for entry in dict.fromkeys(found)]
    return []


def suggestions(query: str, entries: Iterable[Entry], limit: int = 4) -> tuple[str, ...]:
    """Names nearest to ``query``, for the hint of an error."""
    from difflib import SequenceMatcher

    wanted = parse(_PARENTHESIS.sub(" ", query)).model or query.lower()

    def closeness(entry: Entry) -> float:
        best = 0.0
        for name in entry.names:
            model = parse(name).model
            contained = 0.3 if len(wanted) > 2 and wanted in model else 0.0
            best = max(best, contained + SequenceMatcher(None, wanted, model).ratio())
        return best

    least = 0.5 if any(letter.isdigit() for letter in wanted) else 0.7
    ranked = sorted(((closeness(entry), entry) for entry in entries), key=lambda pair: -pair[0])
    return tuple(entry.names[0] for score, entry in ranked[:limit] if score >= least)
