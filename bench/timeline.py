"""Draws what happened over a run as SVG: panels one under the other over the same time, with marks across all of them.

Colours follow the reader's light or dark theme, as in `charts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH = 860
_LEFT = 68
_RIGHT = _WIDTH - 16
_TITLE_HEIGHT = 40
_MARK_HEIGHT = 18
_PANEL_TITLE_HEIGHT = 30
_PANEL_HEIGHT = 130
_PANEL_GAP = 14
_AXIS_HEIGHT = 36
_TICKS = 4
_LETTER_WIDTH = 6.6  # of 12 px
_MARK_LETTER_WIDTH = 5.5  # of 10 px
_TIME_STEPS_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)
_MOST_TIME_TICKS = 12
_UNITS = ((3600, "h"), (60, "min"))
_COLOURS = 6

_STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f; }
  .title { font-size: 15px; font-weight: 600; } .panel { font-weight: 600; }
  .axis { font-size: 11px; fill: #57606a; } .mark { font-size: 10px; fill: #9a3412; }
  .paper { fill: #ffffff; } .grid { stroke: #d0d7de; stroke-width: 1; }
  .band { fill: #f97316; fill-opacity: 0.16; } .event { stroke: #f97316; stroke-width: 1; stroke-opacity: 0.7; }
  polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
  .c0 { stroke: #0b7285; } .c1 { stroke: #c2255c; } .c2 { stroke: #868e96; }
  .c3 { stroke: #5f3dc4; } .c4 { stroke: #2b8a3e; } .c5 { stroke: #e67700; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .axis { fill: #9198a1; } .mark { fill: #fdba74; } .paper { fill: #0d1117; }
    .grid { stroke: #3d444d; } .c0 { stroke: #3bc9db; } .c1 { stroke: #f783ac; } .c2 { stroke: #868e96; }
    .c3 { stroke: #b197fc; } .c4 { stroke: #69db7c; } .c5 { stroke: #ffd43b; }
  }
"""

Point = tuple[float, float | None]
"""Seconds and a value; `None` breaks the line: nothing is known there."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel; `steps` for values that jump (a number of workers)."""

    label: str
    points: Sequence[Point]
    colour: int = 0
    steps: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines that share a scale, which begins at zero: growth must look as large as it is."""

    title: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, at a moment or from `began` to `ended` seconds."""

    label: str
    began: float
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class _Axis:
    """The time axis that all panels share."""

    seconds: float

    def x(self, seconds: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * min(seconds, self.seconds) / self.seconds


def timeline(title: str, panels: Sequence[Panel], marks: Sequence[Mark] = ()) -> str:
    """The whole picture."""
    last = max((seconds for panel in panels for line in panel.lines for seconds, _ in line.points), default=1.0)
    axis = _Axis(last or 1.0)
    top = _TITLE_HEIGHT + (_MARK_HEIGHT if marks else 0)
    height = top + len(panels) * (_PANEL_TITLE_HEIGHT + _PANEL_HEIGHT + _PANEL_GAP) + _AXIS_HEIGHT - _PANEL_GAP
    bottom = height - _AXIS_HEIGHT
    parts = [_text(16, 26, title, "title"), *_marks(marks, axis, top, bottom)]
    for number, panel in enumerate(panels):
        y = top + number * (_PANEL_TITLE_HEIGHT + _PANEL_HEIGHT + _PANEL_GAP)
        parts.extend(_panel(panel, axis, y))
    parts.extend(_time_axis(axis, bottom))
    return _picture(title, height, parts)


def ceiling(value: float) -> float:
    """1, 2, 4, 6, 8 or 10 times a power of ten, not below `value`: where an axis ends."""
    if value <= 0:
        return 1.0
    scale = 10.0 ** math.floor(math.log10(value))
    return next(step * scale for step in (1, 2, 4, 6, 8, 10) if step * scale >= value * 0.999999)


def time_ticks(seconds: float) -> list[tuple[float, str]]:
    """At most a dozen round times from 0 to `seconds`, in the unit that suits them."""
    unit, name = next(((size, name) for size, name in _UNITS if seconds >= 3 * size), (1, "s"))
    steps = [step for step in _TIME_STEPS_SECONDS if step >= unit]
    step = next((step for step in steps if seconds / step <= _MOST_TIME_TICKS), steps[-1])
    return [(float(tick), f"{tick // unit} {name}") for tick in range(0, int(seconds) + 1, step)]


def _marks(marks: Sequence[Mark], axis: _Axis, top: float, bottom: float) -> Iterator[str]:
    """Bands and lines across all panels; a label that would cover the one before it is left out."""
    free = 0.0
    for mark in sorted(marks, key=lambda one: one.began):
        left = axis.x(mark.began)
        if mark.ended is not None:
            width = max(1.5, axis.x(mark.ended) - left)
            yield (
                f'<rect class="band" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{bottom - top:.1f}">'
                f"<title>{escape(mark.label)}</title></rect>"
            )
        yield f'<line class="event" x1="{left:.1f}" y1="{top - 4:.1f}" x2="{left:.1f}" y2="{bottom:.1f}"/>'
        half = len(mark.label) * _MARK_LETTER_WIDTH / 2
        if left - half >= free:
            yield _text(left, top - 7, mark.label, "mark", "middle")
            free = left + half + 2


def _panel(panel: Panel, axis: _Axis, y: float) -> Iterator[str]:
    top = y + _PANEL_TITLE_HEIGHT
    bottom = top + _PANEL_HEIGHT
    highest = ceiling(max((value for line in panel.lines for _, value in line.points if value is not None), default=1))
    yield _text(_LEFT, y + 18, panel.title, "panel")
    yield from _legend(panel.lines, y + 18)
    for step in range(_TICKS + 1):
        level = bottom - _PANEL_HEIGHT * step / _TICKS
        yield f'<line class="grid" x1="{_LEFT}" y1="{level:.1f}" x2="{_RIGHT}" y2="{level:.1f}"/>'
        yield _text(_LEFT - 8, level + 4, f"{highest * step / _TICKS:,.10g}", "axis", "end")
    for line in panel.lines:
        points = _stepped(line.points) if line.steps else line.points
        for run in _unbroken(points):
            dots = " ".join(f"{axis.x(at):.1f},{bottom - _PANEL_HEIGHT * value / highest:.1f}" for at, value in run)
            yield f'<polyline class="c{line.colour % _COLOURS}" points="{dots}"/>'


def _legend(lines: Sequence[Line], y: float) -> Iterator[str]:
    """From the right to the left; lines of one label are named once, a panel of one line not at all."""
    names = {line.label: line.colour for line in lines if line.label}
    if len(names) < 2:
        return
    x = float(_RIGHT)
    for label, colour in reversed(names.items()):
        x -= len(label) * _LETTER_WIDTH
        yield _text(x, y, label, "axis")
        yield f'<polyline class="c{colour % _COLOURS}" points="{x - 20:.1f},{y - 4:.1f} {x - 5:.1f},{y - 4:.1f}"/>'
        x -= 36


def _stepped(points: Iterable[Point]) -> Iterator[Point]:
    before: float | None = None
    for at, value in points:
        if before is not None and value is not None and value != before:
            yield at, before
        yield at, value
        before = value


def _unbroken(points: Iterable[Point]) -> Iterator[list[tuple[float, float]]]:
    run: list[tuple[float, float]] = []
    for at, value in points:
        if value is not None:
            run.append((at, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _time_axis(axis: _Axis, y: float) -> Iterator[str]:
    for seconds, label in time_ticks(axis.seconds):
        x = axis.x(seconds)
        yield f'<line class="grid" x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{y + 4:.1f}"/>'
        yield _text(x, y + 18, label, "axis", "middle" if x < _RIGHT - 20 else "end")


def _text(x: float, y: float, words: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _picture(title: str, height: float, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {_WIDTH} {height:.0f}" role="img">\n<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n'
        f'<rect class="paper" width="100%" height="100%" rx="6"/>\n{body}\n</svg>\n'
    )
