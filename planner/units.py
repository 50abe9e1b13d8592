"""Every conversion factor of the product, and the text of quantities people type and read."""

from __future__ import annotations

import re

from planner.errors import RequestError

KIB = 1024
MIB = 1024**2
GIB = 1024**3
TIB = 1024**4
KB = 1000
MB = 1000**2
GB = 1000**3
TB = 1000**4
TERA = 10**12
BILLION = 10**9
MILLION = 10**6
BITS_PER_BYTE = 8
SECONDS_PER_HOUR = 3600
HOURS_PER_DAY = 24
HOURS_PER_MONTH = 730

_SIZE_FACTORS = {
    "": 1, "b": 1,
    "kb": KB, "mb": MB, "gb": GB, "tb": TB,
    "k": KB, "m": MB, "g": GB, "t": TB,
    "ki": KIB, "mi": MIB, "gi": GIB, "ti": TIB,
    "kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB,
}  # fmt: skip
_COUNT_FACTORS = {"": 1, "k": KB, "m": MILLION, "b": BILLION, "t": TERA}
_NUMBER = r"\s*([0-9][0-9_,]*\.?[0-9]*|\.[0-9]+)\s*([a-zA-Z]*)\s*"


def _scaled(text: str, factors: dict[str, int], what: str, hint: str) -> int:
    match = re.fullmatch(_NUMBER, text)
    factor = factors.get(match.group(2).lower()) if match else None
    if match is None or factor is None or len(text) > 40:
        raise RequestError(f"{text[:40]!r} is not {what}", hint=hint)
    digits = match.group(1).replace("_", "").replace(",", "")
    return round(float(digits) * factor) if "." in digits else int(digits) * factor


def parse_bytes(text: str) -> int:
    """Bytes of "24GiB" (1024-based) or "24GB" (1000-based); a bare number is bytes."""
    return _scaled(text, _SIZE_FACTORS, "a memory size", "write 24GiB, 80GB or 512MiB")


def parse_count(text: str) -> int:
    """A count such as "7B" parameters, "2.4M" tokens or "1e9" written as "1B"."""
    return _scaled(text, _COUNT_FACTORS, "a count", "write 7B, 350M or a plain number")


def format_gib(size_bytes: int) -> str:
    """GiB with two decimals, for example "39.12 GiB"."""
    return f"{size_bytes / GIB:,.2f} GiB"


def format_gb(size_bytes: int) -> str:
    """Decimal gigabytes, only where a document or a vendor speaks in them, for example "168.0 GB"."""
    return f"{size_bytes / GB:,.1f} GB"


def format_bytes(size_bytes: int) -> str:
    """A size in the 1024-based unit that suits it, for example "512 B", "8.12 MiB", "39.12 GiB"."""
    magnitude = abs(size_bytes)
    for factor, unit in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if magnitude >= factor:
            return f"{size_bytes / factor:,.2f} {unit}"
    return f"{size_bytes} B"


def format_count(count: int) -> str:
    """A count as the field writes it, for example "70.55B" or "27.26M"."""
    for factor, unit in ((TERA, "T"), (BILLION, "B"), (MILLION, "M"), (KB, "K")):
        if count >= factor:
            return f"{count / factor:.2f}{unit}"
    return str(count)


def exact_count(count: int) -> str:
    """A count in as few characters as ``parse_count`` reads back to the same, for example "2.4M" or "2345678"."""
    for factor, unit in ((TERA, "T"), (BILLION, "B"), (MILLION, "M")):
        if count >= factor and count * 1000 % factor == 0:
            return f"{count // factor}{f'{count % factor * 1000 // factor / 1000:g}'[1:]}{unit}"
    return str(count)


def format_bandwidth(bytes_per_s: int) -> str:
    """Decimal GB/s or TB/s, as data sheets print bandwidth, for example "3.35 TB/s"."""
    if bytes_per_s >= TB:
        return f"{bytes_per_s / TB:.2f} TB/s"
    return f"{bytes_per_s / GB:.0f} GB/s"


def format_flops(flops_per_s: int) -> str:
    """A rate in TFLOP/s, for example "989.5" or "0.15"."""
    tera = flops_per_s / TERA
    return f"{tera:,.0f}" if tera >= 1000 else f"{tera:.4g}"
