"""Small YAML documents: mappings, lists, scalars and blocks of shell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def dump(document: Mapping[str, Any], indent: int = 0) -> str:
    """A mapping as YAML; strings of several lines become blocks, lists and scalars are written as JSON."""
    lines: list[str] = []
    pad = " " * indent
    for key, value in document.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{pad}{key}:", dump(value, indent + 2)]
        elif isinstance(value, str) and "\n" in value:
            lines += [f"{pad}{key}: |", *(f"{pad}  {line}" if line else "" for line in value.strip().splitlines())]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append(f"{pad}{key}:")
            for item in value:
                first, *rest = dump(item, indent + 4).splitlines()
                lines += [f"{pad}  - {first.strip()}", *rest]
        else:
            lines.append(f"{pad}{key}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines)
