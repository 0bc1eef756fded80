"""Numbers as people read them: the filters of the page's template. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

NOTHING: Final = "\N{EN DASH}"
_PREFIXES: Final = ("", "k", "M", "G", "T")
_STEP: Final = 1024


def count(number: float | None) -> str:
    """`1,234,567`."""
    return NOTHING if number is None else f"{number:,.0f}"


def per_second(number: float | None) -> str:
    """`4,321/s`; below ten with a decimal."""
    if number is None:
        return NOTHING
    return f"{number:,.1f}/s" if 0 < number < 10 else f"{number:,.0f}/s"


def size(number: float | None) -> str:
    """`1.5 MiB`."""
    if number is None:
        return NOTHING
    left, unit = float(number), 0
    while left >= _STEP and unit < len(_PREFIXES) - 1:
        left, unit = left / _STEP, unit + 1
    if not unit:
        return f"{left:,.0f} B"
    return f"{left:.0f} {_PREFIXES[unit].upper()}iB" if left >= 100 else f"{left:.1f} {_PREFIXES[unit].upper()}iB"


def bytes_per_second(number: float | None) -> str:
    """`1.5 MiB/s`."""
    return NOTHING if number is None else f"{size(number)}/s"


def milliseconds(seconds: float | None) -> str:
    """`73 ms`, from a second on `1.2 s`, from ten on `12 s`."""
    if seconds is None:
        return NOTHING
    if seconds >= 1:
        return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds * 1000:,.0f} ms" if seconds >= 0.01 or not seconds else f"{seconds * 1000:.1f} ms"


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 5 s`, `2 h 14 min`, `6 d 3 h`."""
    if seconds is None:
        return NOTHING
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 2 * 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def clock(moment: float) -> str:
    """`2026-11-23 19:31:05 UTC`, from seconds since the epoch."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def time_of_day(moment: float) -> str:
    """`19:31:05`, UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S")
