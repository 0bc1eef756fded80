"""Comparing the bytes: what the bucket holds against what Kafka still delivers, for all events or a sample."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from streams.archive.objects import Archive
from streams.errors import DamagedObjectError, RecordRejectedError
from streams.kafka.reader import KafkaReader
from streams.offset_set import OffsetSet, Range
from streams.parallel import run_in_parallel
from streams.proof.offset_ranges import joined
from streams.proof.result import PartitionResult
from streams.record import Record, TopicPartition, name_in_bucket

GETS_PER_LIST = 4
"""How many objects are read at once for each listing that may run at once."""

FIELDS = ("topic", "partition", "offset", "key", "value", "headers", "timestamp_ms", "timestamp_type")


@dataclass(frozen=True)
class Sample:
    """How many events to compare (`None`: all), and the seed by which they are drawn."""

    events: int | None = None
    seed: int = 0


class Comparison:
    """Reads events from Kafka and from the bucket, and notes what differs."""

    def __init__(self, kafka: KafkaReader, archive: Archive, sample: Sample, parallel: int) -> None:
        self._kafka = kafka
        self._archive = archive
        self._sample = sample
        self._parallel = parallel * GETS_PER_LIST

    async def compare(self, found: Sequence[tuple[PartitionResult, OffsetSet]], *, read_through: int) -> None:
        """Compare the events of these partitions that are in the bucket, or the sample of them."""
        partitions = [TopicPartition(part.topic, part.partition) for part, _ in found]
        earliest = await self._kafka.beginnings(partitions)
        bounds = [(max(part.start, earliest[tp]), part.stop) for tp, (part, _) in zip(partitions, found, strict=True)]
        drawn = self._draw([there for _, there in found], bounds)
        for (part, there), (start, stop), chosen in zip(found, bounds, drawn, strict=True):
            part.not_comparable = there.count(part.start, min(start, part.stop))
            await self._compare_partition(part, there, (start, stop), chosen, read_through)

    def _draw(self, found: Sequence[OffsetSet], bounds: Sequence[Range]) -> list[OffsetSet | None]:
        """For each partition the offsets of the sample; `None`: all of them."""
        counts = [there.count(*bound) if bound[0] < bound[1] else 0 for there, bound in zip(found, bounds, strict=True)]
        total, wanted = sum(counts), self._sample.events
        if wanted is None or wanted >= total:
            return [None] * len(found)
        ranks = sorted(random.Random(self._sample.seed).sample(range(total), wanted))
        drawn: list[OffsetSet | None] = []
        before = 0
        for there, bound, count in zip(found, bounds, counts, strict=True):
            drawn.append(
                OffsetSet(
                    (offset, offset + 1)
                    for offset in _at_ranks(
                        there, bound, [rank - before for rank in ranks if before <= rank < before + count]
                    )
                )
            )
            before += count
        return drawn

    async def _compare_partition(
        self, part: PartitionResult, there: OffsetSet, bound: Range, chosen: OffsetSet | None, read_through: int
    ) -> None:
        tp = TopicPartition(part.topic, part.partition)
        delivered = 0
        ranges = (
            iter([bound] if bound[0] < bound[1] else []) if chosen is None else joined(chosen.ranges(), read_through)
        )
        for start, stop in ranges:
            async for batch in self._kafka.read(tp, start, stop):
                for one in batch:
                    one.life = part.life  # its object is looked for under that name
                wanted = [one for one in batch if one.offset in (there if chosen is None else chosen)]
                if chosen is None:
                    _note_missing(part, batch, there)
                delivered += len(wanted)
                await run_in_parallel((partial(self._compare_event, part, one) for one in wanted), self._parallel)
        part.compared = delivered
        expected = there.count(*bound) if chosen is None and bound[0] < bound[1] else len(chosen or ())
        part.not_comparable += expected - delivered

    async def _compare_event(self, part: PartitionResult, record: Record) -> None:
        try:
            what = await self._difference(record)
        except DamagedObjectError as error:
            what = f"damaged: {error}"
        if what is not None:
            part.note_difference(record.offset, what)

    async def _difference(self, record: Record) -> str | None:
        """In what the archived event is not this one; `None`: it is."""
        object_key = self._key(record)
        archived = None if object_key is None else await self._archive.read(object_key)
        if archived is None:
            topic = name_in_bucket(record.topic, record.life)
            letter = await self._archive.read_dead_letter(
                self._archive.layout.dead_letter_key(topic, record.partition, record.offset)
            )
            if letter is None:
                return (
                    f"not under its key {object_key}"
                    if object_key
                    else "it can have no object key and has no dead letter"
                )
            archived = letter.record
        return describe_difference(record, archived)

    def _key(self, record: Record) -> str | None:
        try:
            return self._archive.layout.template.render(record)
        except RecordRejectedError:
            return None


def describe_difference(expected: Record, found: Record) -> str | None:
    """The fields in which two events differ, `None` where they are the same; never their contents."""
    differing = [name for name in FIELDS if getattr(expected, name) != getattr(found, name)]
    if not differing:
        return None
    sizes = ""
    if "value" in differing:
        sizes = f" (value: {_size(expected.value)} in Kafka, {_size(found.value)} in the object)"
    return f"{', '.join(differing)} {'differs' if len(differing) == 1 else 'differ'}{sizes}"


def _size(value: bytes | None) -> str:
    return "null" if value is None else f"{len(value):,} bytes"


def _note_missing(part: PartitionResult, batch: Sequence[Record], there: OffsetSet) -> None:
    """What the broker delivers and the bucket does not have is missing, whatever a ledger says."""
    for record in batch:
        if record.offset not in there and record.offset not in part.missing:
            part.missing.add(record.offset)
            part.absent.remove_range(record.offset, record.offset + 1)
            part.lost.remove_range(record.offset, record.offset + 1)
        if record.offset in part.missing:
            part.repairable.add(record.offset)


def _at_ranks(offsets: OffsetSet, bound: Range, ranks: Sequence[int]) -> Iterator[int]:
    """The offsets with these ranks (ascending) among those within the bound."""
    waiting = list(reversed(ranks))
    passed = 0
    for start, stop in offsets.ranges():
        start, stop = max(start, bound[0]), min(stop, bound[1])
        while waiting and start < stop and waiting[-1] < passed + stop - start:
            yield start + waiting.pop() - passed
        passed += max(0, stop - start)
