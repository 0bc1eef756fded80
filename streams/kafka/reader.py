"""Kafka as the commands read it: offsets and events, without joining the consumer group or changing anything.

Events are read `read_committed`, as the worker reads them, so that both see the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import OffsetSpec

from streams.errors import KafkaReadError
from streams.kafka.admin import Committed, KafkaAdmin
from streams.kafka.connection import client_options
from streams.kafka.fetching import Fetcher
from streams.kafka.group_offsets import committed_offsets
from streams.kafka.identity import Identity
from streams.preflight import check_kafka
from streams.record import Record, TopicPartition
from streams.settings import Settings

SILENCE_TIMEOUT_SECONDS: Final = 60.0
COORDINATOR_TIMEOUT_SECONDS: Final = 30.0

K = TypeVar("K")
T = TypeVar("T")


class KafkaReader:
    """Reads topics, offsets and events with the worker's own connection settings; use it with `async with`.

    Every method raises `KafkaReadError` when Kafka does not answer or refuses, and `ConfigurationError` from the start
    when the cluster, a topic or the group cannot be used as configured.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.group = settings.consumer_group
        """Whose commits are read."""
        self._options = {**client_options(settings), "group.id": settings.consumer_group}
        self._names: list[str] = []
        self._admin = KafkaAdmin(settings)
        self._fetcher: Fetcher

    async def __aenter__(self) -> KafkaReader:
        self._names = await check_kafka(self._settings, self._admin)
        try:
            self._fetcher = Fetcher(self._settings)
        except KafkaException as error:
            raise _read_error("connect", error.args[0]) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._fetcher.close()

    @property
    def names(self) -> list[str]:
        """The topics that STREAMS_TOPICS means, there or not."""
        return self._names

    async def topics(self, names: Collection[str]) -> dict[str, list[int] | str]:
        """The partitions of each topic; where it cannot be described, why and what to do."""
        found = await _ask("describe the topics", self._admin.topics(names))
        return {
            name: _not_described(topic) if isinstance(topic, KafkaError) else [one.number for one in topic.partitions]
            for name, topic in found.items()
        }

    async def partitions_of(self, topic: str) -> list[int]:
        """The partitions of any topic. Raises `KafkaReadError` where there is no such topic."""
        what = f"describe the topic {topic}"
        found = (await _ask(what, self._admin.topics([topic])))[topic]
        if isinstance(found, KafkaError):
            raise _read_error(what, found)
        return [one.number for one in found.partitions]

    async def identities(self, topics: Collection[str]) -> dict[str, Identity]:
        """Which topic each name stands for now. Raises `KafkaReadError` where there is no such topic."""
        what = "read which topics these are"
        cluster_id = await _ask(what, self._admin.cluster_id(topics))
        found = _all_told(await _ask(what, self._admin.topics(topics)), what)
        return {name: Identity(cluster_id, topic.identity) for name, topic in found.items()}

    async def beginnings(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The earliest offset that Kafka still has, by partition."""
        return await self._offsets(partitions, OffsetSpec.earliest())

    async def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset behind the last event that may be read (the last stable offset), by partition."""
        return await self._offsets(partitions, OffsetSpec.latest())

    async def offsets_at(
        self, partitions: Sequence[TopicPartition], timestamp_ms: int
    ) -> dict[TopicPartition, int | None]:
        """The first offset whose event is not older than the time (ms since the epoch), `None` where all are older."""
        found = await self._offsets(partitions, OffsetSpec.for_timestamp(timestamp_ms))
        return {tp: offset if offset >= 0 else None for tp, offset in found.items()}

    async def _offsets(self, partitions: Sequence[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
        what = "read the offsets of the topics"
        return _all_told(await _ask(what, self._admin.offsets(partitions, spec)), what)

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        """What STREAMS_CONSUMER_GROUP has committed; partitions without a commit are left out."""
        what = f"read the offsets of the group {self.group}"
        asked = committed_offsets(self._options, self.group, partitions, COORDINATOR_TIMEOUT_SECONDS)
        found = _all_told(await _ask(what, asked), what)
        return {tp: one for tp, one in found.items() if one is not None}

    async def read(self, partition: TopicPartition, start: int, stop: int) -> AsyncIterator[list[Record]]:
        """The committed events with `start <= offset < stop`, in batches, in order.

        Ends when Kafka has nothing more below `stop` to deliver. One reading at a time.

        Raises:
            KafkaReadError: nothing came for a minute, or retention has overtaken `start`.
        """
        what = f"read {partition} from offset {start}"
        try:
            async with aclosing(self._fetcher.read(partition, start, stop, SILENCE_TIMEOUT_SECONDS)) as batches:
                async for batch in batches:
                    yield batch
        except KafkaException as error:
            raise _read_error(what, error.args[0]) from error


async def _ask(what: str, answer: Awaitable[T]) -> T:
    try:
        return await answer
    except KafkaException as error:
        raise _read_error(what, error.args[0]) from error


def _all_told(found: Mapping[K, T | KafkaError], what: str) -> dict[K, T]:
    """The answers, where none is a refusal."""
    told: dict[K, T] = {}
    for key, answer in found.items():
        if isinstance(answer, KafkaError):
            raise _read_error(f"{what} ({key})", answer)
        told[key] = answer
    return told


_REMEDIES: Final = {
    KafkaError._AUTO_OFFSET_RESET: (
        "Kafka does not have that offset (any more). Retention may have overtaken this command: run it again."
    ),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (
        "this user may not. Add an ACL that allows READ and DESCRIBE on the topic."
    ),
    KafkaError.GROUP_AUTHORIZATION_FAILED: (
        "this user may not. Add an ACL that allows DESCRIBE (or READ) on the group."
    ),
    KafkaError.UNKNOWN_TOPIC_OR_PART: "the topic does not exist, or this user may not see it.",
    KafkaError._UNKNOWN_PARTITION: "the topic has no such partition.",
    KafkaError.LEADER_NOT_AVAILABLE: "it has no leader. Start the broker that holds it again, or see why it hangs.",
    KafkaError._TIMED_OUT: (
        "no answer. Are the brokers up, has the partition a leader, and is a transaction open there?"
    ),
}


def _not_described(error: KafkaError) -> str:
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return (
            "the topic does not exist, or this user may not see it. Correct the name in STREAMS_TOPICS, or take it out "
            "where the topic was deleted on purpose; else create it again, or allow DESCRIBE on it"
        )
    return _remedy(error).rstrip(".")


def _remedy(error: KafkaError) -> str:
    return _REMEDIES.get(error.code(), f"{error.name()}: {error.str()}. Are the brokers up?")


def _read_error(what: str, error: KafkaError) -> KafkaReadError:
    return KafkaReadError(f"could not {what}: {_remedy(error)}")
