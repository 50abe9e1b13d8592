"""Checked access to a Hugging Face ``config.json``: every broken value is one line naming its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.errors import RequestError, UnsupportedError

_LARGEST = 10**9
_MOST_LAYERS = 10_000
_HINT = "check the model's config.json"


class ConfigReader:
    """One config (or one of its sub-configs). Getters take the key's synonyms, first match wins."""

    def __init__(self, values: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None) -> None:
        """``defaults`` stand in for keys a nested config leaves out because its class implies them."""
        self.values = values
        self.defaults = defaults or {}

    @property
    def model_type(self) -> str:
        return self.text("model_type", default="")

    def raw(self, *keys: str) -> Any:
        """The first of ``keys`` that is not null; the class default of one where none is mentioned at all."""
        mentioned = [key for key in keys if key in self.values]
        for key in mentioned or keys:
            value = (self.values if mentioned else self.defaults).get(key)
            if value is not None:
                return value
        return None

    def has(self, *keys: str) -> bool:
        return self.raw(*keys) is not None

    def size(self, *keys: str, default: int | None = None, least: int = 1, most: int = _LARGEST) -> int:
        """An integer of at least ``least``; without a default a missing key is an error."""
        value = self.raw(*keys)
        if value is None:
            if default is not None:
                return default
            raise RequestError(f"config.json has no {' or '.join(keys)} ({self._who()})", hint=_HINT)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise RequestError(f"{keys[0]} in config.json is not an integer: {_short(value)}", hint=_HINT)
        if not least <= value <= most:
            raise RequestError(f"{keys[0]} in config.json is out of range: {_short(value)}", hint=_HINT)
        return value

    def layers(self, *keys: str) -> int:
        return self.size(*(keys or ("num_hidden_layers", "n_layer", "n_layers", "num_layers")), most=_MOST_LAYERS)

    def flag(self, *keys: str, default: bool = False) -> bool:
        value = self.raw(*keys)
        if value is None:
            return default
        if not isinstance(value, bool) and value not in (0, 1):
            raise RequestError(f"{keys[0]} in config.json is neither true nor false: {_short(value)}", hint=_HINT)
        return bool(value)

    def text(self, *keys: str, default: str | None = None) -> str:
        value = self.raw(*keys)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise RequestError(f"{keys[0]} in config.json is not a text: {_short(value)}", hint=_HINT)
        return value

    def number(self, *keys: str) -> float | None:
        value = self.raw(*keys)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RequestError(f"{keys[0]} in config.json is not a number: {_short(value)}", hint=_HINT)
        try:
            return float(value)
        except OverflowError:
            raise RequestError(f"{keys[0]} in config.json is out of range", hint=_HINT) from None

    def texts(self, *keys: str) -> tuple[str, ...] | None:
        """A list of texts, for example ``layer_types``; None when missing."""
        value = self.raw(*keys)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise RequestError(f"{keys[0]} in config.json is not a list of texts: {_short(value)}", hint=_HINT)
        return tuple(value)

    def sizes(self, *keys: str) -> tuple[int, ...] | None:
        """A list of non-negative integers; None when missing."""
        value = self.raw(*keys)
        if value is None:
            return None
        plain = isinstance(value, list | tuple) and all(
            isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= _LARGEST for item in value
        )
        if not plain:
            raise RequestError(f"{keys[0]} in config.json is not a list of sizes: {_short(value)}", hint=_HINT)
        return tuple(value)

    def sub(self, *keys: str) -> ConfigReader:
        """A nested config; missing is an error."""
        value = self.raw(*keys)
        if not isinstance(value, Mapping):
            raise RequestError(f"config.json has no {' or '.join(keys)} ({self._who()})", hint=_HINT)
        return ConfigReader(value)

    def refuse(self, what: str) -> UnsupportedError:
        """The error for something this config asks for that is known but not modelled."""
        return UnsupportedError(f"{what} is not modelled ({self._who()})", hint="no estimate rather than a guess")

    def _who(self) -> str:
        return f"model_type {_short(self.values.get('model_type'))}"


def _short(value: object) -> str:
    """A value in at most 60 characters."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return "a number of more than 40 digits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
