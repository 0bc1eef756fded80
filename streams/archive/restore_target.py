"""Kafka as restore needs it: what the target topic is like, how far a restore is, and publishers to go on with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from streams.archive.publisher import Publisher
from streams.archive.restore_errors import RestoreError, explained
from streams.archive.target_topic import TargetTopic
from streams.kafka.admin import KafkaAdmin
from streams.kafka.connection import client_options
from streams.kafka.group_offsets import committed_offsets
from streams.preflight import check_connection
from streams.record import TopicPartition
from streams.settings import Settings


class RestoreTarget:
    """Kafka as restore writes to it; use it with `async with`."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self.topic = topic
        self._configured = settings
        self._connection: dict[str, Any] = {
            **client_options(settings),
            "client.id": f"{settings.kafka_client_id}-restore",
        }
        self._admin: KafkaAdmin

    async def __aenter__(self) -> RestoreTarget:
        """Raises `ConfigurationError` where no broker can be used, with the setting to correct."""
        await check_connection(self._configured)
        self._admin = KafkaAdmin(self._configured)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Publishers close themselves; what asks holds nothing open that must be closed."""

    async def describe(self) -> TargetTopic:
        """The topic as it is. Raises `RestoreError` where there is none."""
        with explained(f"describe the topic {self.topic}", self.topic):
            found = (await self._admin.topics([self.topic]))[self.topic]
            if isinstance(found, KafkaError):
                raise self._unusable(found)
            numbers = tuple(partition.number for partition in found.partitions)
            if not numbers:
                raise RestoreError(f"the topic {self.topic} cannot be used: it has no partitions.")
            return TargetTopic(self.topic, numbers, await self._settings(), await self._events(numbers))

    def _unusable(self, error: KafkaError) -> Exception:
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return KafkaException(error)
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            return RestoreError(
                f"the topic {self.topic} does not exist (or this user may not see it). Create it, with at least "
                "as many partitions as the original and message.timestamp.type=CreateTime, or name another with "
                "--to-topic."
            )
        return RestoreError(f"the topic {self.topic} cannot be used: {error.str()}.")

    async def _settings(self) -> Mapping[str, str] | None:
        found = (await self._admin.configurations([self.topic]))[self.topic]
        return None if isinstance(found, KafkaError) else found

    async def _events(self, numbers: Sequence[int]) -> int:
        """Counted by offsets; 0 where this user may not ask for those."""
        where = [TopicPartition(self.topic, number) for number in numbers]
        try:
            beginnings, ends = _sum(await self._admin.beginnings(where)), _sum(await self._admin.ends(where))
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                return 0
            raise
        return ends - beginnings

    async def progress(self, name: str) -> tuple[int, str] | None:
        """Offset and text of the last transaction of the publisher `name`, `None` before its first.

        A transaction that is being committed is waited for, and no error is taken for "nothing yet": restore would
        publish events twice on that.
        """
        where = TopicPartition(self.topic, 0)
        with explained(f"read the progress of {name}", self.topic, name):
            found = (await committed_offsets(self._connection, name, [where]))[where]
            if isinstance(found, KafkaError):
                raise KafkaException(found)
            return None if found is None else (found.offset, found.metadata)

    @asynccontextmanager
    async def publisher(
        self, name: str, target: TargetTopic, *, repartition: bool, accept_time_shift: bool = False
    ) -> AsyncIterator[Publisher]:
        """A producer of transactions under this name; every other one of the same name is shut out from here on."""
        publisher = Publisher(
            self._connection, name, target, repartition=repartition, accept_time_shift=accept_time_shift
        )
        try:
            await publisher.open()
            yield publisher
        finally:
            await publisher.close()


def _sum(offsets: Mapping[TopicPartition, int | KafkaError]) -> int:
    """Of all partitions. Raises `KafkaException` where one has none."""
    total = 0
    for answer in offsets.values():
        if isinstance(answer, KafkaError):
            raise KafkaException(answer)
        total += answer
    return total
