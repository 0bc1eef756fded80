"""The ledger of a partition: which offsets were made durable, which never held an event, and which were lost. Pure.

Kafka forgets events; the ledger is what `verify` knows of them afterwards. It is cut into segments that follow on from
each other. A closed segment becomes a small object (`ledger_writer`); what is not in an object yet travels in the
metadata of each offset commit, so a commit and the state of the ledger are one atomic thing.

`docs/objects.md` describes both formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from streams.record import UNKNOWN_LIFE, Life

FORMAT_VERSION: Final = 1
SEGMENT_EVENTS = 10_000
"""Events of a segment: what one more PUT is paid for."""
SEGMENT_GAPS_CHARACTERS = 3_000
"""A segment also ends when its gaps take this much, so that every segment fits into a commit's metadata."""
MAX_METADATA_CHARACTERS = 4_000
"""Kafka takes 4,096 bytes (`offset.metadata.max.bytes`)."""
MAX_GAPS = 20_000
"""Gaps of a partition that are kept in memory while they cannot be written down (about 130 bytes each)."""

_MAGIC: Final = "v1"
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_ABSENT, _LOST = ".", "!"
_NUMBER: Final = re.compile(r"[0-9a-z]{1,13}")
_TOKEN: Final = re.compile(r"([0-9a-z]{1,13})([.!])([0-9a-z]{0,13})")

Range = tuple[int, int]
"""[start, stop)"""


class Gap(NamedTuple):
    """Consecutive offsets below the watermark that are no durable events: never delivered, or `lost` to retention."""

    start: int
    stop: int
    lost: bool


@dataclass(frozen=True, slots=True)
class Segment:
    """What became of the offsets [start, stop) of a partition; ranges are ascending, maximal and do not overlap.

    `absent`: Kafka never delivered them (compaction, transaction markers, aborted transactions). `lost`: they left
    Kafka's retention before they were written. All others are events that were made durable. `topic` is the topic's
    name in the bucket; its ids are `None` where they are not known, and in segments of earlier releases.
    """

    topic: str
    partition: int
    start: int
    stop: int
    absent: tuple[Range, ...] = ()
    lost: tuple[Range, ...] = ()
    cluster_id: str | None = None
    topic_id: str | None = None

    @property
    def events(self) -> int:
        """How many events were made durable."""
        return self.stop - self.start - sum(stop - start for start, stop in (*self.absent, *self.lost))


def encode_segment(segment: Segment) -> bytes:
    """The object of a segment: the same segment gives the same bytes.

    The ids are no part of version 1's first form, whose readers pass over what they do not know.
    """
    ids = {"cluster_id": segment.cluster_id, "topic_id": segment.topic_id}
    return orjson.dumps(
        {
            "version": FORMAT_VERSION,
            "topic": segment.topic,
            "partition": segment.partition,
            "start": segment.start,
            "stop": segment.stop,
            "events": segment.events,
            "absent": segment.absent,
            "lost": segment.lost,
            **{name: known for name, known in ids.items() if known is not None},
        }
    )


def segment_digest(body: bytes) -> str:
    """What tells the objects of segments apart that cover the same offsets and say different things of them.

    Those arise where a group is set back and Kafka has compacted the topic in between: neither may hide the other.
    """
    return sha256(body).hexdigest()[:12]


def decode_segment(data: bytes) -> Segment:
    """The segment of an object.

    Raises `ValueError` when it is none, or one of a later version.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"no ledger segment: {error}") from error
    if not isinstance(document, dict) or document.get("version") != FORMAT_VERSION:
        raise ValueError(f"no ledger segment of version {FORMAT_VERSION}")
    try:
        absent, lost = _ranges(document["absent"]), _ranges(document["lost"])
        topic, partition = document["topic"], document["partition"]
        start, stop, events = document["start"], document["stop"], document["events"]
        cluster_id, topic_id = document.get("cluster_id"), document.get("topic_id")
    except (KeyError, TypeError) as error:
        raise ValueError(f"a ledger segment without what it needs: {error!r}") from error
    if not isinstance(topic, str) or any(type(number) is not int for number in (partition, start, stop, events)):
        raise ValueError("a ledger segment with fields of the wrong type")
    if any(not isinstance(known, str | None) for known in (cluster_id, topic_id)):
        raise ValueError("a ledger segment with ids of the wrong type")
    segment = Segment(topic, partition, start, stop, absent, lost, cluster_id, topic_id)
    _check_order(segment)
    if segment.events != events:
        raise ValueError(f"a ledger segment that counts {events} events, and whose ranges leave {segment.events}")
    return segment


def decode_commit_metadata(topic: str, partition: int, committed: int, metadata: str) -> Segment | None:
    """The segment [start, committed) that a commit carries: what is not in an object yet.

    `None` when the metadata is not ours (another program's commit, or one that was made without a ledger).
    """
    magic, _, text = metadata.partition(" ")
    start_text, *tokens = text.split(" ")
    if magic != _MAGIC or not _NUMBER.fullmatch(start_text):
        return None
    start = position = int(start_text, 36)
    ranges: dict[str, list[Range]] = {_ABSENT: [], _LOST: []}
    for token in tokens:
        found = _TOKEN.fullmatch(token)
        if found is None:
            return None
        first = position + int(found[1], 36)
        position = first + int(found[3] or "1", 36)
        ranges[found[2]].append((first, position))
    segment = Segment(topic, partition, start, committed, tuple(ranges[_ABSENT]), tuple(ranges[_LOST]))
    return segment if start <= committed and position <= committed else None


class OpenLedger:
    """What is known of a partition's offsets from `start` on, and is not in a durable object yet.

    The consumer tells it of gaps in the order of the offsets (`gap`), asks it what a commit may carry
    (`commit_point`), and hands the segment that a commit has closed (`closed`) to the writer; once that is durable
    (`persisted`), the ledger begins behind it.

    Where a segment ends depends on the offsets alone: behind its 10,000th event, or behind the first event after
    gaps that take 3,000 characters. When a commit came, and how Kafka's answers were cut, makes no difference.
    """

    __slots__ = (
        "_gaps",
        "_length",
        "_tokens",
        "given_up",
        "holds_back",
        "holes",
        "life",
        "partition",
        "start",
        "topic",
    )

    def __init__(self, topic: str, partition: int, start: int, life: Life = UNKNOWN_LIFE) -> None:
        self.topic = topic
        self.partition = partition
        self.start = start
        self.life = life
        self.given_up: Range | None = None
        """Offsets of which no record is kept, since the last time that somebody has looked and set it back."""
        self.holes: list[Range] = []
        """The same, each by itself, for who counts them and takes them out."""
        self.holds_back: int | None = None
        """What could be committed but for segments that are not written yet; `None`: the last commit could go as far
        as events are durable."""
        self._gaps: list[Gap] = []
        self._tokens: list[str] = []
        """The text of the first gaps: of those below the last commit point."""
        self._length = 0

    @classmethod
    def resume(
        cls,
        topic: str,
        partition: int,
        committed: int | None,
        metadata: str,
        position: int,
        life: Life = UNKNOWN_LIFE,
    ) -> OpenLedger:
        """The ledger of whoever continues at `position`, as the last commit has left it; without one it begins there.

        Offsets between the commit and the position have left Kafka's retention.
        """
        carried = None if committed is None else decode_commit_metadata(topic, partition, committed, metadata)
        if committed is None or carried is None:
            return cls(topic, partition, position, life)
        ledger = cls(topic, partition, carried.start, life)
        for gap in gaps_of(carried):
            ledger.gap(*gap)
        ledger.commit_point(committed)  # what `closed` looks at
        if committed < position:
            ledger.gap(committed, position, lost=True)
        return ledger

    def gap(self, start: int, stop: int, lost: bool) -> None:
        """Count offsets that hold no event; they come in order, in one piece or in several.

        When there are more than can be kept while none can be written down, the ledger begins anew behind them, and
        what became of the offsets before is given up.
        """
        if self._gaps and self._gaps[-1].stop == start and self._gaps[-1].lost == lost:
            start = self._gaps.pop().start
            if len(self._tokens) > len(self._gaps):
                self._length -= len(self._tokens.pop())
        self._gaps.append(Gap(start, stop, lost))
        if len(self._gaps) > MAX_GAPS:
            self.give_up(stop)

    def give_up(self, stop: int) -> None:
        """Keep no record of the offsets before `stop`, and begin anew there."""
        self.given_up = (self.start if self.given_up is None else self.given_up[0], stop)
        self.holes.append((self.start, stop))
        self._begin(stop, [gap._replace(start=max(gap.start, stop)) for gap in self._gaps if gap.stop > stop])

    def commit_point(self, committable: int) -> tuple[int, str]:
        """The highest offset, up to `committable`, that can be committed together with all that must not be forgotten.

        It is lower only while segments cannot be written, which `holds_back` then says. Offsets before the ledger's
        beginning need no metadata.
        """
        gaps, tokens = self._gaps, self._tokens
        head = f"{_MAGIC} {_base36(self.start)}"
        while len(tokens) < len(gaps) and gaps[len(tokens)].stop <= committable:
            gap = gaps[len(tokens)]
            token = _token(gaps[len(tokens) - 1].stop if tokens else self.start, gap)
            if len(head) + self._length + len(token) > MAX_METADATA_CHARACTERS:
                self.holds_back = committable
                return gap.start, head + "".join(tokens)
            tokens.append(token)
            self._length += len(token)
        self.holds_back = None
        return (committable, head + "".join(tokens)) if committable >= self.start else (committable, "")

    def closed(self, committed: int) -> Segment | None:
        """The first segment, when Kafka has accepted a commit that covers it.

        Not before: a worker that takes over resumes from a commit, so it finds in it the very same segment, whatever
        compaction or retention has done to the topic in between, and writes the same bytes under the same name.
        """
        if committed - self.start < SEGMENT_EVENTS and self._length < SEGMENT_GAPS_CHARACTERS:
            return None
        stop = self._first_stop(committed)
        if stop is None:
            return None
        inside = [gap for gap in self._gaps if gap.start < stop]
        return segment_of(self.topic, self.partition, self.start, stop, inside, self.life)

    def _first_stop(self, committed: int) -> int | None:
        events = characters = 0
        position = self.start
        for gap in self._gaps:
            if gap.start >= committed:
                break
            stop = _stop_within(position, gap.start, events, characters)
            if stop is not None:
                return stop
            events += gap.start - position
            characters += len(_token(position, gap))
            position = gap.stop
        return _stop_within(position, committed, events, characters)

    def persisted(self, segment: Segment) -> None:
        """Go on behind a segment that is durable."""
        if segment.start == self.start:
            self._begin(segment.stop, [gap for gap in self._gaps if gap.start >= segment.stop])

    def _begin(self, start: int, gaps: list[Gap]) -> None:
        self.start = start
        self._gaps = gaps
        self._tokens = []
        self._length = 0
        self.holds_back = None


def gaps_of(segment: Segment) -> list[Gap]:
    """The ranges of a segment that are no durable events, in order."""
    absent = [Gap(start, stop, False) for start, stop in segment.absent]
    return sorted(absent + [Gap(start, stop, True) for start, stop in segment.lost])


def segment_of(
    topic: str, partition: int, start: int, stop: int, gaps: Iterable[Gap], life: Life = UNKNOWN_LIFE
) -> Segment:
    """The segment with these gaps."""
    kept = list(gaps)
    absent = tuple((gap.start, gap.stop) for gap in kept if not gap.lost)
    lost = tuple((gap.start, gap.stop) for gap in kept if gap.lost)
    return Segment(topic, partition, start, stop, absent, lost, life.cluster_id, life.topic_id)


def _stop_within(start: int, stop: int, events: int, characters: int) -> int | None:
    """Where the segment ends in a run of events [start, stop), given what it holds before; `None`: not in there."""
    if start < stop and characters >= SEGMENT_GAPS_CHARACTERS:
        return start + 1
    return start + SEGMENT_EVENTS - events if events + stop - start >= SEGMENT_EVENTS else None


def _token(previous: int, gap: Gap) -> str:
    """A gap in a commit's metadata: events before it, its kind, and its length where it is not 1."""
    length = gap.stop - gap.start
    return f" {_base36(gap.start - previous)}{_LOST if gap.lost else _ABSENT}{'' if length == 1 else _base36(length)}"


def _base36(number: int) -> str:
    if number < 36:
        return _DIGITS[number]
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits


def _ranges(found: Any) -> tuple[Range, ...]:
    return tuple((start, stop) for start, stop in found)


def _check_order(segment: Segment) -> None:
    """Raises `ValueError` where ranges overlap, are empty or lie outside: such a segment proves nothing."""
    for ranges in (segment.absent, segment.lost):
        _check_ascending(ranges, segment)
    _check_ascending([(gap.start, gap.stop) for gap in gaps_of(segment)], segment)


def _check_ascending(ranges: Sequence[Range], segment: Segment) -> None:
    position = segment.start
    for start, stop in ranges:
        if type(start) is not int or type(stop) is not int or not position <= start < stop <= segment.stop:
            where = f"{segment.start} to {segment.stop}"
            raise ValueError(f"a ledger segment of the offsets {where} with the range {start} to {stop}")
        position = stop
