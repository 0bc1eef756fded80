"""Parts of the consumer that need no broker; what it does on one is in `tests/integration`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest

from streams.consumer import Run, WatermarkConsumer
from streams.consumer.poller import Fetched
from streams.consumer.room import Room
from streams.consumer.watermark import PartitionWatermark
from streams.delivery import Delivery
from streams.errors import RecordRejectedError
from streams.record import Life, Record, TopicPartition
from streams.stats import Stats
from tests.unit.test_delivery import ScriptedSink

ORDERS = TopicPartition("orders", 0)
FORMER, LATTER = Life("cluster", "first-id"), Life("cluster", "second-id", "second")


def consumer_of_nothing() -> WatermarkConsumer:
    consumer = WatermarkConsumer.__new__(WatermarkConsumer)
    consumer.watermarks, consumer._finishing = {}, {}
    consumer.room, consumer._poller = Room(10, 10_000), None
    consumer._stop_drained, consumer.last_acknowledged = False, 0.0
    return consumer


def fetched(token: int, offset: int, life: Life = FORMER) -> Fetched:
    return Fetched(ORDERS, token, [Record("orders", 0, offset, None, None, None, b"x", life=life)], [100])


class Recreated:
    """A consumer that has read offsets 0 and 1 of a topic that was recreated since, and what its writes do."""

    def __init__(self) -> None:
        self.may_write = asyncio.Event()
        self.asked: list[tuple[str, Any]] = []
        self.queued: list[Run] = []
        self.consumer = consumer = WatermarkConsumer.__new__(WatermarkConsumer)
        self.delivery = Delivery(
            cast(Any, ScriptedSink(self._write)),
            Stats(),
            max_in_flight=1,
            retry_base_seconds=0.001,
            retry_max_seconds=0.01,
            dead_letters=False,
        )
        consumer.options = cast(
            Any,
            SimpleNamespace(
                drain_timeout_seconds=1.0, writes=self.delivery, archive=self.archive, stats=Stats(), ledgers=None
            ),
        )
        consumer.room, consumer._poller = Room(10, 10_000), cast(Any, self)
        self.handover: deque[Fetched] = deque()
        consumer.watermarks, consumer._finishing, consumer._interrupted, consumer._is_dead = {}, {}, [], False
        consumer.assigned_epochs, consumer.held, consumer.watch = {ORDERS: 1}, set(), None
        consumer.commits = cast(Any, SimpleNamespace(forget=lambda partitions: None, due=lambda points: {}))
        consumer.drained, consumer._stop_drained, consumer.last_acknowledged = True, False, 0.0
        consumer._rebalances = set()
        consumer._queue = self._queue  # type: ignore[method-assign] # instead of Faust's queue
        consumer._take_over = self._take_over  # type: ignore[method-assign] # instead of questions to Kafka
        consumer.watermarks[ORDERS] = PartitionWatermark(1, 0, life=FORMER)

    async def _write(self, record: Record, attempt: int) -> int:
        await self.may_write.wait()
        return 1

    async def _queue(self, fetched: Fetched, watermark: PartitionWatermark) -> None:
        self.queued.append(Run(fetched.records, watermark, self.consumer.mark_durable))

    async def _take_over(self, partitions: set[TopicPartition], epoch: int) -> None:
        self.consumer.watermarks[ORDERS] = PartitionWatermark(2, 0, life=LATTER)

    async def archive(self, run: Run) -> None:
        """As the agent does."""
        if run.begin():
            for record in run.records:
                await self.delivery.start(record, run.acknowledge, run.is_wanted)
            run.finish()

    def made_room(self) -> None:
        """Nobody waits for it."""

    def ask_resume(self, partitions: Any) -> None:
        """Nothing is paused."""

    def ask_pause(self, partitions: Any) -> None:
        self.asked.append(("pause", set(partitions)))

    def ask_stop(self, partitions: Any) -> asyncio.Future[None]:
        stopped = asyncio.get_running_loop().create_future()
        stopped.set_result(None)
        return stopped

    async def begin(self) -> PartitionWatermark:
        """Offset 0 is being written, 1 is queued; the topic is recreated, and begun again as another one."""
        for offset in (0, 1):
            await self.consumer._deliver(fetched(1, offset))
        await self.archive(self.queued.pop(0))
        former = self.consumer.watermarks[ORDERS]
        self.consumer._begin_again({ORDERS})
        await asyncio.sleep(0)
        return former

    @property
    def acknowledged(self) -> int:
        return self.consumer.room.done_events


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


async def test_what_was_read_of_a_former_topic_is_finished_at_the_stop() -> None:
    """In flight, queued, interrupted on the way there, and in the handover still: Kafka has none of it any more."""
    recreated = Recreated()
    former = await recreated.begin()
    recreated.handover.append(fetched(1, 3))
    former.delivered(2, 100)
    recreated.consumer._interrupted.append((ORDERS, former, fetched(1, 2).records))
    stop = asyncio.create_task(recreated.consumer.wait_empty())
    await asyncio.sleep(0.05)
    assert not stop.done(), "it must wait for them"
    recreated.may_write.set()
    await recreated.archive(recreated.queued.pop())
    await stop
    assert ({}, 4, True) == (former.pending, former.position, recreated.consumer.drained)


async def test_what_was_lost_with_a_former_topic_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """The time is over: the offsets, the topic's id, and a stop that was not clean."""
    recreated = Recreated()
    former = await recreated.begin()
    with caplog.at_level(logging.ERROR):
        await recreated.consumer.wait_empty()
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "2 events of orders/0 are lost" in said
    assert "first-id" in said
    assert said.endswith("offsets: 0-1")
    assert not recreated.consumer.drained
    run = recreated.queued.pop()
    assert (False, former) == (run.begin(), run.watermark)


@pytest.mark.parametrize("lost", [False, True])
async def test_what_was_read_of_a_former_topic_stays_when_its_partition_moves(lost: bool) -> None:
    """The drain waits for none of it; nobody else will ever deliver it."""
    recreated = Recreated()
    former = await recreated.begin()
    consumer = recreated.consumer
    if not lost:
        assert await consumer._drain({ORDERS}, 60, even_if_failing=False)
    consumer.partitions_gone({ORDERS}, lost=lost)
    assert {0: 100, 1: 100} == former.pending
    recreated.may_write.set()
    await recreated.archive(recreated.queued.pop())
    await consumer._deliver(fetched(1, 2))
    assert [] == recreated.queued, "Faust may not know the partition any more"
    assert await recreated.delivery.wait_idle(5)
    while recreated.acknowledged < 3:
        await asyncio.sleep(0.001)
    assert {} == former.pending


async def test_refused_event_of_a_former_topic_holds_nothing() -> None:
    """The topic that has taken its name goes on; the stop does not wait for what can never be written."""
    recreated = Recreated()
    former = await recreated.begin()
    consumer = recreated.consumer
    why_not = consumer.hold(fetched(1, 1).records[0])
    assert why_not is not None
    assert "first-id" in why_not
    assert (set(), [], {0: 100}) == (consumer.held, recreated.asked, former.pending)
    assert consumer.hold(fetched(2, 0, LATTER).records[0]) is None
    assert ({ORDERS}, [("pause", {ORDERS})]) == (consumer.held, recreated.asked)


async def test_refused_event_of_a_partition_that_moved_holds_nothing() -> None:
    """Whoever has it now reads the event again."""
    recreated = Recreated()
    consumer = recreated.consumer
    consumer.partitions_gone({ORDERS}, lost=True)
    why_not = consumer.hold(fetched(1, 1).records[0])
    assert why_not is not None
    assert (set(), []) == (consumer.held, recreated.asked)


async def test_event_that_was_held_is_given_up_when_its_topic_is_recreated(caplog: pytest.LogCaptureFixture) -> None:
    """It is named, and no stop waits for it."""
    recreated = Recreated()
    await recreated.consumer._deliver(fetched(1, 0))
    former = recreated.consumer.watermarks[ORDERS]
    record, stats = recreated.queued.pop().records[0], recreated.consumer.options.stats
    stats.held(record, RecordRejectedError("key_template", "value.id is missing"))
    assert recreated.consumer.hold(record) is None
    recreated.consumer._begin_again({ORDERS})
    assert ({}, {}) == (former.pending, stats.holds)
    assert "orders/0/0 was refused and is never written" in caplog.text
