"""Many writes at once, retried until they are durable; acknowledged only then; dead letters or a held partition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from streams.delivery import Delivery
from streams.errors import RecordRejectedError, SinkRefusedError, SinkUnavailableError
from streams.record import Life, Record, TopicPartition
from streams.stats import Stats

Write = Callable[[Record, int], Awaitable[int]]


class ScriptedSink:
    """A sink whose writes do what a test says: `script` sees the record and the number of the attempt."""

    def __init__(self, script: Write, dead_letter: Write | None = None) -> None:
        self.script = script
        self.dead_letter = dead_letter
        self.attempts: dict[int, int] = {}
        self.most_at_once = 0
        self._now = 0

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def write(self, record: Record) -> int:
        self.attempts[record.offset] = self.attempts.get(record.offset, 0) + 1
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self.script(record, self.attempts[record.offset])
        finally:
            self._now -= 1

    async def write_dead_letter(self, record: Record, rejection: RecordRejectedError) -> str:
        if self.dead_letter is not None:
            await self.dead_letter(record, 1)
        return f"dead-letter/{record.offset}"


class Harness:
    """A delivery with fast retries, and what it acknowledged and held."""

    def __init__(self, sink: ScriptedSink, *, max_in_flight: int = 100, dead_letters: bool = True) -> None:
        self.acknowledged: list[int] = []
        self.held: list[int] = []
        self.stats = Stats()
        self.delivery = Delivery(
            sink,
            self.stats,
            max_in_flight=max_in_flight,
            retry_base_seconds=0.001,
            retry_max_seconds=0.01,
            dead_letters=dead_letters,
            hold_partition=lambda record: self.held.append(record.offset),
        )

    async def start(self, *offsets: int) -> None:
        for offset in offsets:
            await self.delivery.start(Record("orders", 0, offset, None, None, None, b"v"), self._acknowledge)

    def _acknowledge(self, record: Record) -> None:
        self.acknowledged.append(record.offset)


@asynccontextmanager
async def finished(harness: Harness) -> AsyncIterator[None]:
    yield
    assert await harness.delivery.wait_idle(5)


async def succeed(record: Record, attempt: int) -> int:
    return 1


async def test_event_is_acknowledged_only_when_its_write_returned() -> None:
    """Nothing is acknowledged while the write is under way."""
    durable = asyncio.Event()

    async def script(record: Record, attempt: int) -> int:
        await durable.wait()
        return 1

    harness = Harness(ScriptedSink(script))
    async with finished(harness):
        await harness.start(0)
        await asyncio.sleep(0)
        assert harness.acknowledged == []
        durable.set()
    assert harness.acknowledged == [0]


@pytest.mark.parametrize(
    "error",
    [
        SinkUnavailableError("throttled", "SlowDown"),
        SinkUnavailableError("timeout", "30 s"),
        SinkRefusedError("access_denied", "AccessDenied", "Allow s3:PutObject."),
        RuntimeError("a fault of the sink"),
    ],
    ids=["throttled", "timeout", "refused", "unexpected"],
)
async def test_failed_write_is_retried_until_it_succeeds(error: Exception) -> None:
    """Whatever goes wrong with the sink, an event is tried again and acknowledged once."""

    async def script(record: Record, attempt: int) -> int:
        if attempt < 6:
            raise error
        return 1

    sink = ScriptedSink(script)
    harness = Harness(sink)
    async with finished(harness):
        await harness.start(0)
    assert ({0: 6}, [0]) == (sink.attempts, harness.acknowledged)
    assert harness.stats.retries.total() == 5
    assert not harness.stats.waiting


async def test_waiting_event_shows_its_reason() -> None:
    """While it backs off, the statistics name the event and why."""
    mended = asyncio.Event()

    async def script(record: Record, attempt: int) -> int:
        if not mended.is_set():
            raise SinkRefusedError("bucket_missing", "NoSuchBucket", "Create it.")
        return 1

    harness = Harness(ScriptedSink(script))
    async with finished(harness):
        await harness.start(7)
        while not harness.stats.waiting:
            await asyncio.sleep(0.001)
        assert harness.stats.waiting["orders", 0, 7].reason == "bucket_missing"
        mended.set()


async def test_throttling_lowers_the_limit() -> None:
    """503 SlowDown is a signal, not only an error."""

    async def script(record: Record, attempt: int) -> int:
        if attempt == 1:
            raise SinkUnavailableError("throttled", "SlowDown")
        return 1

    harness = Harness(ScriptedSink(script), max_in_flight=64)
    async with finished(harness):
        await harness.start(*range(64))
    assert harness.delivery.limit.limit < 64
    assert sorted(harness.acknowledged) == list(range(64))


async def test_no_more_than_the_maximum_is_in_flight() -> None:
    """`STREAMS_MAX_IN_FLIGHT` bounds the writes, and every one of them gets its turn."""

    async def script(record: Record, attempt: int) -> int:
        await asyncio.sleep(0.001)
        return 1

    sink = ScriptedSink(script)
    harness = Harness(sink, max_in_flight=8)
    async with finished(harness):
        await asyncio.gather(*(harness.start(*range(actor * 50, actor * 50 + 50)) for actor in range(4)))
    assert sink.most_at_once == 8
    assert sorted(harness.acknowledged) == list(range(200))


async def test_place_of_a_cancelled_actor_goes_to_the_next() -> None:
    """An actor that is cancelled while it waits does not take a place with it."""
    release = asyncio.Event()

    async def script(record: Record, attempt: int) -> int:
        await release.wait()
        return 1

    harness = Harness(ScriptedSink(script), max_in_flight=1)
    await harness.start(0)
    waiting = asyncio.create_task(harness.start(1))
    following = asyncio.create_task(harness.start(2))
    await asyncio.sleep(0)
    release.set()
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait_for(following, 5)
    assert await harness.delivery.wait_idle(5)
    assert 2 in harness.acknowledged


async def test_rejected_event_is_acknowledged_after_its_dead_letter() -> None:
    """Only a dead letter that is durable makes a rejected event done."""
    written = asyncio.Event()

    async def reject(record: Record, attempt: int) -> int:
        raise RecordRejectedError("key_too_long", "1,025 bytes")

    async def dead_letter(record: Record, attempt: int) -> int:
        await written.wait()
        return 1

    harness = Harness(ScriptedSink(reject, dead_letter))
    async with finished(harness):
        await harness.start(5)
        await asyncio.sleep(0.01)
        assert harness.acknowledged == []
        written.set()
    assert harness.acknowledged == [5]
    assert harness.stats.dead_letters["orders", "key_too_long"] == 1


async def test_rejected_event_is_held_without_dead_letters() -> None:
    """`STREAMS_ON_REJECT=hold`: not acknowledged, its partition stopped, its place in flight free again."""

    async def reject(record: Record, attempt: int) -> int:
        raise RecordRejectedError("key_template", "value.id is missing")

    harness = Harness(ScriptedSink(reject), dead_letters=False)
    async with finished(harness):
        await harness.start(5)
    assert ([], [5]) == (harness.acknowledged, harness.held)


async def test_rejected_event_of_what_is_not_read_any_more_holds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is named as not written, with the reason; no page shows a partition that is held."""

    async def reject(record: Record, attempt: int) -> int:
        raise RecordRejectedError("key_template", "value.id is missing")

    delivery = Delivery(
        ScriptedSink(reject),
        stats := Stats(),
        max_in_flight=1,
        retry_base_seconds=0.001,
        retry_max_seconds=0.01,
        dead_letters=False,
        hold_partition=lambda record: "its topic is gone",
    )
    await delivery.start(Record("orders", 0, 5, None, None, None, b"v"), lambda record: None)
    assert await delivery.wait_idle(5)
    assert {} == stats.holds
    assert "event orders/0/5 was not written: " in caplog.text
    assert caplog.text.rstrip().endswith("Its partition is not held: its topic is gone")


async def test_drain_waits_for_one_life_of_a_topic_only() -> None:
    """Of the same partition and offset: Kafka delivers the latter's event again, and the former's never."""
    former, latter = Life("cluster", "first"), Life("cluster", "second", "tag")
    may_write = asyncio.Event()

    async def wait(record: Record, attempt: int) -> int:
        await may_write.wait()
        return 1

    harness = Harness(ScriptedSink(wait))
    for life in (former, latter):
        record = Record("orders", 0, 5, None, None, None, b"v", life=life)
        await harness.delivery.start(record, lambda record: harness.acknowledged.append(len(record.life.tag)))
    partition = TopicPartition("orders", 0)
    assert not await harness.delivery.wait_idle(0.01, partitions={partition: latter})
    assert 1 == await harness.delivery.abandon({partition: latter})
    assert await harness.delivery.wait_idle(5, partitions={partition: latter})
    may_write.set()
    assert await harness.delivery.wait_idle(5)
    assert [0] == harness.acknowledged


async def test_event_whose_dead_letter_is_rejected_too_is_held() -> None:
    """With nowhere to go it stays in Kafka rather than be skipped."""

    async def reject(record: Record, attempt: int) -> int:
        raise RecordRejectedError("too_large", "6 GiB")

    harness = Harness(ScriptedSink(reject, reject))
    async with finished(harness):
        await harness.start(5)
    assert ([], [5]) == (harness.acknowledged, harness.held)


async def test_abandoned_writes_are_not_acknowledged() -> None:
    """At the end of a drain what is left is cancelled, and Kafka delivers it again."""

    async def hang(record: Record, attempt: int) -> int:
        await asyncio.Event().wait()
        return 1

    harness = Harness(ScriptedSink(hang))
    await harness.start(0, 1, 2)
    assert not await harness.delivery.wait_idle(0.01)
    assert await harness.delivery.abandon() == 3
    assert (0, []) == (harness.delivery.in_flight, harness.acknowledged)


async def test_rebalance_does_not_wait_for_an_outage() -> None:
    """When all that is left is being retried, waiting longer would only stall the group."""

    async def fail(record: Record, attempt: int) -> int:
        raise SinkUnavailableError("connection", "refused")

    harness = Harness(ScriptedSink(fail))
    await harness.start(0, 1)
    async with asyncio.timeout(5):
        assert not await harness.delivery.wait_idle(3600, even_if_failing=False)
    await harness.delivery.abandon()


async def test_write_without_trouble_is_counted() -> None:
    """Events, bytes and latency of the plain case."""
    harness = Harness(ScriptedSink(succeed))
    async with finished(harness):
        await harness.start(0, 1)
    assert (2, 2) == (harness.stats.events["orders"], harness.stats.sent_bytes["orders"])
    assert sum(harness.stats.latency.counts) == 2


class GivingUp:
    """A delivery as a command uses it: it ends, and says what could not be written."""

    def __init__(self, sink: ScriptedSink) -> None:
        self.acknowledged: list[int] = []
        self.failed: dict[int, Exception] = {}
        self.delivery = Delivery(
            sink,
            Stats(),
            max_in_flight=10,
            retry_base_seconds=0.001,
            retry_max_seconds=0.002,
            dead_letters=False,
            give_up_seconds=0.05,
            on_failure=lambda record, error: self.failed.update({record.offset: error}),
        )

    async def deliver(self, *offsets: int) -> None:
        for offset in offsets:
            record = Record("t", 0, offset, 0, 0, None, b"")
            await self.delivery.start(record, lambda record: self.acknowledged.append(record.offset))
        assert await self.delivery.wait_idle(5)


async def test_a_delivery_that_may_give_up_hands_over_what_failed() -> None:
    """Outages and refusals end after the time given, with the last error; other events go through."""

    async def script(record: Record, attempt: int) -> int:
        if record.offset == 1:
            raise SinkUnavailableError("throttled", "503")
        if record.offset == 2:
            raise SinkRefusedError("access_denied", "403", "Allow it.")
        if record.offset == 3 and attempt == 1:
            raise SinkUnavailableError("timeout", "late")
        return 1

    giving_up = GivingUp(sink := ScriptedSink(script))
    await giving_up.deliver(0, 1, 2, 3)
    assert [0, 3] == sorted(giving_up.acknowledged)
    assert {1: SinkUnavailableError, 2: SinkRefusedError} == {
        offset: type(error) for offset, error in giving_up.failed.items()
    }
    assert sink.attempts[1] > 1


async def test_a_rejected_event_is_handed_over_too() -> None:
    """Without dead letters, whoever gave `on_failure` decides what becomes of it."""

    async def script(record: Record, attempt: int) -> int:
        raise RecordRejectedError("too_large", "9 GB")

    giving_up = GivingUp(ScriptedSink(script))
    await giving_up.deliver(0)
    assert [] == giving_up.acknowledged
    assert "too_large" in str(giving_up.failed[0])
