"""Parts of the consumer that need no broker; what it does on one is in `tests/integration`."""

from __future__ import annotations

from streams.consumer import WatermarkConsumer
from streams.consumer.poller import Fetched
from streams.consumer.room import Room
from streams.consumer.watermark import PartitionWatermark
from streams.record import Record, TopicPartition

ORDERS = TopicPartition("orders", 0)


def consumer_of_nothing() -> WatermarkConsumer:
    consumer = WatermarkConsumer.__new__(WatermarkConsumer)
    consumer.watermarks, consumer._finishing = {}, {}
    consumer.room, consumer._poller = Room(10, 10_000), None
    return consumer


def fetched(token: int, offset: int) -> Fetched:
    return Fetched(ORDERS, token, [Record("orders", 0, offset, None, None, None, b"x")], [100])


async def test_events_of_an_earlier_assignment_are_dropped_and_make_room() -> None:
    """They were on their way when the partition went and came again: its new position is behind them."""
    consumer = consumer_of_nothing()
    consumer.watermarks[ORDERS] = PartitionWatermark(2, 9)
    consumer.room.took(100)
    await consumer._deliver(fetched(token=1, offset=7))
    assert 9 == consumer.watermarks[ORDERS].committable
    assert (0, 0) == (consumer.room.events, consumer.room.bytes)


async def test_events_of_a_partition_that_went_away_make_room() -> None:
    """Nobody will acknowledge them."""
    consumer = consumer_of_nothing()
    consumer.room.took(100)
    await consumer._deliver(fetched(token=1, offset=7))
    assert 0 == consumer.room.events


async def test_events_of_a_partition_that_is_being_given_away_are_not_begun() -> None:
    """Its next owner writes them."""
    consumer = consumer_of_nothing()
    consumer.watermarks[ORDERS] = watermark = PartitionWatermark(1, 7)
    watermark.closing = True
    consumer.room.took(100)
    await consumer._deliver(fetched(token=1, offset=7))
    assert (7, {}) == (watermark.committable, watermark.pending)


async def test_position_at_the_end_moves_the_watermark() -> None:
    """Control records behind the last event are passed."""
    consumer = consumer_of_nothing()
    consumer.watermarks[ORDERS] = PartitionWatermark(1, 7)
    await consumer._deliver(Fetched(ORDERS, 1, position=9))
    assert 9 == consumer.watermarks[ORDERS].committable
