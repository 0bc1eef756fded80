"""The requests that `doctor` sends to Kafka: answers and error codes as they are, nothing changed, no group joined.

Raw requests, because aiokafka's clients retry what is refused, or hide which of several rights is missing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from aiokafka import TopicPartition as TP
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError, NoError, for_code
from aiokafka.protocol.admin import DescribeConfigsRequest, DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords

from streams.doctor.connection import Address
from streams.settings import Settings

REQUEST_LIMIT_SECONDS: Final = 10.0
COORDINATOR_LIMIT_SECONDS: Final = 10.0
EARLIEST: Final = -2
LATEST: Final = -1
READ_COMMITTED: Final = 1
_TOPIC: Final = 2  # of ConfigResource.Type
_FETCHES_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as the metadata has it; `leader` is -1 where there is none."""

    number: int
    leader: int
    replicas: int
    in_sync: int


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the metadata has it; `error` is aiokafka's class, `NoError` where all is well."""

    name: str
    error: type[KafkaError]
    partitions: tuple[Partition, ...] = ()


@dataclass(frozen=True, slots=True)
class Metadata:
    """Brokers as they advertise themselves, by id, and topics."""

    brokers: dict[int, Address]
    topics: tuple[Topic, ...]


@dataclass(frozen=True, slots=True)
class Fetched:
    """The first record at or behind an offset; `offset` is `None` where nothing is there (yet)."""

    error: type[KafkaError]
    offset: int | None = None
    timestamp_ms: int | None = None
    mean_bytes: float | None = None
    """Of the values in its batch."""


async def ask_metadata(connection: Any, topics: Sequence[str] | None) -> Metadata:
    """Brokers and topics, asked over one open connection; `None` asks for all topics that this user may see."""
    names = None if topics is None else list(topics)
    answer = await connection.send(MetadataRequest(names, allow_auto_topic_creation=False))
    brokers = {node: Address(host, port) for node, host, port, *_ in answer.brokers}
    return Metadata(brokers, tuple(_topic(*topic) for topic in answer.topics))


def _topic(code: int, name: str, *rest: Any) -> Topic:
    partitions = [
        Partition(number, leader, len(replicas), len(in_sync)) for _, number, leader, replicas, in_sync, *_ in rest[-1]
    ]
    return Topic(name, for_code(code), tuple(sorted(partitions, key=lambda one: one.number)))


class Cluster:
    """Sends requests to the brokers that they are for; use it with `async with`. Every request has a time limit.

    Methods raise `KafkaError` when no broker answers that could; a leader that is away costs only its own partitions.
    """

    def __init__(self, settings: Settings, security: Mapping[str, Any]) -> None:
        self._client = AIOKafkaClient(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            client_id=settings.kafka_client_id,
            request_timeout_ms=int(REQUEST_LIMIT_SECONDS * 1000),
            **security,
        )
        self._fetching = asyncio.Semaphore(_FETCHES_AT_ONCE)

    async def __aenter__(self) -> Cluster:
        try:
            await self._client.bootstrap()
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.close()

    # -- topics -------------------------------------------------------------------------------------------------------

    async def configurations(
        self, topics: Sequence[str], names: Sequence[str]
    ) -> dict[str, dict[str, str] | type[KafkaError]]:
        """The effective settings of each topic, or why they are not told (needs DESCRIBE_CONFIGS on the topic)."""
        request = DescribeConfigsRequest([(_TOPIC, topic, list(names)) for topic in topics])
        answer = await self._send_to_any(request)
        return {
            topic: {entry[0]: entry[1] for entry in entries} if code == 0 else for_code(code)
            for code, _, _, topic, entries in answer.resources
        }

    async def offsets(self, leaders: Mapping[TP, int], timestamp: int) -> dict[TP, int | type[KafkaError]]:
        """For each partition the first (`EARLIEST`) or last stable (`LATEST`) offset, or why it is not told."""
        by_leader: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for tp, leader in leaders.items():
            by_leader[leader][tp.topic].append((tp.partition, timestamp))
        found: dict[TP, int | type[KafkaError]] = {}
        for leader, topics in by_leader.items():
            try:
                answer = await self._client.send(leader, OffsetRequest(-1, READ_COMMITTED, list(topics.items())))
            except KafkaError as error:  # the partitions of other leaders can still be looked at
                found |= {tp: type(error) for tp, node in leaders.items() if node == leader}
                continue
            for topic, partitions in answer.topics:
                for number, code, _, offset, *_ in partitions:
                    found[TP(topic, number)] = offset if code == 0 else for_code(code)
        return found

    async def fetch(self, tp: TP, leader: int, offset: int) -> Fetched:
        """The record at an offset, or the next one behind it (needs READ on the topic).

        One byte is asked for: a broker sends the first batch whole all the same (KIP-74).
        """
        request = FetchRequest(0, 0, 1, READ_COMMITTED, [(tp.topic, [(tp.partition, offset, 1)])])
        try:
            async with self._fetching:
                answer = await self._client.send(leader, request)
        except KafkaError as error:
            return Fetched(type(error))
        partition = answer.topics[0][1][0]
        code, batches = partition[1], partition[-1]
        if code:
            return Fetched(for_code(code))
        return first_record(batches or b"", offset)

    async def _send_to_any(self, request: Any) -> Any:
        """The answer of the first broker that gives one."""
        brokers = [broker.nodeId for broker in self._client.cluster.brokers()]
        for node in brokers[:-1]:
            try:
                return await self._client.send(node, request)
            except KafkaError:
                continue
        return await self._client.send(brokers[-1], request)

    # -- the group ----------------------------------------------------------------------------------------------------

    async def coordinator(self, group: str) -> int:
        """The broker that the group's members talk to; one that is still being chosen is waited for.

        Needs DESCRIBE on the group. Raises the `KafkaError` that the broker answers.
        """
        deadline = asyncio.get_running_loop().time() + COORDINATOR_LIMIT_SECONDS
        while True:
            try:
                node: int = await self._client.coordinator_lookup(CoordinationType.GROUP, group)
                return node
            except KafkaError as error:
                if not error.retriable or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def describe_group(self, coordinator: int, group: str) -> tuple[str, list[str]]:
        """State and members (`client id at host`) of the group. Raises the `KafkaError` that the broker answers."""
        answer = await self._client.send(coordinator, DescribeGroupsRequest([group]))
        code, _, state, _, _, members, *_ = answer.groups[0]
        _raise(code)
        return state, [f"{client} at {host.lstrip('/')}" for _, client, host, *_ in members]

    async def try_group_read(self, coordinator: int, group: str) -> type[KafkaError]:
        """What the coordinator says to a heartbeat of a member that does not exist.

        The one request that needs READ on the group and can change nothing in it: the right is checked first, then an
        unknown member is turned away (UNKNOWN_MEMBER_ID). Joining would cause a rebalance, committing an offset might
        store it, and an empty commit is answered without saying whether it was allowed.
        """
        answer = await self._client.send(coordinator, HeartbeatRequest(group, -1, "streams-doctor"))
        error: type[KafkaError] = for_code(answer.error_code)
        return error

    async def committed(self, coordinator: int, group: str, partitions: Iterable[TP]) -> dict[TP, int]:
        """The committed offsets; partitions without a commit are left out. Raises the broker's `KafkaError`."""
        by_topic: dict[str, list[int]] = defaultdict(list)
        for tp in partitions:
            by_topic[tp.topic].append(tp.partition)
        answer = await self._client.send(coordinator, OffsetFetchRequest(group, list(by_topic.items())))
        _raise(getattr(answer, "error_code", 0))
        found = {}
        for topic, entries in answer.topics:
            for number, offset, _, code in entries:
                _raise(code)
                if offset >= 0:
                    found[TP(topic, number)] = offset
        return found


def first_record(batches: bytes, offset: int) -> Fetched:
    """The first record at or behind `offset` among the batches of an answer."""
    records = MemoryRecords(batches)
    while records.has_next():
        batch: Any = list(records.next_batch())
        for record in batch:
            if record.offset >= offset:
                mean_bytes = sum(len(one.value or b"") for one in batch) / len(batch)
                return Fetched(NoError, record.offset, record.timestamp, mean_bytes)
    return Fetched(NoError)


def _raise(code: int) -> None:
    if code:
        raise for_code(code)()
