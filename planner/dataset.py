"""How many tokens a JSON-lines dataset holds: counted by the model's tokenizer, or told from its size.

English text is about four UTF-8 bytes per token (https://platform.openai.com/tokenizer), code nearer three, prose
in large vocabularies nearer five; without a tokenizer the count says so and carries both ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.errors import RequestError
from planner.tokens import CountTokens
from planner.units import MIB

BYTES_PER_TOKEN = 4
FEWEST_BYTES_PER_TOKEN, MOST_BYTES_PER_TOKEN = 3, 5
MOST_COUNTED_BYTES = 64 * MIB
"""Of a larger file the rest is taken to be like what was counted."""
_NOT_TEXT = frozenset({"role", "id", "source", "label"})
_BATCH_BYTES = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What a file holds, for one epoch. Markers a chat template adds between turns are not in it."""

    num_samples: int
    text_bytes: int
    counted_bytes: int = 0
    """Text a tokenizer has counted; 0: none was asked."""
    counted_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        if not self.counted_bytes:
            return max(1, self.text_bytes // BYTES_PER_TOKEN)
        return max(1, round(self.counted_tokens * self.text_bytes / self.counted_bytes))

    @property
    def in_words(self) -> str:
        """Samples and tokens, and how far to trust them."""
        samples = f"{self.num_samples:,} samples"
        if not self.counted_bytes:
            low, high = self.text_bytes // MOST_BYTES_PER_TOKEN, self.text_bytes // FEWEST_BYTES_PER_TOKEN
            return (
                f"{samples}, about {self.num_tokens:,} tokens an epoch ({low:,} to {high:,}: {BYTES_PER_TOKEN}"
                f" bytes each, {FEWEST_BYTES_PER_TOKEN} to {MOST_BYTES_PER_TOKEN}; the model's tokenizer is not on"
                " this machine)"
            )
        if self.counted_bytes < self.text_bytes:
            share = self.counted_bytes / self.text_bytes
            return (
                f"{samples}, about {self.num_tokens:,} tokens an epoch (the model's tokenizer on the first"
                f" {share:.0%} of the text)"
            )
        return f"{samples}, {self.num_tokens:,} tokens an epoch (the model's tokenizer, without a chat template)"


def read_dataset(path: Path, count: CountTokens | None = None) -> Dataset:
    """Count samples and text of a JSON-lines file; raises RequestError naming the first line that is wrong.

    All text of a sample counts (prompt, completion, messages), names of roles and identifiers do not.
    """
    num_samples = text_bytes = counted_bytes = counted_tokens = 0
    waiting: list[str] = []
    waiting_bytes = 0
    for sample in _samples(path):
        num_samples += 1
        for text in _texts(sample):
            size = len(text.encode())
            text_bytes += size
            if count is not None and counted_bytes + waiting_bytes < MOST_COUNTED_BYTES:
                waiting.append(text)
                waiting_bytes += size
        if count is not None and waiting_bytes >= _BATCH_BYTES:
            counted_tokens, counted_bytes = counted_tokens + count(waiting), counted_bytes + waiting_bytes
            waiting, waiting_bytes = [], 0
    if count is not None and waiting:
        counted_tokens, counted_bytes = counted_tokens + count(waiting), counted_bytes + waiting_bytes
    if not text_bytes:
        raise RequestError(f"{path.name} holds no text", hint="one JSON object with text fields per line")
    return Dataset(
        num_samples=num_samples, text_bytes=text_bytes, counted_bytes=counted_bytes, counted_tokens=counted_tokens
    )


def _samples(path: Path) -> Iterator[Any]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    raise RequestError(
                        f"{path.name}, line {number} is not JSON", hint="one object per line"
                    ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise RequestError(f"{path} cannot be read: {reason}") from None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _NOT_TEXT:
                yield from _texts(item)
