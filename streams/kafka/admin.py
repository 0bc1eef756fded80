"""Questions to the cluster that join no group and change nothing: topics with their identity, offsets, settings.

One `KafkaAdmin` a process. Every method but `cluster` awaits librdkafka's answer without holding a thread. All are
bounded in time, and answer partition by partition: one that has no leader costs only its own answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as _TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from streams.kafka.connection import client_options
from streams.record import TopicPartition
from streams.settings import Settings

REQUEST_SECONDS: Final = 10.0
NO_EVENT_THAT_YOUNG: Final = -1
"""ListOffsets' answer for a moment behind the last event."""
MOCK_CLUSTER: Final = "mockCluster"
"""How the id of librdkafka's mock cluster begins (`make demo`); it has no controller, which topic ids are asked of."""
COORDINATOR_SECONDS: Final = 20.0
_COORDINATOR_PAUSE_SECONDS: Final = 0.2
_URL_SAFE: Final = str.maketrans("+/", "-_")
"""librdkafka writes a topic's id in the other alphabet of base64 than Kafka itself, whose tools show `-` and `_`."""
NO_TOPIC_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"
"""The id of zeros, which a broker before 2.8 (KIP-516) is taken to answer."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as the metadata has it; `leader` is the broker's id, `None` where there is none."""

    number: int
    leader: int | None
    replicas: int
    in_sync: int


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the metadata has it.

    `identity` is Kafka's topic id (22 characters of base64url, KIP-516), `None` where the brokers know none.
    """

    name: str
    identity: str | None
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker as it advertises itself."""

    id: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """Brokers, and topics (without their identity) by name; in a topic's place the error that the broker has for it."""

    identity: str
    """The cluster's id."""
    brokers: tuple[Broker, ...]
    topics: Mapping[str, Topic | KafkaError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group as its coordinator sees it; one that does not exist is `Dead` and has no members."""

    state: str
    """`Stable`, `Empty`, `PreparingRebalancing`, …"""
    members: tuple[str, ...]
    """`client id at host`."""
    coordinator: int | None
    operations: frozenset[str] | None
    """What this user may do with it (`READ`, `DESCRIBE`, …); `None` where the broker does not say (KIP-430)."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a group has committed for a partition."""

    offset: int
    metadata: str


class KafkaAdmin:
    """Asks the cluster; safe to use from any task of one event loop.

    Answers that concern one topic or partition hold a `KafkaError` in its place where the broker refused that one.
    Methods raise `KafkaException` where nothing at all could be had (no broker, no coordinator, no right).
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cluster_id: str | None = None

    def open(self) -> None:
        """Make librdkafka's client, which takes a second or more with AWS_MSK_IAM: call it in a thread.

        Without this the first question makes it. Raises `KafkaException` where it cannot be made (an unreadable key).
        """
        _ = self._client

    @cached_property
    def _client(self) -> Any:
        # Its log lines would only be handed out by polling it; what fails is in the answers.
        return AdminClient({**client_options(self._settings), "log_level": 0})

    async def cluster(self, topics: Iterable[str] | None = None) -> Cluster:
        """Brokers and topics (`None`: all that this user may see), told by any broker that can be reached.

        The others ask where a broker says that it is; this asks a bootstrap server where that is all there is.
        """
        names: list[str | None] = [None] if topics is None else [*sorted(set(topics))]
        answers = await asyncio.gather(*(asyncio.to_thread(self._list_topics, name) for name in names or [None]))
        found = {name: _listed_topic(topic) for answer in answers for name, topic in answer.topics.items()}
        brokers = [Broker(one.id, one.host, one.port) for one in answers[0].brokers.values()]
        identity = str(answers[0].cluster_id)
        return Cluster(identity, tuple(sorted(brokers, key=lambda one: one.id)), found)

    def _list_topics(self, name: str | None) -> Any:
        return self._client.list_topics(**({} if name is None else {"topic": name}), timeout=REQUEST_SECONDS)

    async def topics(self, names: Iterable[str]) -> dict[str, Topic | KafkaError]:
        """Identity and partitions of each topic."""
        wanted = sorted(set(names))
        if not wanted:
            return {}
        if (await self.cluster_id(wanted)).startswith(MOCK_CLUSTER):
            return dict((await self.cluster(wanted)).topics)
        futures = self._client.describe_topics(TopicCollection(wanted), request_timeout=REQUEST_SECONDS)
        return {name: _topic(found) for name, found in (await _each(futures)).items()}

    async def offsets(
        self, partitions: Iterable[TopicPartition], spec: OffsetSpec
    ) -> dict[TopicPartition, int | KafkaError]:
        """The first, last stable, or dated offset of each partition (`OffsetSpec`); -1 where no event is that young.

        For a partition whose leader gives no answer in time, librdkafka 2.16 reports no error but the offset -1001
        (`RD_KAFKA_OFFSET_INVALID`). That is an error here: as a number it would say that the partition is empty.
        """
        wanted = {_TopicPartition(tp[0], tp[1]): spec for tp in partitions}
        if not wanted:
            return {}
        futures = self._client.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_SECONDS
        )
        found = await _each(futures)
        return {
            TopicPartition(tp.topic, tp.partition): answer if isinstance(answer, KafkaError) else _offset(answer.offset)
            for tp, answer in found.items()
        }

    async def beginnings(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int | KafkaError]:
        """The earliest offset that Kafka still has, by partition."""
        return await self.offsets(partitions, OffsetSpec.earliest())

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int | KafkaError]:
        """The offset behind the last event that may be read (the last stable offset), by partition."""
        return await self.offsets(partitions, OffsetSpec.latest())

    async def group(self, name: str) -> Group:
        """State, members and rights (needs DESCRIBE on the group).

        Raises:
            KafkaException: the coordinator is away, loading or refuses.
        """
        futures = self._client.describe_consumer_groups(
            [name], include_authorized_operations=True, request_timeout=REQUEST_SECONDS
        )
        return _group(await asyncio.wrap_future(futures[name]))

    async def configurations(self, topics: Iterable[str]) -> dict[str, Mapping[str, str] | KafkaError]:
        """The effective settings of each topic (needs DESCRIBE_CONFIGS on it)."""
        wanted = [ConfigResource(ResourceType.TOPIC, name) for name in sorted(set(topics))]
        if not wanted:
            return {}
        found = await _each(self._client.describe_configs(wanted, request_timeout=REQUEST_SECONDS))
        return {
            resource.name: answer
            if isinstance(answer, KafkaError)
            else {entry.name: entry.value for entry in answer.values() if entry.value is not None}
            for resource, answer in found.items()
        }

    async def cluster_id(self, topics: Iterable[str]) -> str:
        """The cluster's id, asked for once, of any broker, with one of these topics: no controller is needed."""
        if self._cluster_id is None:
            self._cluster_id = (await self.cluster(sorted(topics)[:1])).identity
        return self._cluster_id


T = TypeVar("T")

_LOADING: Final = frozenset(
    {KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR}
)


async def once_coordinated(ask: Callable[[], Awaitable[T]], limit_seconds: float = COORDINATOR_SECONDS) -> T:
    """What `ask` answers as soon as the group has a coordinator: one is chosen anew when brokers start or go.

    Raises:
        KafkaException: any other refusal, or there was no coordinator until `limit_seconds` had passed.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_seconds
    while True:
        try:
            return await ask()
        except KafkaException as error:
            if error.args[0].code() not in _LOADING or loop.time() > deadline:
                raise
        await asyncio.sleep(_COORDINATOR_PAUSE_SECONDS)


async def _each(futures: Mapping[Any, Future[Any]]) -> dict[Any, Any]:
    """The result of each future, its `KafkaError` in place of a refusal.

    Raises:
        KafkaException: all were refused for the same local reason, so nobody was reached.
    """
    answers = await asyncio.gather(
        *(asyncio.wrap_future(future) for future in futures.values()), return_exceptions=True
    )
    found = {}
    for key, answer in zip(futures, answers, strict=True):
        if isinstance(answer, BaseException) and not isinstance(answer, KafkaException):
            raise answer
        found[key] = answer.args[0] if isinstance(answer, KafkaException) else answer
    failures = [one for one in found.values() if isinstance(one, KafkaError)]
    if len(failures) == len(found) and all(one.code() in _NOBODY_REACHED for one in failures):
        raise KafkaException(failures[0])
    return found


_NOBODY_REACHED: Final = frozenset(
    {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._AUTHENTICATION}
)


def _topic(found: Any) -> Topic | KafkaError:
    if isinstance(found, KafkaError):
        return found
    identity = str(found.topic_id).translate(_URL_SAFE)
    partitions = [
        Partition(one.id, None if one.leader is None else one.leader.id, len(one.replicas), len(one.isr))
        for one in found.partitions
    ]
    return Topic(
        found.name,
        None if identity == NO_TOPIC_ID else identity,
        tuple(sorted(partitions, key=lambda one: one.number)),
    )


def _listed_topic(found: Any) -> Topic | KafkaError:
    if found.error is not None:
        error: KafkaError = found.error
        return error
    partitions = [
        Partition(one.id, one.leader if one.leader >= 0 else None, len(one.replicas), len(one.isrs))
        for one in found.partitions.values()
    ]
    return Topic(found.topic, None, tuple(sorted(partitions, key=lambda one: one.number)))


def _group(found: Any) -> Group:
    operations = found.authorized_operations
    return Group(
        found.state.name.title().replace("_", ""),
        tuple(f"{one.client_id} at {one.host.lstrip('/')}" for one in found.members),
        None if found.coordinator is None else found.coordinator.id,
        None if operations is None else frozenset(one.name for one in operations),
    )


def _offset(told: int) -> int | KafkaError:
    if told < NO_EVENT_THAT_YOUNG:
        return KafkaError(KafkaError._TIMED_OUT, "the partition's leader has not answered in time")
    return told
