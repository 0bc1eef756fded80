"""The low watermark: the committed offset never passes an event that is not durable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.consumer.watermark import MAX_TIMESTAMPS, PartitionWatermark
from streams.ledger import OpenLedger, Segment, decode_commit_metadata


def test_head_in_flight_keeps_the_watermark() -> None:
    """Offset 5 in flight and 6 to 9 durable: 5 is committed, not 10 (stock Faust's head skip)."""
    watermark = PartitionWatermark(1, 5)
    for offset in range(5, 10):
        watermark.delivered(offset, 1)
    for offset in range(6, 10):
        watermark.mark_durable(offset)
    assert watermark.committable == 5
    watermark.mark_durable(5)
    assert watermark.committable == 10


def test_gap_after_offset_zero_does_not_stick() -> None:
    """Offset 0, then a gap: the watermark goes on behind it (stock Faust's commits are stuck here)."""
    watermark = PartitionWatermark(1, 0)
    watermark.delivered(0, 1)
    watermark.delivered(7, 1)
    watermark.mark_durable(0)
    assert watermark.committable == 7
    watermark.mark_durable(7)
    assert watermark.committable == 8


def test_second_acknowledgement_changes_nothing() -> None:
    """An offset counts once; a late ack of an event that is not pending is told apart."""
    watermark = PartitionWatermark(1, 0)
    watermark.delivered(0, 10)
    assert watermark.mark_durable(0) == 10
    assert watermark.mark_durable(0) is None
    assert watermark.pending_bytes == 0


def test_position_advances_over_control_records_only_forwards() -> None:
    """Control records at a partition's end hold no event, so the watermark may pass them, never go back."""
    watermark = PartitionWatermark(1, 3)
    watermark.advance(9)
    watermark.advance(4)
    assert watermark.committable == 9


def test_control_records_do_not_hide_a_pending_event() -> None:
    """Advancing over control records keeps the watermark at what is not durable."""
    watermark = PartitionWatermark(1, 0)
    watermark.delivered(0, 1)
    watermark.advance(5)
    assert watermark.committable == 0


def test_offset_behind_the_position_is_an_error() -> None:
    """A second delivery in the same generation means that fetching and bookkeeping disagree."""
    watermark = PartitionWatermark(1, 4)
    with pytest.raises(ValueError, match="delivered before"):
        watermark.delivered(3, 1)


@given(
    offsets=st.lists(st.integers(0, 10_000), min_size=1, max_size=80, unique=True).map(sorted),
    data=st.data(),
)
def test_watermark_is_never_above_an_event_that_is_not_durable(offsets: list[int], data: st.DataObject) -> None:
    """Any gaps, any order of completion: all below the watermark is durable, and no step is missed."""
    watermark = PartitionWatermark(1, offsets[0])
    pending: set[int] = set()
    delivered = iter(offsets)
    to_deliver = len(offsets)
    while to_deliver or pending:
        if to_deliver and (not pending or data.draw(st.booleans())):
            offset = next(delivered)
            to_deliver -= 1
            watermark.delivered(offset, 1)
            pending.add(offset)
        else:
            offset = data.draw(st.sampled_from(sorted(pending)))
            watermark.mark_durable(offset)
            pending.discard(offset)
        expected = min(pending) if pending else watermark.position
        assert watermark.committable == expected
    assert watermark.committable == offsets[-1] + 1
    assert watermark.pending_bytes == 0


def test_ledger_is_told_of_every_gap_and_what_made_it() -> None:
    """Offsets that never arrive, at the end of a fetch too, and those that retention has taken."""
    ledger = OpenLedger("t", 0, 3)
    watermark = PartitionWatermark(1, 3, ledger)
    watermark.delivered(3, 1)
    watermark.delivered(6, 1)
    watermark.advance(9)
    watermark.lost(20)
    watermark.lost(15)
    watermark.mark_durable(3)
    watermark.mark_durable(6)
    assert 20 == watermark.committable
    said = decode_commit_metadata("t", 0, *ledger.commit_point(20))
    assert Segment("t", 0, 3, 20, ((4, 6), (7, 9)), ((9, 20),)) == said


def test_oldest_timestamp_is_that_of_the_run_that_holds_the_oldest_event() -> None:
    """One timestamp in a few events is kept; the last one stays when nothing is pending."""
    watermark = PartitionWatermark(1, 0)
    assert watermark.oldest_timestamp_ms() is None
    for offset in range(48):
        if offset % 16 == 0:
            watermark.note_timestamp(offset, 1_000 + offset)
        watermark.delivered(offset, 1)
    for offset in range(20):
        watermark.mark_durable(offset)
    assert 1_016 == watermark.oldest_timestamp_ms()
    for offset in range(20, 48):
        watermark.mark_durable(offset)
    assert 1_032 == watermark.oldest_timestamp_ms()


def test_times_before_1970_tell_nothing_of_retention() -> None:
    """Kafka goes by the age of its files there: such an event is not overdue."""
    watermark = PartitionWatermark(1, 0)
    watermark.delivered(0, 1)
    watermark.note_timestamp(0, -2)
    assert watermark.oldest_timestamp_ms() is None


def test_timestamps_take_bounded_memory_while_one_event_is_stuck() -> None:
    """Others get durable for hours: the oldest's timestamp stays, and what stands for later ones is never too late."""
    watermark = PartitionWatermark(1, 0)
    for offset in range(0, 16 * 20_000, 16):
        watermark.note_timestamp(offset, offset)
        watermark.delivered(offset, 1)
        if offset not in (0, 160_000):
            watermark.mark_durable(offset)
    assert len(watermark._timestamps) <= MAX_TIMESTAMPS
    assert 0 == watermark.oldest_timestamp_ms()
    watermark.mark_durable(0)
    found = watermark.oldest_timestamp_ms()
    assert found is not None
    assert 150_000 < found <= 160_000
