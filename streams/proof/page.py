"""The report of a verification as one page for people: self-contained, no scripts, nothing loaded from elsewhere.

A bar for each partition shows its offsets from the first to the last, in slots that take the colour of the worst that
is in them, so that a single missing event among ten million is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from streams.costs import describe_priced
from streams.offset_set import Range

SLOTS: Final = 400
WORST_LAST: Final = ("proved", "unverifiable", "wrong", "missing", "lost")
RANGES_SHOWN: Final = 50


class Stretch(NamedTuple):
    """Neighbouring slots of a bar with the same state."""

    x: int
    width: int
    state: str


def render_page(report: Mapping[str, Any]) -> str:
    """The page of a report that `report` made."""
    environment = Environment(
        loader=PackageLoader("streams.proof"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda number: f"{number:,}"
    environment.filters["offsets"] = describe_ranges
    bars = [bar(part) for part in report["partitions"]]
    return environment.get_template("verification.html").render(
        report=report,
        bars=bars,
        slots=SLOTS,
        cost=describe_priced(report["requests"], report["cost_usd"]),
        shown=RANGES_SHOWN,
    )


def bar(part: Mapping[str, Any]) -> list[Stretch]:
    """The stretches of a partition's bar; empty for an empty range."""
    start, stop = part["from"], part["to"]
    if start >= stop:
        return []
    states = [0] * min(SLOTS, stop - start)
    for rank, kind in enumerate(WORST_LAST[1:], 1):
        for first, behind in _slots(part[kind]["ranges"], start, stop, len(states)):
            for slot in range(first, behind):
                states[slot] = max(states[slot], rank)
    return list(_stretches(states))


def describe_ranges(ranges: Iterable[Sequence[int]], shown: int = 5) -> str:
    """`7, 10-19 and 3 more`; the last offset is part of a range here, as people count."""
    left = iter(ranges)
    said = [str(start) if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in islice(left, shown)]
    more = sum(1 for _ in left)
    return ", ".join(said) + (f" and {more:,} more" if more > 0 else "")


def _slots(ranges: Iterable[Range], start: int, stop: int, slots: int) -> Iterator[Range]:
    for first, behind in ranges:
        left, right = max(first, start) - start, min(behind, stop) - start
        if left < right:
            yield left * slots // (stop - start), (right - 1) * slots // (stop - start) + 1


def _stretches(states: Sequence[int]) -> Iterator[Stretch]:
    edges = [slot for slot in range(1, len(states)) if states[slot] != states[slot - 1]]
    for left, right in zip([0, *edges], [*edges, len(states)], strict=True):
        x, end = left * SLOTS // len(states), right * SLOTS // len(states)
        yield Stretch(x, end - x, WORST_LAST[states[left]])
