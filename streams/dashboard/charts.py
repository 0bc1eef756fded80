"""The charts of the page: samples → lines in a square of 100, with an axis that reads well. Pure, no I/O.

The template puts them into SVG; labels are text beside it, so that they stay legible at any width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, floor, log10
from typing import Final

from streams.dashboard.figures import count, milliseconds, per_second
from streams.dashboard.history import SPAN_SECONDS, STEPS, Sample

WIDTH: Final = float(STEPS)
"""Of a chart: one unit for each step."""
HEIGHT: Final = 100.0
NICE: Final = (1, 2, 4, 5, 10)
"""Tops of an axis that have a readable half, times a power of ten."""

Value = float | None


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its name, how it is drawn (`main`, `second`, `bound`), its path and what it says now."""

    name: str
    style: str
    path: str
    now: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart with its axis; `ticks` from the top to the bottom."""

    key: str
    title: str
    lines: tuple[Line, ...]
    ticks: tuple[str, str, str]
    summary: str
    """What a screen reader is told in its place."""


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from `bottom` to `top`; `logarithmic` where values differ by more than a line can show."""

    bottom: float
    top: float
    logarithmic: bool = False

    @property
    def middle(self) -> float:
        """What stands half way up."""
        return (self.bottom * self.top) ** 0.5 if self.logarithmic else (self.bottom + self.top) / 2

    def height(self, value: float) -> float:
        """Where a value stands, 0 at the bottom and 1 at the top."""
        if self.logarithmic:
            return log10(max(value, self.bottom) / self.bottom) / log10(self.top / self.bottom)
        return (value - self.bottom) / (self.top - self.bottom)


@dataclass(frozen=True, slots=True)
class _Series:
    name: str
    style: str
    values: Sequence[Value]


def charts(samples: Sequence[Sample]) -> list[Chart]:
    """The four charts of the page."""
    return [
        _chart(
            "rate",
            "Events per second",
            [_series("events", "main", samples, "events_per_second")],
            per_second,
            samples,
            linear,
        ),
        _chart(
            "in-flight",
            "Writes in flight",
            [
                _series("in flight", "main", samples, "in_flight"),
                _series("limit", "second", samples, "limit"),
                _series("maximum", "bound", samples, "maximum"),
            ],
            count,
            samples,
            whole,
        ),
        _chart(
            "latency",
            "Write latency (log scale)",
            [_series("p50", "main", samples, "p50_seconds"), _series("p99", "second", samples, "p99_seconds")],
            milliseconds,
            samples,
            decades,
        ),
        _chart("lag", "Lag, events", [_series("lag", "main", samples, "lag")], count, samples, whole),
    ]


def nice_top(highest: float) -> float:
    """The least readable number that is not below; 1 for nothing."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** floor(log10(highest))
    return next(factor * power for factor in NICE if factor * power >= highest * (1 - 1e-9))


def linear(values: Sequence[float]) -> Scale:
    """From zero to a readable number."""
    return Scale(0.0, nice_top(max(values, default=0.0)))


def whole(values: Sequence[float]) -> Scale:
    """The same for things that cannot be halved."""
    return Scale(0.0, max(2.0, linear(values).top))


def decades(values: Sequence[float]) -> Scale:
    """Powers of ten around the values, an even number of them, so that the middle is one, too."""
    known = [value for value in values if value > 0]
    low = floor(log10(min(known, default=0.01)) + 1e-9)
    high = ceil(log10(max(known, default=1.0)) - 1e-9)
    return Scale(10.0**low, 10.0 ** (low + max(2, high - low + (high - low) % 2)), logarithmic=True)


def path(points: Iterable[tuple[float, Value]], scale: Scale) -> str:
    """SVG's path of a line; where a value is missing it is interrupted, a lone value is a dot."""
    pieces = []
    for known, group in groupby(points, key=lambda point: point[1] is not None):
        if known:
            where = [f"{x:.1f} {HEIGHT * (1 - scale.height(y or 0.0)):.1f}" for x, y in group]
            pieces.append(f"M{where[0]}h0" if len(where) == 1 else f"M{'L'.join(where)}")
    return "".join(pieces)


def _series(name: str, style: str, samples: Sequence[Sample], field: str) -> _Series:
    return _Series(name, style, [getattr(sample, field) for sample in samples])


def _chart(
    key: str,
    title: str,
    series: list[_Series],
    format_value: Callable[[Value], str],
    samples: Sequence[Sample],
    scale_of: Callable[[Sequence[float]], Scale],
) -> Chart:
    scale = scale_of([value for one in series for value in one.values if value is not None])
    times = _places(samples)
    lines = tuple(
        Line(
            one.name,
            one.style,
            path(zip(times, one.values, strict=True), scale),
            format_value(one.values[-1] if one.values else None),
        )
        for one in series
    )
    ticks = (format_value(scale.top), format_value(scale.middle), format_value(scale.bottom))
    return Chart(key, title, lines, ticks, _summary(title, series, format_value))


def _places(samples: Sequence[Sample]) -> list[float]:
    """Where each sample stands: the last one at the right edge, fifteen minutes at the left."""
    if not samples:
        return []
    last = samples[-1].time
    return [max(0.0, WIDTH * (1 - (last - sample.time) / SPAN_SECONDS)) for sample in samples]


def _summary(title: str, series: list[_Series], format_value: Callable[[Value], str]) -> str:
    told = []
    for one in series:
        known = [value for value in one.values if value is not None]
        if known:
            told.append(
                f"{one.name} now {format_value(one.values[-1])}, "
                f"lowest {format_value(min(known))}, highest {format_value(max(known))}"
            )
    minutes = f"{SPAN_SECONDS / 60:.0f} minutes"
    return f"{title} over the last {minutes}: {'; '.join(told) or 'nothing was measured yet'}"
