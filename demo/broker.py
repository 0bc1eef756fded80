"""An embedded Kafka broker: librdkafka's mock cluster, which speaks the real protocol on a real port.

It lives as long as the producer object that asked for it. It makes topics when they are first written to, but cannot be
asked to create them, has no authentication, and serves one member per consumer group; the test suite uses Apache Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from demo.errors import DemoError

REQUEST_TIMEOUT_SECONDS = 10.0

Position = tuple[int, int]
"""Partition and offset: what names a message inside its topic."""
Published = dict[Position, bytes]


class EmbeddedBroker:
    """One broker on a free port of this machine; topics have four partitions."""

    def __init__(self) -> None:
        self._producer = Producer({"test.mock.num.brokers": 1, "log_level": 3, "linger.ms": 5})
        broker = next(iter(self._producer.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).brokers.values()))
        self.address = f"{broker.host}:{broker.port}"

    def publish(self, topic: str, values: Iterable[bytes]) -> Published:
        """Sends every value, without a key, and returns where the broker says that each of them landed."""
        landed: Published = {}
        failures: list[str] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            partition, offset, value = message.partition(), message.offset(), message.value()
            if error is not None or partition is None or offset is None or value is None:
                failures.append(str(error))
            else:
                landed[partition, offset] = value

        partitions = self._partition_count(topic)
        for number, value in enumerate(values):
            self._producer.produce(topic, value, partition=number % partitions, on_delivery=delivered)
        left_over = self._producer.flush(REQUEST_TIMEOUT_SECONDS)
        if failures or left_over:
            raise DemoError(f"{len(failures) + left_over} messages could not be published: {failures[:1]}")
        return landed

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """Each partition's committed offset; a partition without a commit is left out."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": group, "log_level": 3})
        try:
            asked = [TopicPartition(topic, partition) for partition in range(self._partition_count(topic))]
            answers = consumer.committed(asked, timeout=REQUEST_TIMEOUT_SECONDS)
        finally:
            consumer.close()
        return {answer.partition: answer.offset for answer in answers if answer.offset >= 0}

    def _partition_count(self, topic: str) -> int:
        """Asking for a topic's metadata also makes the topic, as on a broker that creates topics by itself."""
        return len(self._producer.list_topics(topic, timeout=REQUEST_TIMEOUT_SECONDS).topics[topic].partitions)
