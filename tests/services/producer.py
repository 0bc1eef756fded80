"""Publishes events and remembers what Kafka then holds: the expectation that `archive` compares S3 with."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tests.services.archive import Content, Position

Expected = dict[Position, Content]


class EventProducer:
    """A confluent_kafka producer; `settings` are librdkafka's (`compression.type`, ...)."""

    def __init__(self, bootstrap_servers: str, settings: Mapping[str, Any] | None = None) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "linger.ms": 5,
                # A batch that is sent again after a broker's death must not be there twice.
                "enable.idempotence": True,
                "message.max.bytes": 8 * 1024 * 1024,
                # A broker that is killed on purpose is not news.
                "log_level": 0,
                **(settings or {}),
            }
        )

    def produce(
        self,
        topic: str,
        events: Iterable[Content | bytes],
        *,
        partition: int | None = None,
        timeout_seconds: float = 60,
    ) -> Expected:
        """Publish events, each `(key, value, headers)` or only a value, and return them by position once acknowledged.

        Without `partition` Kafka's partitioner chooses.
        """
        expected: Expected = {}
        failures: list[KafkaError] = []
        for event in events:
            content: Content = (None, event, ()) if isinstance(event, bytes) else event
            self._publish(topic, content, partition, expected, failures)
        left = self._producer.flush(timeout_seconds)
        if left or failures:
            raise AssertionError(f"{left} events of {topic} were not published, {len(failures)} failed: {failures[:3]}")
        return expected

    def _publish(
        self,
        topic: str,
        content: Content,
        partition: int | None,
        expected: Expected,
        failures: list[KafkaError],
    ) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failures.append(error)
                return
            where, offset = message.partition(), message.offset()
            assert where is not None
            assert offset is not None
            expected[topic, where, offset] = content

        key, value, headers = content
        options: dict[str, Any] = {} if partition is None else {"partition": partition}
        while True:
            try:
                self._producer.produce(
                    topic, value=value, key=key, headers=list(headers), on_delivery=delivered, **options
                )
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)  # librdkafka's queue is full: let it send some


class TransactionalProducer:
    """Publishes in transactions, for tests of `read_committed`: each leaves a marker, and so a gap, in the offsets."""

    def __init__(self, bootstrap_servers: str) -> None:
        settings = {"transactional.id": f"streams-tests-{uuid.uuid4()}"}
        self._events = EventProducer(bootstrap_servers, settings)
        self._producer = self._events._producer
        self._producer.init_transactions(30)

    def commit(self, topic: str, events: Iterable[Content | bytes], *, partition: int | None = None) -> Expected:
        """Publish in a transaction that commits; the events are to be archived."""
        self._producer.begin_transaction()
        expected = self._events.produce(topic, events, partition=partition)
        self._producer.commit_transaction(30)
        return expected

    def abort(self, topic: str, events: Iterable[Content | bytes], *, partition: int | None = None) -> Expected:
        """Publish in a transaction that aborts; the events must never be seen."""
        self._producer.begin_transaction()
        unseen = self._events.produce(topic, events, partition=partition)
        self._producer.abort_transaction(30)
        return unseen

    def __enter__(self) -> TransactionalProducer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            try:
                self._producer.abort_transaction(5)
            except KafkaException:
                return  # there was none; the test's own error is the one to see
