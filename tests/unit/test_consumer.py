"""Parts of the consumer that need no broker; what it does on one is in `tests/integration`."""

from __future__ import annotations

from types import SimpleNamespace

from aiokafka import TopicPartition

from streams.consumer import Batch, WatermarkConsumer


async def test_records_of_a_partition_that_was_not_sought_yet_are_left_to_the_seek() -> None:
    """A spare worker fetches its first partition before Faust has told it so: nothing is taken, and nothing crashes."""
    consumer = WatermarkConsumer.__new__(WatermarkConsumer)
    consumer.watermarks, consumer.held, consumer._flow = {}, set(), 0
    tp = TopicPartition("orders", 0)
    batch = Batch({tp: [SimpleNamespace(offset=7)]}, {tp: 8}, {tp: 5})
    await consumer._deliver(batch, flow=0)
    assert {} == consumer.watermarks
