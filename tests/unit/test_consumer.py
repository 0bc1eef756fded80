"""Parts of the consumer that need no broker; what it does on one is in `tests/integration`."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import cast

from aiokafka import TopicPartition
from faust.types import TP

from streams.consumer import Batch, WatermarkConsumer, WatermarkConsumerThread


async def test_records_of_a_partition_that_was_not_sought_yet_are_left_to_the_seek() -> None:
    """A spare worker fetches its first partition before Faust has told it so: nothing is taken, and nothing crashes."""
    consumer = WatermarkConsumer.__new__(WatermarkConsumer)
    consumer.watermarks, consumer.held, consumer._flow = {}, set(), 0
    tp = TopicPartition("orders", 0)
    batch = Batch({tp: [SimpleNamespace(offset=7)]}, {tp: 8}, {tp: 5})
    await consumer._deliver(batch, flow=0)
    assert {} == consumer.watermarks


async def test_paused_topic_is_left_out_of_the_fetch_until_it_is_resumed() -> None:
    """aiokafka is asked for the other partitions only, and for nothing at all where all of them are paused."""
    asked: list[set[TP]] = []

    async def getmany(active: set[TP], timeout: float) -> None:
        asked.append(active)

    async def sleep(seconds: float) -> None:
        asked.append(set())

    orders, payments = TP("orders", 0), TP("payments", 0)
    consumer = WatermarkConsumer.__new__(WatermarkConsumer)
    consumer.held, consumer.paused, consumer._flow, consumer.last_acknowledged = set(), set(), 0, 0.0
    consumer._active_partitions = {orders, payments}
    consumer._thread = cast(WatermarkConsumerThread, SimpleNamespace(handover=deque(), getmany=getmany))
    consumer.sleep = sleep  # type: ignore[method-assign, assignment] # the service's own, which needs a loop of its own
    await consumer._take_batch()
    for topic in ("orders", "payments"):
        consumer.pause(topic)
        await consumer._take_batch()
    consumer.resume("orders")
    await consumer._take_batch()
    assert [{orders, payments}, {payments}, set(), {orders}] == asked
    assert consumer.last_acknowledged > 0, "a pause is no stall"
