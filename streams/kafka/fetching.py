"""Events of single partitions from given offsets on, as the commands read them: no group is joined, nothing committed.

`KafkaReader` and `doctor` stand on it. Everything that librdkafka's consumer is asked runs in one thread of its own: a
call from a second one would spin until the first is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as _TopicPartition

from streams.kafka.connection import client_options
from streams.kafka.header_names import HeaderReader
from streams.kafka.records import record_of
from streams.record import Record, TopicPartition
from streams.settings import Settings

MAX_RECORDS: Final = 1000
POLL_SECONDS: Final = 0.5
FETCH_WAIT_MS: Final = 50
"""How long a broker thinks at the end of a partition, and so how soon the end is known."""
QUEUE_KIB: Final = 32 * 1024
FIRST_LIMIT_SECONDS: Final = 15.0

_FINAL: Final = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
"""What librdkafka does not try again by itself; everything else may pass."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class First:
    """The first event at or behind an offset, and the mean size of the values that came with it."""

    offset: int
    timestamp_ms: int | None
    mean_bytes: float


@dataclass(frozen=True, slots=True)
class _Notice:
    """What the consumer said instead of an event: of a partition, or (`tp` is `None`) of the connection."""

    tp: TopicPartition | None
    offset: int
    error: KafkaError

    @property
    def at_the_end(self) -> bool:
        return self.error.code() == KafkaError._PARTITION_EOF


class Fetcher:
    """A consumer of librdkafka without a group; one reading at a time. Use it with `async with`, or `close` it.

    Raises `KafkaException` where librdkafka does not take the configuration.
    """

    def __init__(self, settings: Settings) -> None:
        options = {
            **client_options(settings),
            # librdkafka assigns nothing without one; nothing is ever committed for it.
            "group.id": settings.consumer_group,
            "client.rack": settings.kafka_client_rack or "",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.message.max.bytes": settings.kafka_fetch_max_bytes,
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "queued.max.messages.kbytes": QUEUE_KIB,
            "log_level": 0,  # what fails is in the answers
        }
        self._consumer = Consumer(options)
        self._headers = HeaderReader(options)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-fetcher")

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._run(self._headers.close)
        await self._run(self._consumer.close)
        self._thread.shutdown(wait=False)

    async def read(
        self, tp: TopicPartition, start: int, stop: int, silence_seconds: float
    ) -> AsyncGenerator[list[Record], None]:
        """The committed events with `start <= offset < stop`, in batches, in order.

        Ends where Kafka has nothing more below `stop` to deliver: what is left may be transaction markers, or gone by
        compaction.

        Raises:
            KafkaException: the broker refuses, or nothing came for `silence_seconds` (`_TIMED_OUT`).
            KafkaReadError: an event's headers could not be had.
        """
        if start >= stop:
            return
        loop = asyncio.get_running_loop()
        await self._run(self._assign, {tp: start})
        position, heard_at, trouble = start, loop.time(), None
        while position < stop:
            records: list[Record] = []
            before = position
            for one in await self._run(self._take):
                if isinstance(one, Record):
                    position = one.offset + 1
                    records.append(one)
                elif one.at_the_end:
                    position = max(position, one.offset)
                else:
                    trouble = _looked_at(one)
            if position > before:
                heard_at, trouble = loop.time(), None
            if records and records[-1].offset >= stop:
                records = [record for record in records if record.offset < stop]
            if records:
                yield records
            if position < stop and loop.time() - heard_at > silence_seconds:
                raise KafkaException(trouble or KafkaError(KafkaError._TIMED_OUT, f"nothing came from {position} on"))

    async def first(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, First | KafkaError | None]:
        """For each partition the first event at or behind an offset; `None` where there is none (yet)."""
        found: dict[TopicPartition, First | KafkaError | None] = {}
        if not positions:
            return found
        loop = asyncio.get_running_loop()
        await self._run(self._assign, positions)
        deadline, trouble = loop.time() + FIRST_LIMIT_SECONDS, None
        while len(found) < len(positions) and loop.time() < deadline:
            taken = await self._run(self._take)
            answers, trouble = _answers(taken, trouble)
            new = {tp: answer for tp, answer in answers.items() if tp in positions and tp not in found}
            found |= new
            if new:
                await self._run(self._give_back, list(new))
        silent = trouble or KafkaError(KafkaError._TIMED_OUT, f"no answer within {FIRST_LIMIT_SECONDS:.0f} s")
        return {tp: found.get(tp, silent) for tp in positions}

    # -- in the thread ------------------------------------------------------------------------------------------------

    async def _run(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    def _assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._consumer.assign([_TopicPartition(*tp, offset) for tp, offset in positions.items()])

    def _give_back(self, tps: Sequence[TopicPartition]) -> None:
        self._consumer.incremental_unassign([_TopicPartition(*tp) for tp in tps])

    def _take(self) -> list[Record | _Notice]:
        """Wait for the first message, and take what is there by then."""
        first = self._consumer.poll(POLL_SECONDS)
        if first is None:
            return []
        messages = (first, *self._consumer.consume(MAX_RECORDS - 1, timeout=0))
        return [understood for one in messages if (understood := self._understood(one)) is not None]

    def _understood(self, message: Any) -> Record | _Notice | None:
        error, topic = message.error(), message.topic()
        if error is None:
            return record_of(message, topic, self._headers.read)
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return None  # librdkafka looks for the group's coordinator, but nothing here needs it
        tp = None if topic is None else TopicPartition(topic, message.partition())
        return _Notice(tp, message.offset() or 0, error)


def _looked_at(notice: _Notice) -> KafkaError:
    """The notice's error, raised where it is final."""
    if notice.tp is not None and notice.error.code() in _FINAL:
        raise KafkaException(notice.error)
    return notice.error


def _answers(
    taken: Sequence[Record | _Notice], trouble: KafkaError | None
) -> tuple[dict[TopicPartition, First | KafkaError | None], KafkaError | None]:
    """What was taken, by partition; and what is known to be the matter with the connection."""
    answers: dict[TopicPartition, First | KafkaError | None] = {}
    records: dict[TopicPartition, list[Record]] = {}
    for one in taken:
        if isinstance(one, Record):
            records.setdefault(TopicPartition(one.topic, one.partition), []).append(one)
        elif one.tp is None:
            trouble = one.error
        elif one.at_the_end:
            answers[one.tp] = None
        elif one.error.code() in _FINAL:
            answers[one.tp] = one.error
    for tp, some in records.items():
        mean_bytes = sum(len(one.value or b"") for one in some) / len(some)
        answers[tp] = First(some[0].offset, some[0].timestamp_ms, mean_bytes)
    return answers, trouble
