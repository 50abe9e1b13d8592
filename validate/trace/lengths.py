"""Sample lengths of a data set, and the padded lengths of the batches a shuffled loader makes of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from planner.errors import EnvironmentProblemError, RequestError

_TEXT_FIELDS = ("text", "prompt", "completion", "instruction", "input", "output", "question", "answer", "response")


def read_lengths(path: Path, tokenizer: str | None = None) -> tuple[int, ...]:
    """Tokens of each sample of a JSON-lines file.

    A line holds ``length``, or ``input_ids``, or text, for which ``tokenizer`` names a directory or hub id.
    Raises RequestError naming the first line that holds none of them.
    """
    encode = _encoder(tokenizer) if tokenizer else None
    lengths = tuple(_length(row, number, path, encode) for number, row in _rows(path))
    if not lengths:
        raise RequestError(f"{path} holds no samples", hint="one JSON object per line")
    return lengths


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RequestError(f"cannot read {path}: {reason}", hint="a JSON-lines file") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError:
                raise RequestError(f"{path}, line {number} is not JSON", hint="one JSON object per line") from None


def _length(row: Any, number: int, path: Path, encode: Any) -> int:
    if isinstance(row, dict):
        given = row.get("length")
        if isinstance(given, int) and given > 0:
            return given
        if isinstance(row.get("input_ids"), list):
            return max(1, len(row["input_ids"]))
        texts = [row[name] for name in _TEXT_FIELDS if isinstance(row.get(name), str)]
        if texts and encode is None:
            raise RequestError(f"{path} holds text", hint="name its --tokenizer, or give lengths")
        if texts:
            return max(1, len(encode("\n".join(texts))))
    raise RequestError(f"{path}, line {number} holds no length, input_ids or text", hint='{"length": 512}')


def _encoder(name: str) -> Any:
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(name)
    except ImportError:
        raise EnvironmentProblemError(
            "a tokenizer needs transformers", hint="pip install 'gpu-planner[validate]'"
        ) from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise EnvironmentProblemError(f"cannot load the tokenizer {name}: {reason}", hint="give lengths") from None
    return lambda text: tokenizer(text)["input_ids"]


def batch_lengths(
    samples: Sequence[int], *, batch_size: int, longest: int, num_steps: int, seed: int, packing: bool = False
) -> tuple[int, ...]:
    """Padded length of each of ``num_steps`` shuffled batches; packed batches are all ``longest``."""
    if packing:
        return (longest,) * num_steps
    rng = random.Random(seed)
    lengths: list[int] = []
    while len(lengths) < num_steps:
        order = list(samples)
        rng.shuffle(order)
        batches = (order[first : first + batch_size] for first in range(0, len(order), batch_size))
        lengths.extend(min(longest, max(batch)) for batch in batches)
    return tuple(lengths[:num_steps])
