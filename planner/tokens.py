"""Counting tokens with a model's own tokenizer, where it lies on this machine; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

CountTokens = Callable[[Sequence[str]], int]
_FILE = "tokenizer.json"


def counter_of(*names: str) -> CountTokens | None:
    """Counts with the tokenizer of the first name that has one, a directory or a hub id in the local cache.

    None where no file is found, or the library ``tokenizers`` is missing or cannot read it.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    path = next((found for name in names if (found := _file(name)) is not None), None)
    if path is None:
        return None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception:  # the library raises bare exceptions of its Rust core for files it cannot read
        return None
    # A tokenizer's own settings may cut or pad samples; here all of a text counts, and nothing else.
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> int:
        encoded = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return sum(len(text.ids) for text in encoded)

    return count


def _file(name: str) -> Path | None:
    local = Path(name).expanduser()
    if local.is_dir():
        return local / _FILE if (local / _FILE).is_file() else None
    try:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, _FILE)
    except (ImportError, ValueError):  # a name that is no hub id
        return None
    return Path(cached) if isinstance(cached, str) else None
