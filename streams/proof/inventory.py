"""What is in the bucket, by partition: the offsets that have an object or a dead letter.

Listings come in the order of the keys. Where that is the order of the offsets, a long range is listed in pieces side
by side; other templates are listed prefix by prefix, once for all partitions. Memory: one bit an offset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from streams.layout import Layout
from streams.offset_set import OffsetSet, Range
from streams.parallel import Job, run_in_parallel
from streams.record import TopicPartition
from streams.sinks.s3_reader import PAGE_OBJECTS, ListedObject, S3Reader

SMALLEST_PIECE_OFFSETS, LARGEST_PIECE_OFFSETS = 10_000, 100_000
"""Offsets that are listed one request after another: enough requests that one too many, at the end, is nothing."""
PIECES_PER_PLACE = 4
"""So that those that are listed at once are done at about the same time."""

Advance = Callable[[int], None]


@dataclass
class Found:
    """What a partition has in the bucket, within the range that was asked for."""

    objects: OffsetSet = field(default_factory=OffsetSet)
    dead_letters: OffsetSet = field(default_factory=OffsetSet)

    def all(self) -> OffsetSet:
        """Offsets with one or the other."""
        union = OffsetSet()
        union |= self.objects
        union |= self.dead_letters
        return union


class Inventory:
    """Takes stock of the bucket; `other_objects` counts what lies among the events and is none of ours."""

    def __init__(
        self,
        reader: S3Reader,
        layout: Layout,
        topics: Sequence[str],
        *,
        parallel: int,
        piece_offsets: int | None = None,
    ) -> None:
        self._reader = reader
        self._layout = layout
        self._only_topic = topics[0] if len(topics) == 1 else ""
        self._parallel = parallel
        self._piece_offsets = piece_offsets
        self.other_objects = 0

    @property
    def ordered(self) -> bool:
        """Whether a part of a partition can be listed without the rest."""
        return self._layout.template.offset_ordered

    def estimate(self, ranges: Mapping[TopicPartition, Range]) -> int:
        """LIST requests that `take` will send at least: one for 1,000 objects, and the dead letters."""
        pages = sum(-(-(stop - start) // PAGE_OBJECTS) for start, stop in ranges.values())
        return max(pages, 1) + len(ranges)

    async def first_offset(self, tp: TopicPartition) -> int | None:
        """The lowest offset that has an object, for one LIST request; `None`: no object, or it cannot be told so."""
        if not self.ordered:
            return None
        async for page in self._reader.list(self._layout.template.listing_prefix(tp.topic, tp.partition)):
            for offset in self._offsets(tp, page):
                return offset
        return None

    async def take(
        self, ranges: Mapping[TopicPartition, Range], advance: Advance = lambda _: None
    ) -> dict[TopicPartition, Found]:
        """List objects and dead letters of these ranges; `advance` is told how many offsets have been passed."""
        found = {tp: Found() for tp in ranges}
        await run_in_parallel(self._jobs(ranges, found, advance), self._parallel)
        return found

    def _jobs(
        self, ranges: Mapping[TopicPartition, Range], found: Mapping[TopicPartition, Found], advance: Advance
    ) -> Iterator[Job]:
        asked = {tp: wanted for tp, wanted in ranges.items() if wanted[0] < wanted[1]}
        for tp, wanted in asked.items():
            yield partial(self._list_dead_letters, tp, wanted, found[tp].dead_letters)
        if self.ordered:
            width = self._piece_offsets or _piece_offsets(asked.values(), self._parallel)
            for tp, (start, stop) in asked.items():
                for piece in range(start, stop, width):
                    end = min(stop, piece + width)
                    yield partial(self._list_piece, tp, (piece, end), found[tp].objects, advance)
        else:
            for prefix in _distinct(self._layout.template.listing_prefix(tp.topic, tp.partition) for tp in asked):
                yield partial(self._list_all, prefix, asked, found, advance)

    async def _list_dead_letters(self, tp: TopicPartition, wanted: Range, dead_letters: OffsetSet) -> None:
        start, stop = wanted
        topic, partition = tp
        after = self._layout.dead_letter_key(topic, partition, start - 1) if start else ""
        last = self._layout.dead_letter_key(topic, partition, stop - 1)
        async for page in self._reader.list(self._layout.dead_letter_prefix(topic, partition), after=after):
            for one in page:
                position = self._layout.parse_dead_letter(one.object_key)
                if position is not None and start <= position[2] < stop:
                    dead_letters.add(position[2])
            if page and page[-1].object_key >= last:
                return

    async def _list_piece(self, tp: TopicPartition, piece: Range, objects: OffsetSet, advance: Advance) -> None:
        start, stop = piece
        template = self._layout.template
        after = template.key_at(tp.topic, tp.partition, start - 1) if start else None
        last = template.key_at(tp.topic, tp.partition, stop - 1) or ""
        position = start
        async for page in self._reader.list(template.listing_prefix(tp.topic, tp.partition), after=after or ""):
            offsets = [offset for offset in self._offsets(tp, page) if start <= offset < stop]
            for first, end in _runs(offsets):
                objects.add_range(first, end)
            if offsets:
                advance(offsets[-1] + 1 - position)
                position = offsets[-1] + 1
            if page and page[-1].object_key >= last:
                break
        advance(stop - position)

    def _offsets(self, tp: TopicPartition, page: Iterable[ListedObject]) -> list[int]:
        """The offsets of a page that lists one partition alone."""
        parse, offsets = self._layout.template.parse, []
        for one in page:
            position = parse(one.object_key)
            if position is None:
                self._note_other(one.object_key)
            elif position[1] == tp.partition and position[0] in (None, tp.topic):
                offsets.append(position[2])
        return offsets

    async def _list_all(
        self,
        prefix: str,
        ranges: Mapping[TopicPartition, Range],
        found: Mapping[TopicPartition, Found],
        advance: Advance,
    ) -> None:
        async for page in self._reader.list(prefix):
            counted = 0
            for one in page:
                position = self._layout.template.parse(one.object_key)
                if position is None:
                    self._note_other(one.object_key)
                    continue
                topic, partition, offset = position
                tp = TopicPartition(topic if topic is not None else self._only_topic, partition)
                start, stop = ranges.get(tp, (0, 0))
                if start <= offset < stop:
                    found[tp].objects.add(offset)
                    counted += 1
            advance(counted)

    def _note_other(self, object_key: str) -> None:
        if not self._layout.template.reserves(object_key):
            self.other_objects += 1


def _piece_offsets(ranges: Iterable[Range], parallel: int) -> int:
    """Whole pages, so many that every place has several pieces."""
    pages = sum(stop - start for start, stop in ranges) // (parallel * PIECES_PER_PLACE * PAGE_OBJECTS) + 1
    return min(max(pages * PAGE_OBJECTS, SMALLEST_PIECE_OFFSETS), LARGEST_PIECE_OFFSETS)


def _distinct(prefixes: Iterable[str]) -> list[str]:
    """The prefixes without those that a shorter one covers."""
    kept: list[str] = []
    for prefix in sorted(set(prefixes)):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept


def _runs(offsets: Sequence[int]) -> Iterator[Range]:
    """Ascending offsets as ranges."""
    if offsets and offsets[-1] - offsets[0] + 1 == len(offsets):
        yield offsets[0], offsets[-1] + 1
        return
    for offset in offsets:
        yield offset, offset + 1
