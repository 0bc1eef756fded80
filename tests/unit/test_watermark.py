"""The low watermark: the committed offset never passes an event that is not durable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.watermark import PartitionWatermark


def test_nothing_may_be_committed_before_anything_was_read() -> None:
    """A new group's partition without a position has no offset to commit."""
    assert PartitionWatermark(1, None).committable is None


def test_head_in_flight_keeps_the_watermark() -> None:
    """Offset 5 in flight and 6 to 9 durable: 5 is committed, not 10 (stock Faust's head skip)."""
    watermark = PartitionWatermark(1, 5)
    for offset in range(5, 10):
        watermark.delivered(offset, 1)
    for offset in range(6, 10):
        watermark.durable(offset)
    assert watermark.committable == 5
    watermark.durable(5)
    assert watermark.committable == 10


def test_gap_after_offset_zero_does_not_stick() -> None:
    """Offset 0, then a gap: the watermark goes on behind it (stock Faust's commits are stuck here)."""
    watermark = PartitionWatermark(1, 0)
    watermark.delivered(0, 1)
    watermark.delivered(7, 1)
    watermark.durable(0)
    assert watermark.committable == 7
    watermark.durable(7)
    assert watermark.committable == 8


def test_second_acknowledgement_changes_nothing() -> None:
    """An offset counts once; a late ack of an event that is not pending is told apart."""
    watermark = PartitionWatermark(1, 0)
    watermark.delivered(0, 10)
    assert watermark.durable(0) == 10
    assert watermark.durable(0) is None
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
            watermark.durable(offset)
            pending.discard(offset)
        expected = min(pending) if pending else watermark.position
        assert watermark.committable == expected
    assert watermark.committable == offsets[-1] + 1
    assert watermark.pending_bytes == 0
