"""How many tokens a JSON-lines dataset holds, counted from its text without a tokenizer.

English text is about four UTF-8 bytes per token (https://platform.openai.com/tokenizer), code nearer three, other
scripts differ more; the count is an estimate and says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.errors import RequestError

BYTES_PER_TOKEN = 4
_NOT_TEXT = frozenset({"role", "id", "source", "label"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What a file holds."""

    num_samples: int
    text_bytes: int

    @property
    def num_tokens(self) -> int:
        """Estimated tokens of one epoch."""
        return max(1, self.text_bytes // BYTES_PER_TOKEN)


def read_dataset(path: Path) -> Dataset:
    """Count samples and text of a JSON-lines file; raises RequestError naming the first line that is wrong.

    All text of a sample counts (prompt, completion, messages), names of roles and identifiers do not.
    """
    num_samples = text_bytes = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    sample = json.loads(line)
                except (ValueError, RecursionError):
                    raise RequestError(
                        f"{path.name}, line {number} is not JSON", hint="one object per line"
                    ) from None
                num_samples += 1
                text_bytes += _text_bytes(sample)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise RequestError(f"{path} cannot be read: {reason}") from None
    if not text_bytes:
        raise RequestError(f"{path.name} holds no text", hint="one JSON object with text fields per line")
    return Dataset(num_samples=num_samples, text_bytes=text_bytes)


def _text_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list):
        return sum(_text_bytes(item) for item in value)
    if isinstance(value, dict):
        return sum(_text_bytes(item) for name, item in value.items() if name not in _NOT_TEXT)
    return 0
