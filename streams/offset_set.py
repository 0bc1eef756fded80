"""A set of a partition's offsets that costs one bit for each, and nothing where all neighbours are in it.

Pure. What verify, repair and restore know about millions of objects is kept in these; ten million offsets take at most
1.3 MB, and next to nothing when they follow on from each other, which is what a healthy archive looks like.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

Range = tuple[int, int]
"""Offsets from the first up to, and without, the second."""

_BITS: Final = 13
_CHUNK: Final = 1 << _BITS
_FULL: Final = (1 << _CHUNK) - 1


class OffsetSet:
    """Offsets (0 or above) in ascending order, however they were added; adding those that follow on is the fast way."""

    __slots__ = ("_chunks", "_start", "_stop")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._chunks: dict[int, int] = {}
        # The run that is being added: it goes into the chunks when another one begins, or somebody asks.
        self._start = self._stop = 0
        for start, stop in ranges:
            self.add_range(start, stop)

    def add(self, offset: int) -> None:
        """Add one offset; one that is there already changes nothing."""
        if offset == self._stop:
            self._stop += 1
        else:
            self._settle()
            self._start, self._stop = offset, offset + 1

    def add_range(self, start: int, stop: int) -> None:
        """Add every offset of `[start, stop)`."""
        if start < stop:
            if start != self._stop:
                self._settle()
                self._start = start
            self._stop = stop

    def remove_range(self, start: int, stop: int) -> None:
        """Take every offset of `[start, stop)` out; those that are not in it change nothing."""
        self._settle()
        for number, mask in _masks(start, stop):
            left = self._chunks.get(number, 0) & ~mask
            if left:
                self._chunks[number] = left
            else:
                self._chunks.pop(number, None)

    def __ior__(self, other: OffsetSet) -> OffsetSet:
        self._settle()
        other._settle()
        for number, bits in other._chunks.items():
            self._set(number, bits)
        return self

    def __contains__(self, offset: object) -> bool:
        if not isinstance(offset, int):
            return False
        if self._start <= offset < self._stop:
            return True
        return bool(self._chunks.get(offset >> _BITS, 0) >> (offset & (_CHUNK - 1)) & 1)

    def __len__(self) -> int:
        self._settle()
        return sum(bits.bit_count() for bits in self._chunks.values())

    def __bool__(self) -> bool:
        return self._start < self._stop or bool(self._chunks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OffsetSet):
            return NotImplemented
        self._settle()
        other._settle()
        return self._chunks == other._chunks

    __hash__ = None  # type: ignore[assignment] # it changes

    def __repr__(self) -> str:
        return f"OffsetSet({list(self.ranges())!r})"

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.ranges():
            yield from range(start, stop)

    def count(self, start: int, stop: int) -> int:
        """How many offsets of `[start, stop)` are in the set."""
        self._settle()
        return sum((self._chunks.get(number, 0) & mask).bit_count() for number, mask in _masks(start, stop))

    def ranges(self) -> Iterator[Range]:
        """The offsets as ranges, ascending, none of which touches the next."""
        self._settle()
        yield from _joined(
            found for number in sorted(self._chunks) for found in _runs(self._chunks[number], number << _BITS)
        )

    def missing_from(self, start: int, stop: int) -> Iterator[Range]:
        """The offsets of `[start, stop)` that are not in the set, as `ranges` gives them."""
        self._settle()
        yield from _joined(
            found
            for number, mask in _masks(start, stop)
            for found in _runs(mask & ~self._chunks.get(number, 0), number << _BITS)
        )

    def _settle(self) -> None:
        for number, mask in _masks(self._start, self._stop):
            self._set(number, mask)
        self._start = self._stop

    def _set(self, number: int, bits: int) -> None:
        bits |= self._chunks.get(number, 0)
        self._chunks[number] = _FULL if bits == _FULL else bits  # the one full chunk is shared by all that are full


def _masks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """For each chunk that `[start, stop)` touches its number and the bits that it touches there."""
    while start < stop:
        number = start >> _BITS
        end = min(stop, (number + 1) << _BITS)
        width = end - start
        yield number, _FULL if width == _CHUNK else ((1 << width) - 1) << (start & (_CHUNK - 1))
        start = end


def _runs(bits: int, base: int) -> Iterator[Range]:
    while bits:
        zeros = (bits & -bits).bit_length() - 1
        bits >>= zeros
        ones = (~bits & (bits + 1)).bit_length() - 1
        bits >>= ones
        yield base + zeros, base + zeros + ones
        base += zeros + ones


def _joined(ranges: Iterable[Range]) -> Iterator[Range]:
    """Ascending ranges, with those that touch made one."""
    current: Range | None = None
    for start, stop in ranges:
        if current is not None and start == current[1]:
            current = current[0], stop
        else:
            if current is not None:
                yield current
            current = start, stop
    if current is not None:
        yield current
