"""Which libraries a trace runs, by installed version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl")


def library_versions() -> dict[str, str]:
    """Installed versions; what is not installed is left out."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
