"""What the ledger says of offsets that have no object: its segments are read only where they can matter.

A segment's object is named by its offsets, so a listing tells which ones to read. What the commit itself carries
counts as one more segment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import NamedTuple

from streams.errors import DamagedObjectError
from streams.layout import Layout
from streams.ledger import Segment, decode_segment, gaps_of
from streams.offset_set import OffsetSet
from streams.parallel import run_in_parallel
from streams.record import UNKNOWN_LIFE, Life, TopicPartition
from streams.sinks.s3_reader import MAX_SEGMENT_OBJECT_BYTES, S3Reader


class ListedSegment(NamedTuple):
    """A segment as a listing shows it: the offsets [start, stop)."""

    start: int
    stop: int
    object_key: str
    modified_at: datetime


@dataclass
class LedgerIndex:
    """The segments of a partition, in the order of their first offsets. They may overlap: a group may be set back."""

    tp: TopicPartition
    segments: list[ListedSegment] = field(default_factory=list)
    carried: Segment | None = None
    """What the commit carries."""
    life: Life = UNKNOWN_LIFE
    """Whose segments they are to be; `tp` has the topic's name in the bucket."""

    @property
    def first(self) -> int | None:
        """The lowest offset that the ledger knows."""
        starts = [one.start for one in self.segments[:1]] + ([self.carried.start] if self.carried else [])
        return min(starts, default=None)

    def not_before(self, moment: datetime) -> int | None:
        """An offset below which every event was written before the time, as far as the ledger can tell."""
        older = sum(1 for one in self.segments if one.modified_at < moment)
        if not older or any(one.modified_at < moment for one in self.segments[older:]):
            return None  # none, or segments that were not written in order
        if older < len(self.segments):
            return self.segments[older].start
        return self.carried.start if self.carried else self.segments[-1].start


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
                found = self._layout.parse_ledger(one.object_key)
                if found is not None:
                    index.segments.append(ListedSegment(found[2], found[3], one.object_key, one.modified_at))
        return index

    async def proof(self, index: LedgerIndex, candidates: OffsetSet) -> LedgerProof:
        """Read the segments that can say something of these offsets."""
        proof = LedgerProof()
        wanted = (one for one in index.segments if candidates.count(one.start, one.stop))
        await run_in_parallel((partial(self._read, index, one, proof) for one in wanted), self._parallel)
        if index.carried is not None:
            proof.add(index.carried)
        return proof

    async def _read(self, index: LedgerIndex, listed: ListedSegment, proof: LedgerProof) -> None:
        try:
            found = await self._reader.get(listed.object_key, MAX_SEGMENT_OBJECT_BYTES)
            segment = decode_segment(b"" if found is None else found.body)
            place = (segment.topic, segment.partition, segment.start, segment.stop)
            if place != (*index.tp, listed.start, listed.stop):
                raise ValueError("a ledger segment of another place than its key says")
            if _is_of_another_topic(segment, index.life):
                raise ValueError(f"a ledger segment of another topic of this name (its id is {segment.topic_id})")
        except DamagedObjectError as error:
            proof.unreadable.append(str(error))
            return
        except ValueError as error:
            proof.unreadable.append(f"{listed.object_key}: {error}")
            return
        proof.add(segment)


def _is_of_another_topic(segment: Segment, life: Life) -> bool:
    """Segments of earlier releases say nothing of it, and are believed."""
    if segment.topic_id is not None and life.topic_id is not None:
        return segment.topic_id != life.topic_id
    return None not in (segment.cluster_id, life.cluster_id) and segment.cluster_id != life.cluster_id
