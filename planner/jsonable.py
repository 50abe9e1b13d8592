"""Inner values as JSON knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any


def jsonable(value: Any, *, brief: bool = False) -> Any:
    """Dataclasses as objects, tuples as lists, decimals as strings, dates as ISO 8601.

    ``brief`` leaves out the fields that hold their default.
    """
    if is_dataclass(value) and not isinstance(value, type):
        held = ((field, getattr(value, field.name)) for field in fields(value))
        shown = {field.name: item for field, item in held if not (brief and _is_default(field, item))}
        return {name: jsonable(item, brief=brief) for name, item in shown.items()}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item, brief=brief) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [jsonable(item, brief=brief) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value


def _is_default(field: Field[Any], value: Any) -> bool:
    if field.default is not MISSING:
        return bool(value == field.default)
    return field.default_factory is not MISSING and bool(value == field.default_factory())
