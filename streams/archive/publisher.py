"""Transactions that publish restored events and, in the same breath, how far the restore is.

Between `restore` and Kafka. Each transaction publishes events of one source partition and commits, in a consumer group
of its own, how far that partition is: both or neither, whenever the process ends (KIP-98).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as _TopicPartition

from streams.archive.restore_errors import NOT_ITS_FAULT, RestoreError, explained, kafka_error, refusal
from streams.archive.target_topic import TargetTopic
from streams.kafka.raw_names import needs_raw_names, produce_raw_names
from streams.record import Record

PATIENCE_SECONDS: Final = 90.0
"""How long a transaction may take; the brokers abort one that is open for a minute."""
TRANSACTION_TIMEOUT_MS: Final = 60_000
CLOSE_SECONDS: Final = 10.0
CALL_SECONDS: Final = 1.0
"""Longest call of librdkafka that may be resumed: so that a process that is to end does not wait for its thread."""
OFFSETS_SECONDS: Final = 30.0
"""The same for committing offsets in the transaction, which may not be resumed."""
RETRY_PAUSE_SECONDS: Final = 0.1
BATCH_BYTES: Final = 256 * 1024
LINGER_MS: Final = 20
RETRY_BACKOFF_MS: Final = 20
"""A transaction's beginning is refused while the broker still ends the one before: librdkafka's 100 ms add up."""
MAX_EVENT_BYTES: Final = 1_000_000_000
"""librdkafka's highest: the broker is the one to say what is too large, for librdkafka counts more than is sent."""
NO_TIMESTAMP: Final = -1
ANY_PARTITION: Final = -1


def producer_options(connection: dict[str, Any], name: str, target: TargetTopic) -> dict[str, Any]:
    """How librdkafka publishes: in order, in transactions of this name, in batches that the topic takes."""
    return {
        **connection,
        "transactional.id": name,
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        "batch.size": min(BATCH_BYTES, target.max_batch_bytes or BATCH_BYTES),
        "message.max.bytes": MAX_EVENT_BYTES,
        "linger.ms": LINGER_MS,
        "retry.backoff.ms": RETRY_BACKOFF_MS,
        "partitioner": "murmur2_random",  # the Java clients' choice for events with a key
        "delivery.report.only.error": True,
        "log_level": 0,  # what it logs is in our messages
    }


class Publisher:
    """Publishes in transactions, each with the progress that it means; `open` it first, `close` it at the end.

    librdkafka's calls block: they are made by one thread, one after the other.
    """

    def __init__(
        self,
        connection: dict[str, Any],
        name: str,
        target: TargetTopic,
        *,
        repartition: bool,
        accept_time_shift: bool = False,
    ) -> None:
        self.name = name
        self._target = target
        self._repartition = repartition
        self._accept_time_shift = accept_time_shift
        self._options = producer_options(connection, name, target)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._producer: Any = None
        self._undelivered: list[tuple[Record, KafkaError]] = []

    async def open(self) -> None:
        """Shut out every other publisher of the name, and end the transaction that it may have left open."""
        with explained("begin", self._target.name, self.name):
            self._producer = await self._call(partial(Producer, self._options))
            self._group = await self._call(partial(_group_metadata, self.name))
            await self._resumed(self._producer.init_transactions, monotonic() + PATIENCE_SECONDS)

    async def close(self) -> None:
        """Let go of the connections; a transaction that is left open is aborted by the next run."""
        if self._producer is not None:
            with suppress(TimeoutError, KafkaException):
                await asyncio.wait_for(self._call(self._let_go), CLOSE_SECONDS)
        self._thread.shutdown(wait=False)

    def _let_go(self) -> None:
        self._producer.purge()  # else closing waits until everything is delivered
        self._producer.close()

    async def publish(self, records: Sequence[Record], offset: int, text: str) -> None:
        """All these events and the progress (`offset`, `text`), or nothing of it.

        Raises `RestoreError`; run the restore again then.
        """
        for record in records:
            self._check(record)
        with explained("publish", self._target.name, self.name):
            try:
                await self._publish(records, offset, text)
            except BaseException:
                # Else readers of the topic would wait for the end of the transaction until it times out.
                with suppress(TimeoutError, KafkaException):
                    await self._resumed(self._producer.abort_transaction, monotonic() + CLOSE_SECONDS)
                raise

    async def _publish(self, records: Sequence[Record], offset: int, text: str) -> None:
        deadline = monotonic() + PATIENCE_SECONDS
        self._undelivered = []
        try:
            await self._call(partial(self._send, records))
            progress = [_TopicPartition(self._target.name, 0, offset, text)]
            await self._send_offsets(progress)
            await self._resumed(self._producer.commit_transaction, deadline)
        except KafkaException as error:
            raise self._refusal(error, records) or error from error

    def _send(self, records: Sequence[Record]) -> None:
        self._producer.begin_transaction()
        for record in records:
            self._produce(record)

    async def _send_offsets(self, progress: Sequence[_TopicPartition]) -> None:
        """An event that is refused meanwhile makes this an "erroneous state"; asked again, librdkafka says why."""
        send = partial(self._producer.send_offsets_to_transaction, progress, self._group, OFFSETS_SECONDS)
        try:
            await self._call(send)
        except KafkaException as error:
            problem = kafka_error(error)
            if problem is None or problem.code() != KafkaError._STATE:
                raise
            await self._call(send)

    def _produce(self, record: Record) -> None:
        partition = ANY_PARTITION if self._repartition else record.partition
        timestamp_ms = NO_TIMESTAMP if record.timestamp_ms is None else record.timestamp_ms or 1
        if needs_raw_names(record.headers):
            produce_raw_names(self._producer, self._target.name, record, partition=partition, timestamp_ms=timestamp_ms)
            return
        self._producer.produce(
            self._target.name,
            record.value,
            record.key,
            partition,
            on_delivery=partial(self._not_delivered, record),
            timestamp=timestamp_ms,
            headers=list(record.headers),
        )

    def _not_delivered(self, record: Record, error: KafkaError, _message: Any) -> None:
        self._undelivered.append((record, error))

    def _check(self, record: Record) -> None:
        """Raises `RestoreError` for an event that the topic would not take, or not as it was."""
        if self._target.is_compacted and record.key is None:
            raise RestoreError(
                f"{record.position} has no key, and {self._target.name} is compacted, which takes none without. "
                "Restore to a topic with cleanup.policy=delete."
            )
        exact = record.timestamp_ms != 0 or self._target.stamps_events or self._accept_time_shift
        if not exact:
            raise RestoreError(
                f"{record.position} has the time 0 (1970-01-01T00:00:00.000Z), which librdkafka takes for the present "
                "moment. Restore such events with the time 1 (a millisecond later) by --accept-time-shift."
            )

    def _refusal(self, error: KafkaException, records: Sequence[Record]) -> RestoreError | None:
        """Which events the topic did not take, if that is why."""
        at_fault = [(record, problem) for record, problem in self._undelivered if problem.code() not in NOT_ITS_FAULT]
        sent = [record for record, _ in at_fault] or records
        said = kafka_error(error)
        codes = [*([] if said is None else [said.code()]), *(problem.code() for _, problem in at_fault)]
        found = (refusal(code, self._target.name, sent, self._target.max_batch_bytes) for code in codes if sent)
        return next((one for one in found if one is not None), None)

    async def _resumed(self, call: Callable[[float], Any], deadline: float) -> None:
        """`call(seconds)`, again and again while librdkafka says that it may be resumed, until the deadline.

        Raises:
            KafkaException: it failed, or was not done in time.
        """
        while True:
            try:
                await self._call(partial(call, CALL_SECONDS))
            except KafkaException as error:
                problem = kafka_error(error)
                if problem is None or not problem.retriable() or monotonic() > deadline:
                    raise
                if problem.code() != KafkaError._TIMED_OUT:
                    await asyncio.sleep(RETRY_PAUSE_SECONDS)
            else:
                return

    async def _call(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


def _group_metadata(name: str) -> Any:
    """What offsets are committed under; the consumer is there for nothing else and talks to no broker."""
    consumer = Consumer({"group.id": name, "log_level": 0})
    try:
        return consumer.consumer_group_metadata()
    finally:
        consumer.close()
