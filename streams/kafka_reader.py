"""Kafka as the commands read it: offsets and events, without joining the consumer group or changing anything.

Events are read `read_committed`, as the worker reads them, so that both see the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata

from streams.errors import KafkaReadError
from streams.header_names import accept_any_header_name
from streams.kafka_security import aiokafka_security_options
from streams.preflight import check_kafka
from streams.record import Record, record_from_kafka
from streams.settings import Settings

MAX_RECORDS: Final = 1000
POLL_MS: Final = 1000
SILENCE_TIMEOUT_SECONDS: Final = 60.0
REQUEST_TIMEOUT_MS: Final = 30_000
COORDINATOR_TIMEOUT_SECONDS: Final = 30.0
COORDINATOR_PAUSE_SECONDS: Final = 0.2


class KafkaReader:
    """Reads topics, offsets and events with the worker's own connection settings; use it with `async with`.

    Every method raises `KafkaReadError` when Kafka does not answer or refuses, and `ConfigurationError` from the start
    when the cluster, a topic or the group cannot be used as configured.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.security = aiokafka_security_options(settings)
        self._names: list[str] = []
        self._connection: dict[str, Any] = {
            "bootstrap_servers": settings.kafka_bootstrap_servers,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            **self.security,
        }
        self._consumer: Any = None
        self._admin: Any = None

    async def __aenter__(self) -> KafkaReader:
        self._names = await check_kafka(self._settings)
        accept_any_header_name()
        try:
            self._consumer = AIOKafkaConsumer(
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                client_rack=self._settings.kafka_client_rack,
                max_partition_fetch_bytes=self._settings.kafka_fetch_max_bytes,
                **self._connection,
            )
            await self._consumer.start()
            self._admin = AIOKafkaAdminClient(**self._connection)
            await self._admin.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        if self._consumer is not None:
            await self._consumer.stop()
        if self._admin is not None:
            await self._admin.close()

    async def topics(self) -> dict[str, list[int]]:
        """The topics that STREAMS_TOPICS means and their partitions."""
        return {name: await self.partitions_of(name) for name in self._names}

    async def partitions_of(self, topic: str) -> list[int]:
        """The partitions of any topic. Raises `KafkaReadError` where there is no such topic."""
        descriptions = await self._ask(f"describe the topic {topic}", self._admin.describe_topics([topic]))
        found = [part["partition"] for part in descriptions[0]["partitions"]]
        if not found:
            raise KafkaReadError(f"the topic {topic} does not exist, or this user may not see it.")
        return sorted(found)

    async def beginnings(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The earliest offset that Kafka still has, by partition."""
        return await self._offsets(partitions, self._consumer.beginning_offsets)

    async def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset behind the last event that may be read (the last stable offset), by partition."""
        return await self._offsets(partitions, self._consumer.end_offsets)

    async def _offsets(self, partitions: Sequence[TopicPartition], ask: Any) -> dict[TopicPartition, int]:
        if not partitions:
            return {}
        found: dict[TopicPartition, int] = await self._ask("read the offsets of the topics", ask(list(partitions)))
        return found

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        """What STREAMS_CONSUMER_GROUP has committed; partitions without a commit are left out."""
        group = self._settings.consumer_group
        if not partitions:
            return {}
        found = await self._ask(f"read the offsets of the group {group}", self._committed(group, partitions))
        return {tp: commit for tp, commit in found.items() if commit.offset >= 0}

    async def _committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """aiokafka's own `list_consumer_group_offsets` takes an error of the whole group for "nothing committed"."""
        deadline = asyncio.get_running_loop().time() + COORDINATOR_TIMEOUT_SECONDS
        while True:
            try:
                return await self._ask_coordinator(group, partitions)
            except KafkaError as error:
                if not error.retriable or asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(COORDINATOR_PAUSE_SECONDS)

    async def _ask_coordinator(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        topics: dict[str, list[int]] = {}
        for tp in partitions:
            topics.setdefault(tp.topic, []).append(tp.partition)
        coordinator = await self._admin.find_coordinator(group)
        answer = await self._admin._send_request(OffsetFetchRequest(group, list(topics.items())), coordinator)
        _raise_for(getattr(answer, "error_code", 0))
        found = {}
        for topic, answers in answer.topics:
            for partition, offset, metadata, error_code in answers:
                _raise_for(error_code)
                found[TopicPartition(topic, partition)] = OffsetAndMetadata(offset, metadata or "")
        return found

    async def offsets_at(
        self, partitions: Sequence[TopicPartition], timestamp_ms: int
    ) -> dict[TopicPartition, int | None]:
        """The first offset whose event is not older than the time (ms since the epoch), `None` where all are older."""
        if not partitions:
            return {}
        asked = dict.fromkeys(partitions, timestamp_ms)
        found = await self._ask("look offsets up by time", self._consumer.offsets_for_times(asked))
        return {tp: None if found.get(tp) is None else found[tp].offset for tp in partitions}

    async def read(self, partition: TopicPartition, start: int, stop: int) -> AsyncIterator[list[Record]]:
        """The committed events with `start <= offset < stop`, in batches, in order.

        Ends when Kafka has nothing more below `stop` to deliver. One reading at a time.

        Raises:
            KafkaReadError: nothing came for a minute, or retention has overtaken `start`.
        """
        consumer = self._consumer
        consumer.assign([partition])
        consumer.seek(partition, start)
        loop = asyncio.get_running_loop()
        heard_at, position = loop.time(), start
        while position < stop:
            batch = await self._ask(
                f"read {partition.topic}/{partition.partition} from offset {position}",
                consumer.getmany(partition, timeout_ms=POLL_MS, max_records=MAX_RECORDS),
            )
            before, position = position, await consumer.position(partition)
            if position > before:
                heard_at = loop.time()
            elif loop.time() - heard_at > SILENCE_TIMEOUT_SECONDS:
                raise KafkaReadError(
                    f"{partition.topic}/{partition.partition}: nothing came from offset {position} for "
                    f"{SILENCE_TIMEOUT_SECONDS:.0f} s. Is the partition's leader up, and is a transaction open there?"
                )
            records = [record_from_kafka(one) for one in batch.get(partition, ()) if one.offset < stop]
            if records:
                yield records

    async def _ask(self, what: str, answer: Any) -> Any:
        try:
            return await answer
        except OffsetOutOfRangeError as error:
            raise KafkaReadError(
                f"could not {what}: Kafka does not have that offset (any more). Retention may have overtaken this "
                "command: run it again."
            ) from error
        except TopicAuthorizationFailedError as error:
            raise KafkaReadError(
                f"could not {what}: this user may not. Add an ACL that allows READ and DESCRIBE on {_named(error)}."
            ) from error
        except GroupAuthorizationFailedError as error:
            raise KafkaReadError(
                f"could not {what}: this user may not. Add an ACL that allows DESCRIBE (or READ) on the group."
            ) from error
        except (KafkaError, TimeoutError, OSError) as error:
            raise KafkaReadError(f"could not {what}: {type(error).__name__}: {error}. Are the brokers up?") from error


def _raise_for(error_code: int) -> None:
    if error_code:
        raise for_code(error_code)()


def _named(error: Exception) -> str:
    topics = error.args[0] if error.args else ()
    names = [str(name) for name in topics] if isinstance(topics, Iterable) and not isinstance(topics, str) else [topics]
    return "the topic " + ", ".join(str(name) for name in names) if names else "the topics"
