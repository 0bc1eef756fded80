"""Arithmetic with ranges of offsets, for what is too many to be looked at one by one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streams.offset_set import OffsetSet, Range


def parted(start: int, stop: int, offsets: OffsetSet) -> Iterator[tuple[Range, bool]]:
    """`[start, stop)` cut into ranges that are, or are not, in the set."""
    if start >= stop:
        return
    position = start
    for outside in offsets.missing_from(start, stop):
        if position < outside[0]:
            yield (position, outside[0]), True
        yield outside, False
        position = outside[1]
    if position < stop:
        yield (position, stop), True


def joined(ranges: Iterable[Range], distance: int) -> Iterator[Range]:
    """Ascending ranges, with those made one that are nearer to each other than `distance`."""
    current: Range | None = None
    for start, stop in ranges:
        if current is not None and start - current[1] < distance:
            current = current[0], stop
            continue
        if current is not None:
            yield current
        current = start, stop
    if current is not None:
        yield current
