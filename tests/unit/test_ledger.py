"""The ledger: what commits and segments together say of a partition's offsets is true, and nothing is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import ledger
from streams.consumer.watermark import PartitionWatermark
from streams.ledger import (
    MAX_METADATA_CHARACTERS,
    SEGMENT_EVENTS,
    OpenLedger,
    Segment,
    decode_commit_metadata,
    decode_segment,
    encode_segment,
    gaps_of,
)
from streams.record import Life

SEGMENT = Segment("orders", 3, 100, 200, ((100, 101), (120, 130)), ((130, 140),))
KAFKA_LIMIT = 4096
"""`offset.metadata.max.bytes` of a broker that nobody has configured."""

kinds = st.sampled_from(["event", "event", "event", "absent", "lost"])


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of 7 events, or of gaps that take 20 characters, and commits of 60."""
    monkeypatch.setattr(ledger, "SEGMENT_EVENTS", 7)
    monkeypatch.setattr(ledger, "SEGMENT_GAPS_CHARACTERS", 20)
    monkeypatch.setattr(ledger, "MAX_METADATA_CHARACTERS", 60)


def ranges(offsets: set[int]) -> tuple[tuple[int, int], ...]:
    """The maximal ranges of a set of offsets."""
    found: list[tuple[int, int]] = []
    for offset in sorted(offsets):
        if found and found[-1][1] == offset:
            found[-1] = (found[-1][0], offset + 1)
        else:
            found.append((offset, offset + 1))
    return tuple(found)


def offsets_of(segment: Segment) -> dict[int, str]:
    """What a segment says of each offset."""
    said = dict.fromkeys(range(segment.start, segment.stop), "event")
    for gap in gaps_of(segment):
        said |= dict.fromkeys(range(gap.start, gap.stop), "lost" if gap.lost else "absent")
    return said


# -- segments ---------------------------------------------------------------------------------------------------------


def test_segment_becomes_a_readable_object() -> None:
    """Its fields by name, in a fixed order, without anything of the worker that wrote it."""
    assert (
        b'{"version":1,"topic":"orders","partition":3,"start":100,"stop":200,"events":79,'
        b'"absent":[[100,101],[120,130]],"lost":[[130,140]]}'
    ) == encode_segment(SEGMENT)


def test_segment_says_which_topic_it_is_of() -> None:
    """Beside what earlier releases read, who pass over it: a release can be rolled back."""
    segment = replace(SEGMENT, cluster_id="cluster", topic_id="SdosoGFiQNSZ6iuNvoBkyQ")
    body = encode_segment(segment)
    assert segment == decode_segment(body)
    document = orjson.loads(body)
    assert encode_segment(SEGMENT) == orjson.dumps(
        {name: value for name, value in document.items() if name not in ("cluster_id", "topic_id")}
    )
    with pytest.raises(ValueError, match="ids of the wrong type"):
        decode_segment(orjson.dumps(document | {"topic_id": 5}))


def test_closed_segments_are_of_the_life_that_the_ledger_is_of(small_segments: None) -> None:
    """From the first event on, and after it was resumed from a commit."""
    life = Life("cluster", "SdosoGFiQNSZ6iuNvoBkyQ")
    for open_ledger in (
        OpenLedger.resume("orders", 0, None, "", 0, life),
        OpenLedger.resume("orders", 0, 3, "v1 0", 3, life),
    ):
        segment = open_ledger.closed(20)
        assert segment is not None
        assert (life.cluster_id, life.topic_id) == (segment.cluster_id, segment.topic_id)


@given(held=st.dictionaries(st.integers(0, 300), kinds), start=st.integers(0, 2**62))
def test_segment_survives_its_encoding(held: dict[int, str], start: int) -> None:
    """Decoding gives back what was encoded."""
    absent = {start + offset for offset, kind in held.items() if kind == "absent"}
    lost = {start + offset for offset, kind in held.items() if kind == "lost"}
    segment = Segment("t", 0, start, start + 301, ranges(absent), ranges(lost))
    assert segment == decode_segment(encode_segment(segment))
    assert 301 - len(absent) - len(lost) == segment.events


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"topic": 5},
        {"start": "0"},
        {"stop": 99},
        {"events": 78},
        {"absent": [[100, 101], [100, 102]]},
        {"absent": [[120, 131]]},
        {"lost": [[130, 201]]},
        {"lost": [[140, 140]]},
        {"lost": [130, 140]},
        {"lost": None},
    ],
)
def test_damaged_segment_is_refused(change: dict[str, Any]) -> None:
    """Something that proves nothing is not taken for a proof."""
    document = orjson.loads(encode_segment(SEGMENT)) | change
    with pytest.raises(ValueError, match="segment"):
        decode_segment(orjson.dumps(document))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"null", b'{"version":1}'])
def test_what_is_no_segment_is_refused(data: bytes) -> None:
    """Any other object under the ledger's prefix is told apart."""
    with pytest.raises(ValueError, match=r"no ledger segment|without"):
        decode_segment(data)


# -- commits ----------------------------------------------------------------------------------------------------------


def test_commit_carries_what_is_in_no_object() -> None:
    """Its metadata is the segment from the ledger's beginning to the committed offset."""
    kept = OpenLedger("orders", 3, 100)
    for gap in gaps_of(SEGMENT):
        kept.gap(*gap)
    offset, metadata = kept.commit_point(200)
    assert (200, "v1 2s 0. j.a 0!a") == (offset, metadata)
    assert SEGMENT == decode_commit_metadata("orders", 3, 200, metadata)


@pytest.mark.parametrize(
    "metadata", ["", "v1", "v1 ", "v2 0", "v1 0 5", "v1 0 5.6.7", "v1 0 1.z", "v1 B", "v1 b", "host-1", '{"v1": 0}']
)
def test_foreign_metadata_is_no_ledger(metadata: str) -> None:
    """Another program's commit, one of a later version, or one that does not fit its offset says nothing."""
    assert decode_commit_metadata("t", 0, 10, metadata) is None


@pytest.mark.parametrize(
    ("committed", "metadata", "position", "start"), [(None, "", 4, 4), (7, "", 9, 9), (7, "mine", 7, 7)]
)
def test_ledger_without_a_commit_of_ours_begins_at_the_position(
    committed: int | None, metadata: str, position: int, start: int
) -> None:
    """Nothing is claimed of offsets that another program has consumed."""
    kept = OpenLedger.resume("t", 0, committed, metadata, position)
    assert (start, f"v1 {start}") == (kept.start, kept.commit_point(position)[1])


def test_retention_that_overtook_a_stopped_worker_is_lost_not_absent() -> None:
    """What lies between the commit and what Kafka still has was there, and was never written."""
    kept = OpenLedger.resume("t", 0, 10, "v1 2 3.", 25)
    said = decode_commit_metadata("t", 0, 25, kept.commit_point(25)[1])
    assert Segment("t", 0, 2, 25, ((5, 6),), ((10, 25),)) == said


def test_gap_that_is_found_in_pieces_is_one_gap() -> None:
    """How Kafka's answers were cut does not show, whether a commit came in between or not."""
    kept, whole = OpenLedger("t", 0, 0), OpenLedger("t", 0, 0)
    kept.gap(5, 6, lost=False)
    assert "v1 0 5." == kept.commit_point(6)[1]
    kept.gap(6, 9, lost=False)
    whole.gap(5, 9, lost=False)
    assert whole.commit_point(20) == kept.commit_point(20)


def test_gap_that_grows_for_long_stays_one_gap() -> None:
    """A quiet transactional topic moves by a marker at a time, with a commit after each."""
    kept = OpenLedger("t", 0, 0)
    for offset in range(5_000):
        kept.gap(offset, offset + 1, lost=False)
        assert offset + 1 == kept.commit_point(offset + 1)[0]
    assert kept.closed(5_000) is None


def test_gap_above_the_commit_is_not_in_it() -> None:
    """An event that is still being written keeps what lies behind it out of the commit."""
    kept = OpenLedger("t", 0, 0)
    kept.gap(5, 6, lost=False)
    assert (5, "v1 0") == kept.commit_point(5)


# -- when a segment closes --------------------------------------------------------------------------------------------


def test_dense_partition_closes_a_segment_every_ten_thousand_events() -> None:
    """One PUT for 10,000 events, and not before the commit that covers them."""
    kept = OpenLedger("t", 0, 5)
    assert kept.closed(5 + SEGMENT_EVENTS - 1) is None
    segment = kept.closed(5 + SEGMENT_EVENTS + 77)
    assert Segment("t", 0, 5, 5 + SEGMENT_EVENTS) == segment
    assert segment is not None
    kept.persisted(segment)
    assert kept.closed(5 + SEGMENT_EVENTS + 77) is None
    assert "v1 7px" == kept.commit_point(20_000)[1]


def test_segment_never_ends_behind_the_commit() -> None:
    """Offsets that Kafka has not accepted as done are in no object, however much is known of what follows."""
    kept = OpenLedger("t", 0, 0)
    kept.gap(10, 110, lost=False)
    kept.gap(15_000, 15_001, lost=False)
    assert (10_005, "v1 0 a.2s") == kept.commit_point(10_005)
    assert kept.closed(10_005) is None
    assert Segment("t", 0, 0, 10_100, ((10, 110),)) == kept.closed(10_100)


@pytest.mark.usefixtures("small_segments")
def test_segment_never_ends_within_gaps() -> None:
    """Gaps of two kinds that touch stay together, however much they take: an event follows before a segment ends."""
    kept = OpenLedger("t", 0, 0)
    for offset in range(0, 60, 10):
        kept.gap(offset, offset + 10, lost=bool(offset % 20))
    kept.commit_point(60)
    assert kept.closed(60) is None
    segment = kept.closed(62)
    assert segment is not None
    assert (61, 1) == (segment.stop, segment.events)


def test_segment_that_was_written_twice_moves_nothing_twice() -> None:
    """A late answer about a segment that lies behind the ledger's beginning changes nothing."""
    kept = OpenLedger("t", 0, 0)
    segment = kept.closed(30_000)
    assert segment is not None
    kept.persisted(segment)
    kept.persisted(segment)
    assert SEGMENT_EVENTS == kept.start


@given(gaps=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 2**40)), min_size=1, max_size=40))
def test_any_sequence_of_gaps_costs_at_most_one_put_per_hundred_events(gaps: list[tuple[int, int]]) -> None:
    """Runs of events between gaps of any length, repeated: a segment never closes for less than 100 events."""
    kept, offset = OpenLedger("t", 0, 0), 0
    for round_ in range(100):
        for events, absent in gaps:
            offset += events
            kept.gap(offset, offset + absent, lost=False)
            offset += absent
        committed, metadata = kept.commit_point(offset)
        assert len(metadata) <= MAX_METADATA_CHARACTERS < KAFKA_LIMIT
        while (segment := kept.closed(committed)) is not None:
            assert segment.events >= 100, round_
            kept.persisted(segment)
            committed, metadata = kept.commit_point(offset)
        if round_ * len(gaps) > 1_000:
            return


def test_one_marker_per_event_costs_a_thousandth() -> None:
    """The worst that a transactional producer does: a transaction for each event."""
    kept, segments = OpenLedger("t", 0, 0), []
    for offset in range(0, 40_000, 2):
        kept.gap(offset + 1, offset + 2, lost=False)
        while (segment := kept.closed(kept.commit_point(offset + 2)[0])) is not None:
            segments.append(segment)
            kept.persisted(segment)
    assert {1_000, 1_001} == {segment.events for segment in segments}


# -- trouble ----------------------------------------------------------------------------------------------------------


def test_commit_stays_lower_while_its_ledger_cannot_be_written() -> None:
    """Gaps that fit nowhere hold the commit back to the last point that fits; it goes on once a segment is durable."""
    kept = OpenLedger("t", 0, 0)
    for offset in range(0, 10_000, 2):
        kept.gap(offset + 1, offset + 2, lost=False)
    committed, metadata = kept.commit_point(10_000)
    assert committed < 10_000
    assert 3_990 < len(metadata) <= MAX_METADATA_CHARACTERS
    said = decode_commit_metadata("t", 0, committed, metadata)
    assert said is not None
    assert committed % 2 == 1
    assert {offset: "absent" if offset % 2 else "event" for offset in range(committed)} == offsets_of(said)
    segment = kept.closed(committed)
    assert segment is not None
    kept.persisted(segment)
    assert kept.commit_point(10_000)[0] > committed


def test_ledger_that_cannot_be_written_for_long_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded, what is given up is named, and commits go on, without metadata until they are past it."""
    monkeypatch.setattr(ledger, "MAX_GAPS", 10)
    kept = OpenLedger("t", 0, 0)
    for offset in range(0, 22, 2):
        kept.gap(offset + 1, offset + 2, lost=False)
    assert ((0, 22), 22) == (kept.given_up, kept.start)
    assert (15, "") == kept.commit_point(15)
    assert kept.closed(15) is None
    assert (30, "v1 m") == kept.commit_point(30)
    kept.persisted(Segment("t", 0, 0, 20))
    assert 22 == kept.start, "a write that was under way leads nowhere back"


def test_whoever_resumes_from_a_full_commit_has_a_segment_to_write_at_once() -> None:
    """No later commit would fit, so the writer must not wait for one."""
    kept = OpenLedger("t", 0, 0)
    for offset in range(0, 10_000, 2):
        kept.gap(offset + 1, offset + 2, lost=False)
    commit = kept.commit_point(10_000)
    resumed = OpenLedger.resume("t", 0, *commit, commit[0])
    resumed.gap(commit[0], commit[0] + 1, lost=False)
    assert commit == resumed.commit_point(commit[0] + 1)
    assert kept.closed(commit[0]) == OpenLedger.resume("t", 0, *commit, commit[0]).closed(commit[0])
    assert kept.closed(commit[0]) is not None


# -- all of it --------------------------------------------------------------------------------------------------------


class Worker:
    """A worker's bookkeeping on a partition whose offsets hold `log`; `objects` is the bucket."""

    def __init__(self, log: list[str], objects: dict[int, bytes], commit: tuple[int, str]) -> None:
        self.log = log
        self.objects = objects
        self.commit = commit
        committed, metadata = commit
        kept = OpenLedger.resume("t", 0, committed, metadata, committed)
        self.watermark = PartitionWatermark(1, committed, kept)
        self.ledger = kept

    def fetch(self, count: int) -> None:
        """Take what Kafka has at the next offsets, as the consumer does; it may end within a gap."""
        position = self.watermark.position
        assert position is not None
        for offset in range(position, min(position + count, len(self.log))):
            if self.log[offset] == "event":
                self.watermark.delivered(offset, 1)
            elif self.log[offset] == "lost":
                self.watermark.advance(offset)
                self.watermark.lost(offset + 1)
        self.watermark.advance(min(position + count, len(self.log)))

    def make_commit(self) -> None:
        """As every half second."""
        committable = self.watermark.committable
        assert committable is not None
        point = self.ledger.commit_point(committable)
        if point[0] >= self.commit[0]:
            self.commit = point

    def write_segment(self) -> None:
        """The PUT that a commit has made due."""
        segment = self.ledger.closed(self.commit[0])
        if segment is not None:
            data = encode_segment(segment)
            assert data == self.objects.setdefault(segment.start, data), "the same name always gets the same bytes"
            self.ledger.persisted(segment)

    def told(self) -> dict[int, str]:
        """What the bucket and the last commit say together."""
        said: dict[int, str] = {}
        for segment in self.segments():
            for offset, kind in offsets_of(segment).items():
                assert kind == said.setdefault(offset, kind)
        return said

    def segments(self) -> Iterator[Segment]:
        """All that `verify` finds."""
        yield from map(decode_segment, self.objects.values())
        carried = decode_commit_metadata("t", 0, *self.commit)
        if carried is not None:
            yield carried


@pytest.mark.usefixtures("small_segments")
@settings(max_examples=300)
@given(log=st.lists(kinds, max_size=150), data=st.data())
def test_commit_and_objects_always_tell_all_that_was_committed(log: list[str], data: st.DataObject) -> None:
    """Any log, any order of writes, commits, PUTs, crashes and zombies: each committed offset is told, and rightly.

    A zombie and the worker that took over from it write the same bytes under the same names.
    """
    worker = Worker(log, {}, (0, "v1 0"))
    zombies: list[Worker] = []
    for _ in range(data.draw(st.integers(1, 60))):
        step = data.draw(st.sampled_from(["fetch", "durable", "durable", "commit", "put", "crash", "zombie"]))
        if step == "fetch":
            worker.fetch(data.draw(st.integers(1, 40)))
        elif step == "durable":
            for offset in data.draw(st.lists(st.sampled_from(sorted(worker.watermark.pending) or [0]), max_size=40)):
                worker.watermark.mark_durable(offset)
        elif step == "commit":
            worker.make_commit()
        elif step == "put":
            worker.write_segment()
        elif step == "crash":
            zombies.append(worker)
            worker = Worker(log, worker.objects, worker.commit)
        elif zombies:
            data.draw(st.sampled_from(zombies)).write_segment()
        assert dict(enumerate(log[: worker.commit[0]])) == worker.told()


@pytest.mark.usefixtures("small_segments")
@given(log=st.lists(kinds, max_size=150), cuts=st.tuples(*[st.lists(st.integers(1, 40), min_size=1)] * 2))
def test_segments_depend_on_the_offsets_alone(log: list[str], cuts: tuple[list[int], list[int]]) -> None:
    """However fetches and commits cut the log, the same segments come out."""
    objects: list[dict[int, bytes]] = []
    for sizes in cuts:
        worker = Worker(log, {}, (0, "v1 0"))
        for turn in range(2 * len(log) + 2):
            worker.fetch(sizes[turn % len(sizes)])
            for offset in list(worker.watermark.pending):
                worker.watermark.mark_durable(offset)
            worker.make_commit()
            worker.write_segment()
        objects.append(worker.objects)
    assert objects[0] == objects[1]


def test_ledger_that_is_given_up_begins_anew_where_commits_can_go_on() -> None:
    """What could not be committed before can be now; the hole is named, and what comes behind it is kept."""
    kept = OpenLedger("orders", 0, 0)
    for offset in range(1, 6_000, 2):
        kept.gap(offset, offset + 1, lost=False)
    committed, _ = kept.commit_point(5_000)
    assert committed < 5_000
    assert [5_000] == [kept.holds_back]
    kept.give_up(5_000)
    assert ((0, 5_000), [(0, 5_000)], 5_000) == (kept.given_up, kept.holes, kept.start)
    assert kept.holds_back is None
    committed, metadata = kept.commit_point(5_010)
    carried = decode_commit_metadata("orders", 0, committed, metadata)
    assert carried == Segment("orders", 0, 5_000, 5_010, tuple((at, at + 1) for at in range(5_001, 5_010, 2)))
    kept.give_up(5_010)
    assert ((0, 5_010), [(0, 5_000), (5_000, 5_010)]) == (kept.given_up, kept.holes)


def test_gap_across_the_end_of_a_hole_keeps_its_rest() -> None:
    """No offset behind it is forgotten."""
    kept = OpenLedger("orders", 0, 0)
    kept.gap(5, 20, lost=True)
    kept.give_up(10)
    assert (30, "v1 a 0!a") == kept.commit_point(30)
