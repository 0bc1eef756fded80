"""Closed segments become durable, one after another for each partition, whatever the sink says in between."""

from __future__ import annotations

import asyncio

from streams.errors import SinkRefusedError, SinkUnavailableError
from streams.ledger import OpenLedger, Segment
from streams.ledger_writer import LedgerWriter
from streams.record import Record
from streams.sinks import LedgerSink
from streams.sinks.recording import RecordingSink
from streams.stats import Stats

UNAVAILABLE = SinkUnavailableError("throttled", "slow down")
REFUSED = SinkRefusedError("access_denied", "no", "Allow s3:PutObject on ledger/*.")


def make(sink: LedgerSink | None = None) -> tuple[LedgerWriter, RecordingSink, Stats]:
    """A writer, its sink and what it counts."""
    recording, stats = RecordingSink(), Stats()
    return LedgerWriter(sink or recording, stats, retry_base_seconds=0.001, retry_max_seconds=0.001), recording, stats


async def settle(stats: Stats, segments: int) -> None:
    """Wait until this many segments are durable."""
    async with asyncio.timeout(5):
        while stats.ledger_segments < segments:
            await asyncio.sleep(0.001)


async def test_all_segments_that_a_commit_has_closed_are_written_in_order() -> None:
    """A worker that resumes far behind its last segment catches up without another commit."""
    writer, sink, stats = make()
    kept = OpenLedger("orders", 0, 0)
    writer.offer(kept, 35_000)
    await settle(stats, 3)
    assert [Segment("orders", 0, start, start + 10_000) for start in (0, 10_000, 20_000)] == sink.segments
    assert 30_000 == kept.start


async def test_nothing_is_written_before_a_commit_closes_a_segment() -> None:
    """No PUT without need."""
    writer, sink, _ = make()
    writer.offer(OpenLedger("orders", 0, 0), 9_999)
    await asyncio.sleep(0.01)
    assert not sink.segments


async def test_failing_segment_is_tried_until_it_is_durable() -> None:
    """Every failure is counted and kept with its remedy while it lasts, and the ledger begins behind it only then."""
    writer, sink, stats = make()
    kept = OpenLedger("orders", 7, 0)
    for error in (RuntimeError("a fault"), UNAVAILABLE, REFUSED):
        sink.fail_ledger(error)
    seen: list[tuple[str, str, str | None]] = []
    writer.offer(kept, 10_000)
    assert 0 == kept.start
    async with asyncio.timeout(5):
        while stats.ledger_segments < 1:
            seen += [(one.segment, one.detail, one.remedy) for one in stats.ledger_failing.values()]
            await asyncio.sleep(0)
    assert (3, 1) == (stats.ledger_write_errors, len(sink.segments))
    assert ("orders/7, offsets 0 to 9999", "access_denied: no", REFUSED.remedy) == seen[-1]
    assert not stats.ledger_failing


class SlowSink(RecordingSink):
    """Counts how many segments are written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once = self.most_at_once = 0

    async def write_ledger(self, segment: Segment) -> str:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0.005)
        finally:
            self.at_once -= 1
        return await super().write_ledger(segment)


async def test_one_segment_of_a_partition_at_a_time() -> None:
    """Later commits do not begin a second write beside the first; what they close follows."""
    sink = SlowSink()
    writer, _, stats = make(sink)
    kept = OpenLedger("orders", 0, 0)
    for committed in (10_000, 15_000, 30_000):
        writer.offer(kept, committed)
    await settle(stats, 3)
    assert (1, 3) == (sink.most_at_once, len(sink.segments))


async def test_many_partitions_do_not_crowd_out_the_events() -> None:
    """Segments that close together are written eight at a time."""
    sink = SlowSink()
    writer, _, stats = make(sink)
    for partition in range(50):
        writer.offer(OpenLedger("orders", partition, 0), 10_000)
    await settle(stats, 50)
    assert 8 == sink.most_at_once


async def test_revoked_partition_is_left_to_its_next_owner() -> None:
    """A write in flight is cancelled, and nothing is written for it any more."""
    sink = SlowSink()
    writer, _, stats = make(sink)
    kept = OpenLedger("orders", 0, 0)
    writer.offer(kept, 30_000)
    await asyncio.sleep(0)
    writer.forget(kept)
    writer.forget(kept)
    await asyncio.sleep(0.02)
    assert (0, 0, 0) == (stats.ledger_segments, len(sink.segments), kept.start)


async def test_closing_waits_for_no_write() -> None:
    """A drain is never delayed for the ledger: the commit carries what it holds."""
    sink = SlowSink()
    writer, _, stats = make(sink)
    writer.offer(OpenLedger("orders", 0, 0), 10_000)
    await asyncio.sleep(0)
    await writer.close()
    assert (0, 0) == (stats.ledger_segments, sink.at_once)


def held_back(writer: LedgerWriter) -> OpenLedger:
    """A ledger whose commits are full and wait for a segment."""
    kept = OpenLedger("orders", 7, 0)
    for offset in range(1, 6_000, 2):
        kept.gap(offset, offset + 1, lost=False)
    committed, _ = kept.commit_point(6_000)
    assert committed < 6_000
    writer.offer(kept, committed)
    return kept


async def test_commits_wait_for_a_minute_and_go_on() -> None:
    """Then the ledger has a hole, which is counted and named, and the next segment begins behind it."""
    writer, sink, stats = make()
    sink.fail_ledger(REFUSED, times=10_000)
    kept = held_back(writer)
    writer.tick(100.0)
    assert (100.0, 0) == (stats.ledger_held_since, stats.ledger_holes)
    writer.tick(159.9)
    assert (0, 10.0) == (kept.start, stats.ledger_held_seconds(110.0))
    writer.tick(160.0)
    assert ((0, 6_000), 6_000) == (kept.given_up, kept.start)
    assert (6_010, "v1 4mo") == kept.commit_point(6_010)
    writer.tick(161.0)
    assert (None, 1) == (stats.ledger_held_since, stats.ledger_holes)
    (error,) = stats.errors.documents()
    assert ("ledger hole", "orders", 7, 0) == (error["kind"], error["topic"], error["partition"], error["offset"])
    assert "0 to 5999" in error["message"]
    assert "verify --report" in error["remedy"]
    await writer.close()


async def test_given_up_ledger_is_written_again_behind_the_hole() -> None:
    """As soon as the sink takes it."""
    writer, sink, stats = make()
    sink.fail_ledger(REFUSED, times=10_000)
    kept = held_back(writer)
    writer.tick(0.0)
    writer.tick(60.0)
    sink._ledger_failures.clear()
    writer.offer(kept, kept.commit_point(16_000)[0])
    await settle(stats, 1)
    assert [Segment("orders", 7, 6_000, 16_000)] == sink.segments
    writer.tick(61.0)
    assert 1 == stats.ledger_holes


async def test_segment_that_is_written_in_time_leaves_no_hole() -> None:
    """Nothing is held any more, and the next wait begins at nought."""
    writer, sink, stats = make()
    sink.fail_ledger(UNAVAILABLE, times=2)
    kept = held_back(writer)
    writer.tick(0.0)
    await settle(stats, 1)
    kept.commit_point(2_500)
    writer.tick(300.0)
    assert (None, 0, None) == (stats.ledger_held_since, stats.ledger_holes, kept.given_up)


async def test_outage_of_the_whole_sink_is_not_held_against_the_ledger() -> None:
    """No event becomes durable either, so no commit is held up: what it would carry is kept until that is over."""
    writer, sink, stats = make()
    sink.fail_ledger(UNAVAILABLE, times=10_000)
    kept = held_back(writer)
    record = Record("orders", 7, 6_001, 0, 0, None, b"")
    stats.retrying(record, "connection", "down", 1)
    for now in range(3_600):
        writer.tick(float(now))
    assert (0.0, 0, None) == (stats.ledger_held_since, stats.ledger_holes, kept.given_up)
    stats.no_longer_waiting(record)
    writer.tick(3_658.0)
    assert 0 == kept.start
    writer.tick(3_659.0)
    assert ((0, 6_000), 6_000) == (kept.given_up, kept.start)
    await writer.close()


async def test_commits_that_have_room_wait_for_nothing() -> None:
    """However long segments cannot be written."""
    writer, sink, stats = make()
    sink.fail_ledger(REFUSED, times=10_000)
    kept = OpenLedger("orders", 0, 0)
    kept.commit_point(10_000)
    writer.offer(kept, 10_000)
    for now in (0.0, 1_000.0):
        writer.tick(now)
    assert (None, 0, None) == (stats.ledger_held_since, stats.ledger_holes, kept.given_up)
    await writer.close()


async def test_holes_of_too_many_gaps_are_counted_too() -> None:
    """Of a partition that is revoked, as well."""
    writer, _, stats = make()
    ledgers = [OpenLedger("orders", partition, 0) for partition in range(2)]
    for kept in ledgers:
        writer.offer(kept, 0)
        kept.give_up(5)
    writer.forget(ledgers[1])
    writer.tick(0.0)
    assert 2 == stats.ledger_holes


def test_sink_without_a_ledger_is_told_apart() -> None:
    """A technology that cannot keep one is possible."""
    assert isinstance(RecordingSink(), LedgerSink)
    assert not isinstance(object(), LedgerSink)
