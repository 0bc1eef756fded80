"""What the ledger says of offsets that have no object: its segments are read only where they can matter.

A segment's object is named by its first offset, so a listing tells which ones to read. What the commit itself carries
counts as one more segment.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from aiokafka import TopicPartition

from streams.layout import Layout
from streams.ledger import Segment, decode_segment, gaps_of
from streams.offset_set import OffsetSet, Range
from streams.parallel import run_in_parallel
from streams.sinks.s3_reader import S3Reader


@dataclass
class LedgerIndex:
    """Where a partition's segments begin, in order, and when they were written."""

    tp: TopicPartition
    starts: list[int] = field(default_factory=list)
    modified: list[datetime] = field(default_factory=list)
    carried: Segment | None = None
    """What the commit carries."""

    @property
    def first(self) -> int | None:
        """The lowest offset that the ledger knows."""
        starts = self.starts[:1] + ([self.carried.start] if self.carried else [])
        return min(starts, default=None)

    def not_before(self, moment: datetime) -> int | None:
        """An offset below which every event was written before the time, as far as the ledger can tell."""
        older = sum(1 for modified in self.modified if modified < moment)
        if not older or any(modified < moment for modified in self.modified[older:]):
            return None  # none, or segments that were not written in order
        if older < len(self.starts):
            return self.starts[older]
        return self.carried.start if self.carried else self.starts[-1]


@dataclass
class LedgerProof:
    """What became of offsets, where the ledger covers them; "was durable" wins where segments disagree."""

    durable: OffsetSet = field(default_factory=OffsetSet)
    lost: OffsetSet = field(default_factory=OffsetSet)
    absent: OffsetSet = field(default_factory=OffsetSet)
    unreadable: list[str] = field(default_factory=list)
    """Keys of segments that could not be read, and why."""

    def add(self, segment: Segment) -> None:
        """Take over a segment."""
        position = segment.start
        for start, stop, lost in gaps_of(segment):
            self.durable.add_range(position, start)
            (self.lost if lost else self.absent).add_range(start, stop)
            position = stop
        self.durable.add_range(position, segment.stop)


class LedgerReader:
    """Reads the ledgers in the bucket."""

    def __init__(self, reader: S3Reader, layout: Layout, *, parallel: int) -> None:
        self._reader = reader
        self._layout = layout
        self._parallel = parallel

    async def index(self, tp: TopicPartition, carried: Segment | None) -> LedgerIndex:
        """List a partition's segments: one LIST for ten million events."""
        index = LedgerIndex(tp, carried=carried)
        async for page in self._reader.list(self._layout.ledger_prefix(tp.topic, tp.partition)):
            for one in page:
                position = self._layout.parse_ledger(one.object_key)
                if position is not None:
                    index.starts.append(position[2])
                    index.modified.append(one.modified_at)
        return index

    async def proof(self, index: LedgerIndex, candidates: OffsetSet) -> LedgerProof:
        """Read the segments that can say something of these offsets.

        Segments overlap where a group's offsets were once set back: before each one that matters, those are read, too,
        that reach into it.
        """
        proof = LedgerProof()
        stops: dict[int, int] = {}
        wanted = _segments_for(index.starts, candidates.ranges())
        matters = True
        while wanted:
            await run_in_parallel(
                (partial(self._read, index, number, proof, stops) for number in wanted), self._parallel
            )
            reaching = [number for number in wanted if matters or stops[number] > index.starts[number + 1]]
            wanted = [number - 1 for number in reaching if number and number - 1 not in stops]
            matters = False
        if index.carried is not None:
            proof.add(index.carried)
        return proof

    async def _read(self, index: LedgerIndex, number: int, proof: LedgerProof, stops: dict[int, int]) -> None:
        topic, partition = index.tp
        start = index.starts[number]
        key = self._layout.ledger_key(topic, partition, start)
        stops[number] = start
        found = await self._reader.get(key)
        try:
            segment = decode_segment(b"" if found is None else found.body)
            if (segment.topic, segment.partition, segment.start) != (topic, partition, start):
                raise ValueError("a ledger segment of another place than its key says")
        except ValueError as error:
            proof.unreadable.append(f"{key}: {error}")
            return
        stops[number] = segment.stop
        proof.add(segment)


def _segments_for(starts: list[int], ranges: Iterable[Range]) -> list[int]:
    """The numbers of the segments that can overlap the ranges, if each ends where the next begins."""
    wanted: list[int] = []
    for start, stop in ranges:
        first = max(bisect_right(starts, start) - 1, 0)
        for number in range(max(first, wanted[-1] + 1 if wanted else 0), len(starts)):
            if starts[number] >= stop:
                break
            wanted.append(number)
    return wanted
