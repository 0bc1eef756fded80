"""The topic that restored events go to: what it must be like, and transactions that also keep the progress.

Between `restore` and Kafka. Each transaction publishes events of one source partition and commits, in a consumer group
of its own, how far that partition is: both or neither, whenever the process ends (KIP-98). Opening a `Publisher`
ends what an earlier process of the same restore had left open, and keeps that process from going on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    BrokerResponseError,
    GroupAuthorizationFailedError,
    InvalidProducerEpoch,
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.structs import OffsetAndMetadata

from streams.errors import StreamsError
from streams.kafka_security import aiokafka_security_options
from streams.offset_fetch import stable_offset
from streams.record import Record
from streams.settings import Settings

PATIENCE_SECONDS: Final = 90.0
"""How long a transaction may take; the brokers abort one that is open for a minute."""
TRANSACTION_TIMEOUT_MS: Final = 60_000
CLOSE_SECONDS: Final = 10.0
BATCH_BYTES: Final = 256 * 1024
NO_TIMESTAMP: Final = -1
INVALID_RECORD: Final = 87
TOPIC_RESOURCE: Final = 2
NAME_PREFIX: Final = "streams-restore-"

_Part = tuple[asyncio.Future[Any], list[Record]]


class RestoreError(StreamsError):
    """Events cannot be published as asked; the message says what to do. What was published so far stays."""


@dataclass(frozen=True, slots=True)
class TargetTopic:
    """What must be known of a topic before events are restored to it; `None`: the user may not see its settings."""

    name: str
    partitions: tuple[int, ...]
    settings: Mapping[str, str] | None
    events: int
    """Offsets that it has at the moment, over all partitions."""

    @property
    def stamps_events(self) -> bool:
        """Whether it would replace the events' timestamps by the time of the restore."""
        return (self.settings or {}).get("message.timestamp.type") == "LogAppendTime"

    @property
    def is_compacted(self) -> bool:
        return "compact" in (self.settings or {}).get("cleanup.policy", "")

    @property
    def retention_ms(self) -> int | None:
        """How old an event may be there, by its timestamp; `None` where it stays, or nothing is known."""
        settings = self.settings or {}
        retention_ms = int(settings.get("retention.ms", -1))
        return retention_ms if retention_ms >= 0 and "delete" in settings.get("cleanup.policy", "delete") else None

    @property
    def max_batch_bytes(self) -> int | None:
        found = (self.settings or {}).get("max.message.bytes")
        return None if found is None else int(found)


class RestoreTarget:
    """Kafka as restore writes to it; use it with `async with`."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self.topic = topic
        self._servers = settings.kafka_bootstrap_servers
        self._options: dict[str, Any] = {
            "bootstrap_servers": settings.kafka_bootstrap_servers,
            "client_id": f"{settings.kafka_client_id}-restore",
            **aiokafka_security_options(settings),
        }
        self._client = AIOKafkaClient(**self._options)

    async def __aenter__(self) -> RestoreTarget:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it logs is in our messages
        try:
            await self._client.bootstrap()
        except KafkaConnectionError as error:
            await self._client.close()
            raise RestoreError(
                f"no broker of {self._servers} (STREAMS_KAFKA_BOOTSTRAP_SERVERS) could be used: {error}. "
                "`faust -A streams doctor` says why."
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.close()

    async def describe(self) -> TargetTopic:
        """The topic as it is. Raises `RestoreError` where there is none."""
        with _explained(f"describe the topic {self.topic}", self.topic):
            request = MetadataRequest([self.topic], allow_auto_topic_creation=False)
            answer = await self._client.send(self._client.get_random_node(), request)
            code, _, _, partitions, *_ = answer.topics[0]
            if code == UnknownTopicOrPartitionError.errno:
                raise RestoreError(
                    f"the topic {self.topic} does not exist (or this user may not see it). Create it, with at least "
                    "as many partitions as the original and message.timestamp.type=CreateTime, or name another with "
                    "--to-topic."
                )
            if code == TopicAuthorizationFailedError.errno:
                raise TopicAuthorizationFailedError(self.topic)
            numbers = tuple(sorted(partition[1] for partition in partitions))
            if code or not numbers:
                raise RestoreError(f"the topic {self.topic} cannot be used: {for_code(code).__name__}.")
            return TargetTopic(self.topic, numbers, await self._settings(), await self._events(numbers))

    async def _settings(self) -> Mapping[str, str] | None:
        request = DescribeConfigsRequest([(TOPIC_RESOURCE, self.topic, None)])
        answer = await self._client.send(self._client.get_random_node(), request)
        code, _, _, _, entries = answer.resources[0]
        return None if code else {entry[0]: entry[1] for entry in entries if entry[1] is not None}

    async def _events(self, partitions: Sequence[int]) -> int:
        """Counted by offsets, with a consumer of no group."""
        consumer = AIOKafkaConsumer(**self._options)
        await consumer.start()
        try:
            where = [TopicPartition(self.topic, number) for number in partitions]
            beginnings, ends = await consumer.beginning_offsets(where), await consumer.end_offsets(where)
            return sum(ends[tp] - beginnings[tp] for tp in where)
        except TopicAuthorizationFailedError:
            return 0
        finally:
            await consumer.stop()

    async def progress(self, name: str) -> tuple[int, str] | None:
        """Offset and text of the last transaction of the publisher `name`, `None` before its first."""
        with _explained(f"read the progress of {name}", self.topic, name):
            found = await stable_offset(self._client, name, TopicPartition(self.topic, 0))
        return None if found is None else (found.offset, found.metadata)

    @asynccontextmanager
    async def publisher(self, name: str, target: TargetTopic, *, repartition: bool) -> AsyncIterator[Publisher]:
        """A producer of transactions under this name; every other one of the same name is shut out from here on."""
        producer = AIOKafkaProducer(
            transactional_id=name,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            max_batch_size=_batch_bytes(target),
            **self._options,
        )
        try:
            with _explained("begin", self.topic, name):
                await asyncio.wait_for(producer.start(), PATIENCE_SECONDS)
                await producer.client._wait_on_metadata(self.topic)
            yield Publisher(producer, name, target, repartition=repartition)
        finally:
            with suppress(TimeoutError, KafkaError):  # a transaction that is left open is aborted by the next run
                await asyncio.wait_for(producer.stop(), CLOSE_SECONDS)


class Publisher:
    """Publishes in transactions, each with the progress that it means."""

    def __init__(self, producer: Any, name: str, target: TargetTopic, *, repartition: bool) -> None:
        self._producer = producer
        self.name = name
        self._target = target
        self._repartition = repartition
        self._choose = DefaultPartitioner()

    async def publish(self, records: Sequence[Record], offset: int, text: str) -> None:
        """All these events and the progress (`offset`, `text`), or nothing of it.

        Raises `RestoreError`; run the restore again then.
        """
        with _explained("publish", self._target.name, self.name):
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._publish(records, offset, text)
            except BaseException:
                # Else readers of the topic would wait for the end of the transaction until it times out.
                with suppress(TimeoutError, KafkaError, AssertionError):  # aiokafka asserts that it can be aborted
                    await asyncio.wait_for(self._producer.abort_transaction(), CLOSE_SECONDS)
                raise

    async def _publish(self, records: Sequence[Record], offset: int, text: str) -> None:
        await self._producer.begin_transaction()
        parts = await self._send(records)
        progress = {TopicPartition(self._target.name, 0): OffsetAndMetadata(offset, text)}
        await self._producer.send_offsets_to_transaction(progress, self.name)
        for future, sent in parts:
            await self._confirmed(future, sent)
        await self._producer.commit_transaction()

    async def _send(self, records: Sequence[Record]) -> list[_Part]:
        parts: list[_Part] = []
        open_batches: dict[int, tuple[BatchBuilder, list[Record]]] = {}
        for record in records:
            partition = self._partition(record)
            batch, sent = open_batches.get(partition) or (self._batch(record), [])
            if not _append(batch, record):
                parts.append(await self._send_batch(batch, sent, partition))
                batch, sent = self._batch(record), []
                _append(batch, record)
            sent.append(record)
            open_batches[partition] = batch, sent
        for partition, (batch, sent) in open_batches.items():
            parts.append(await self._send_batch(batch, sent, partition))
        return parts

    async def _send_batch(self, batch: BatchBuilder, sent: list[Record], partition: int) -> _Part:
        future = await self._producer.send_batch(batch, self._target.name, partition=partition)
        return asyncio.ensure_future(future), sent

    def _batch(self, record: Record) -> BatchBuilder:
        batch: BatchBuilder = self._producer.create_batch()
        return _AnyNameBatch(_batch_bytes(self._target)) if _has_raw_names(record) else batch

    def _partition(self, record: Record) -> int:
        if self._target.is_compacted and record.key is None:
            raise RestoreError(
                f"{record.position} has no key, and {self._target.name} is compacted, which takes none without. "
                "Restore to a topic with cleanup.policy=delete."
            )
        if not self._repartition:
            return record.partition
        partitions = list(self._target.partitions)
        chosen: int = self._choose(record.key, partitions, partitions)
        return chosen

    async def _confirmed(self, future: asyncio.Future[Any], sent: list[Record]) -> None:
        try:
            await future
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise RestoreError(
                f"{self._target.name} does not take {_range(sent)}: too large for its max.message.bytes"
                f"{'' if self._target.max_batch_bytes is None else f' ({self._target.max_batch_bytes:,})'}. "
                "Raise that, and run the same command again."
            ) from error
        except InvalidTimestampError as error:
            raise RestoreError(
                f"{self._target.name} does not take the timestamps of {_range(sent)}. Set its "
                "message.timestamp.before.max.ms and message.timestamp.after.max.ms to 9223372036854775807, and run "
                "the same command again."
            ) from error
        except BrokerResponseError as error:
            if getattr(error, "errno", None) != INVALID_RECORD:
                raise
            raise RestoreError(
                f"{self._target.name} does not take {_range(sent)}: the broker calls a record invalid. A compacted "
                "topic takes none without a key."
            ) from error


class _AnyNameBatch(BatchBuilder):
    """A batch whose header names need not be UTF-8 (`streams.header_names`): aiokafka's fast builder refuses those."""

    def __init__(self, batch_bytes: int) -> None:
        super().__init__(batch_bytes, 0, is_transactional=1)
        self._builder = _DefaultRecordBatchBuilderPy(2, 0, True, -1, -1, 0, batch_bytes)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._builder.set_producer_state(producer_id, producer_epoch, base_sequence)


class _RawName(str):
    """A header name that becomes the bytes that it was made from."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return str.encode(self, encoding, "surrogateescape")


def _append(batch: BatchBuilder, record: Record) -> bool:
    """Whether the event found room; the first of a batch always does."""
    headers = list(record.headers)
    if isinstance(batch, _AnyNameBatch):
        headers = [(_RawName(name), value) for name, value in headers]
    elif _has_raw_names(record):
        return False
    timestamp = NO_TIMESTAMP if record.timestamp_ms is None else record.timestamp_ms
    return batch.append(timestamp=timestamp, key=record.key, value=record.value, headers=headers) is not None


def _has_raw_names(record: Record) -> bool:
    """Whether a header name is not UTF-8; its bytes are then surrogates (PEP 383)."""
    return any("\udc80" <= letter <= "\udcff" for name, _ in record.headers if not name.isascii() for letter in name)


def _batch_bytes(target: TargetTopic) -> int:
    return min(BATCH_BYTES, target.max_batch_bytes or BATCH_BYTES)


def _range(sent: Sequence[Record]) -> str:
    if len(sent) == 1:
        return f"the event {sent[0].position}"
    return f"an event among {sent[0].position} to {sent[-1].position}"


@contextmanager
def _explained(what: str, topic: str, name: str = "") -> Iterator[None]:
    """Turns what Kafka says into a `RestoreError` that says what to do."""
    try:
        yield
    except (KafkaError, TimeoutError, OSError) as error:
        raise RestoreError(f"could not {what}: {_remedy(error, topic, name)}") from error


def _remedy(error: BaseException, topic: str, name: str) -> str:
    causes = list(_causes(error))

    def found(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if found(ProducerFenced, InvalidProducerEpoch):
        return f"another run of this restore ({name}) has taken over. Let that one finish."
    if found(TransactionalIdAuthorizationFailed):
        return f"this user may not. Add an ACL that allows WRITE on transactional ids prefixed {NAME_PREFIX}."
    if found(GroupAuthorizationFailedError):
        return f"this user may not. Add an ACL that allows READ on groups prefixed {NAME_PREFIX}."
    if found(TopicAuthorizationFailedError):
        return f"this user may not. Add an ACL that allows WRITE, READ and DESCRIBE on the topic {topic}."
    if found(TimeoutError):
        return "the brokers did not answer in time. Run the same command again: it goes on where it was."
    return f"{error!r}. Run the same command again: it goes on where it was."


def _causes(error: BaseException | None) -> list[BaseException]:
    causes = []
    while error is not None:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes
