"""Draws results as SVG: bars and lines, by hand, because a picture of five bars is not worth a plotting library.

Colours follow the reader's light or dark theme through a style sheet inside the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from xml.sax.saxutils import escape

from bench.measure import Measurement, MemoryRun
from bench.report import PUBLISHED_SECONDS
from bench.results import Results
from bench.services import SERVICES

_WIDTH = 760
_GAP = 10
_LETTER_WIDTH = 7  # of 13 px, in the wider of the fonts that a browser may take
_VALUE_WIDTH = 90
_BAR_HEIGHT = 22
_BAR_STEP = 30
_GROUP_GAP = 34
_TITLE_HEIGHT = 44
_PLOT_HEIGHT = 240
_MARGIN = 16

_STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f; }
  .title { font-size: 15px; font-weight: 600; }
  .group { font-weight: 600; }
  .axis { font-size: 11px; fill: #57606a; }
  .paper { fill: #ffffff; }
  .ours { fill: #0b7285; } .others { fill: #adb5bd; }
  .line { fill: none; stroke: #0b7285; stroke-width: 1.6; }
  .grid { stroke: #d0d7de; stroke-width: 1; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .axis { fill: #9198a1; } .paper { fill: #0d1117; }
    .ours { fill: #3bc9db; } .others { fill: #57606a; } .line { stroke: #3bc9db; } .grid { stroke: #3d444d; }
  }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; ours are drawn in the strong colour."""

    label: str
    value: float
    shown: str
    ours: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Bars under one heading that share a scale."""

    heading: str
    bars: tuple[Bar, ...]


def draw(results: Results, directory: Path) -> list[Path]:
    """Draw every part that was run; the other pictures stay as they are."""
    pictures: dict[str, str] = {}
    if results.published:
        pictures["bench-published"] = bar_chart(
            "Seconds for 1,000 messages (less is better)", published_groups(results.published)
        )
    if results.sustained:
        rate = _sustained_groups(results.sustained, lambda run: run.steady_per_second)
        cost = _sustained_groups(results.sustained, lambda run: run.cpu_us_per_event)
        pictures["bench-rate"] = bar_chart("Events per second, one process (more is better)", rate)
        pictures["bench-cpu"] = bar_chart("CPU per event, µs (less is better)", cost)
    for run in results.memory:
        size = "small" if run.event_bytes < 1 << 20 else "large"
        title = f"Resident memory, MiB: events of {run.event_bytes:,} bytes, up to {run.max_in_flight:,} in flight"
        pictures[f"bench-memory-{size}"] = line_chart(title, _memory_points(run))
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{name}.svg" for name in pictures]
    for path, picture in zip(paths, pictures.values(), strict=True):
        path.write_text(picture)
    return paths


def bar_chart(title: str, groups: Sequence[Group]) -> str:
    """Horizontal bars with their values written beside them; no axis is needed then."""
    parts = [_text(_MARGIN, 26, title, "title")]
    y = _TITLE_HEIGHT
    longest_label = max((len(bar.label) for group in groups for bar in group.bars), default=0)
    left = _MARGIN + longest_label * _LETTER_WIDTH + _GAP
    for group in groups:
        if group.heading:
            parts.append(_text(_MARGIN, y + 14, group.heading, "group"))
            y += 24
        largest = max((bar.value for bar in group.bars), default=0.0)
        for bar in group.bars:
            parts.append(_bar(bar, largest, left, y))
            y += _BAR_STEP
        y += _GROUP_GAP - _BAR_STEP // 2
    return _picture(title, y, parts)


def line_chart(title: str, points: Sequence[tuple[float, float]]) -> str:
    """One line over seconds, its scale beginning at zero: growth must look as large as it is."""
    left, right, top = 60, _WIDTH - _MARGIN, _TITLE_HEIGHT
    bottom = top + _PLOT_HEIGHT
    last_seconds = max((seconds for seconds, _ in points), default=1.0) or 1.0
    ceiling = _round_up(max((value for _, value in points), default=1.0))
    parts = [_text(_MARGIN, 26, title, "title")]
    for step in range(5):
        value = ceiling * step / 4
        y = bottom - _PLOT_HEIGHT * step / 4
        parts.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(_text(left - 8, y + 4, f"{value:g}", "axis", "end"))
    for step in range(5):
        x = left + (right - left) * step / 4
        parts.append(_text(x, bottom + 18, f"{last_seconds * step / 4:.0f} s", "axis", "middle" if step < 4 else "end"))
    line = " ".join(
        f"{left + (right - left) * seconds / last_seconds:.1f},{bottom - _PLOT_HEIGHT * value / ceiling:.1f}"
        for seconds, value in points
    )
    parts.append(f'<polyline class="line" points="{line}"/>')
    return _picture(title, bottom + 30, parts)


def published_groups(runs: Sequence[Measurement]) -> list[Group]:
    """A group for each service, with a scale of its own."""
    groups: list[Group] = []
    for service, latency_ms in dict.fromkeys((run.service, run.latency_ms) for run in runs):
        here = [run for run in runs if (run.service, run.latency_ms) == (service, latency_ms)]
        names = dict.fromkeys(run.contender for run in here)
        bars = [bar for name in names for bar in _published_bars([run for run in here if run.contender == name])]
        words = SERVICES[service]
        heading = f"{words.title} at {latency_ms} ms per {words.write}, first {words.write} to last"
        groups.append(Group(heading, tuple(bars)))
    return groups


def _published_bars(runs: Sequence[Measurement]) -> list[Bar]:
    """Ours as measured; a published system as it was published, too."""
    title, as_published = runs[0].title, PUBLISHED_SECONDS.get(runs[0].contender)
    here = median(run.first_to_last_seconds / run.events * 1000 for run in runs)
    if as_published is None:
        return [Bar(title, here, f"{here:.2f} s", ours=True)]
    anywhere = title.partition(" (")[0]  # its number of threads is this machine's
    return [
        Bar(f"{anywhere}, as published", as_published, f"{as_published:.2f} s", ours=False),
        Bar(f"{title}, here", here, f"{here:.2f} s", ours=False),
    ]


def _sustained_groups(runs: Sequence[Measurement], value: Callable[[Measurement], float]) -> list[Group]:
    groups: list[Group] = []
    for load in dict.fromkeys(_load(run) for run in runs):
        here = [run for run in runs if _load(run) == load]
        bars: list[Bar] = []
        for name in dict.fromkeys(run.contender for run in here):
            middle = median(value(run) for run in here if run.contender == name)
            title = next(run.title for run in here if run.contender == name)
            bars.append(Bar(title, middle, f"{middle:,.0f}", ours=name.startswith("worker-")))
        words = SERVICES[here[0].service]
        heading = f"{here[0].events:,} events to {words.title}, {here[0].latency_ms} ms per {words.write}"
        groups.append(Group(heading, tuple(bars)))
    return groups


def _load(run: Measurement) -> tuple[str, int, int]:
    return run.service, run.events, run.latency_ms


def _memory_points(run: MemoryRun) -> list[tuple[float, float]]:
    return [(sample.seconds, sample.resident_mib) for sample in run.samples]


def _bar(bar: Bar, largest: float, left: float, y: float) -> str:
    room = _WIDTH - left - _VALUE_WIDTH - _MARGIN
    length = max(1.0, room * bar.value / largest) if largest else 1.0
    middle = y + _BAR_HEIGHT / 2 + 5
    return (
        _text(left - _GAP, middle, bar.label, "label", "end")
        + f'<rect class="{"ours" if bar.ours else "others"}" x="{left}" y="{y}" width="{length:.1f}" '
        + f'height="{_BAR_HEIGHT}" rx="2"/>'
        + _text(left + length + 8, middle, bar.shown, "value")
    )


def _text(x: float, y: float, words: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _picture(title: str, height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {_WIDTH} {height:.0f}" role="img">\n<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n'
        f'<rect class="paper" width="100%" height="100%" rx="6"/>\n{body}\n</svg>\n'
    )


def _round_up(value: float) -> float:
    """A number of 20, 40, 80, 100, 200, 400, ... that is not below `value`."""
    scale = 10.0
    while True:
        for step in (2, 4, 8, 10):
            if step * scale >= value:
                return step * scale
        scale *= 10
