"""`KafkaReader` on the real broker: what it reads is what the worker would be given, and nothing changes by it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as AIOKafkaTopicPartition
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as _TopicPartition

from streams.errors import ConfigurationError, KafkaReadError
from streams.kafka.admin import Committed
from streams.kafka.reader import KafkaReader
from streams.record import TopicPartition
from streams.settings import Settings
from tests.conftest import MakeTopic, Produce
from tests.services.kafka import KafkaBroker
from tests.services.producer import TransactionalProducer


def _settings(broker: KafkaBroker, topics: str, group: str) -> Settings:
    return Settings(
        kafka_bootstrap_servers=broker.bootstrap_servers, topics=topics, consumer_group=group, s3_bucket="unused"
    )


async def _offsets(kafka: KafkaReader, tp: TopicPartition, start: int, stop: int) -> list[int]:
    return [record.offset async for batch in kafka.read(tp, start, stop) for record in batch]


async def test_reads_exactly_the_range(
    broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, group: str
) -> None:
    """Start is in, stop is not, and the events are those that were published."""
    topic = make_topic(2)
    expected = produce(topic, [b"%d" % number for number in range(2500)], partition=1)
    async with KafkaReader(_settings(broker, topic, group)) as kafka:
        assert {topic: [0, 1]} == await kafka.topics(kafka.names)
        tp = TopicPartition(topic, 1)
        records = [record async for batch in kafka.read(tp, 100, 2400) for record in batch]
        assert [expected[topic, 1, offset][1] for offset in range(100, 2400)] == [record.value for record in records]
        assert [] == await _offsets(kafka, tp, 100, 100)
        assert {tp: 0} == await kafka.beginnings([tp])
        assert {tp: 2500} == await kafka.ends([tp])
        assert {} == await kafka.committed([tp])


async def test_markers_and_aborted_events_are_passed_over(
    broker: KafkaBroker, make_topic: MakeTopic, group: str
) -> None:
    """A reading up to the end ends, although the last offsets hold a marker; aborted events are not there."""
    topic = make_topic()
    with TransactionalProducer(broker.bootstrap_servers) as producer:
        producer.commit(topic, [b"a", b"b"], partition=0)
        producer.abort(topic, [b"never"], partition=0)
        producer.commit(topic, [b"c"], partition=0)
    async with KafkaReader(_settings(broker, topic, group)) as kafka:
        tp = TopicPartition(topic, 0)
        end = (await kafka.ends([tp]))[tp]
        assert 7 == end
        assert [0, 1, 5] == await _offsets(kafka, tp, 0, end)
        assert [] == await _offsets(kafka, tp, 6, end)


async def test_times(broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, group: str) -> None:
    """The first offset at a time, `None` past the last event."""
    topic = make_topic()
    produce(topic, [b"a", b"b"], partition=0)
    tp = TopicPartition(topic, 0)
    async with KafkaReader(_settings(broker, topic, group)) as kafka:
        assert {tp: 0} == await kafka.offsets_at([tp], 0)
        assert {tp: None} == await kafka.offsets_at([tp], 32_503_680_000_000)


async def test_an_offset_that_is_gone_is_an_error(
    broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, group: str
) -> None:
    """Reading what Kafka does not have says so, instead of calling it absent."""
    topic = make_topic()
    produce(topic, [b"a", b"b"], partition=0)
    async with KafkaReader(_settings(broker, topic, group)) as kafka:
        with pytest.raises(KafkaReadError, match="does not have that offset"):
            await _offsets(kafka, TopicPartition(topic, 0), 10, 12)
        with pytest.raises(KafkaReadError, match="describe the topic no-such-topic: the topic does not exist"):
            await kafka.partitions_of("no-such-topic")
        found = await kafka.topics([topic, "no-such-topic"])
        assert [0] == found[topic]
        assert "Correct the name in STREAMS_TOPICS" in str(found["no-such-topic"])


async def test_a_missing_topic_is_a_configuration_error(broker: KafkaBroker, group: str) -> None:
    """The same message as from the worker."""
    with pytest.raises(ConfigurationError, match="STREAMS_TOPICS"):
        async with KafkaReader(_settings(broker, "no-such-topic", group)):
            pass


async def test_metadata_of_commits_is_exact(broker: KafkaBroker, make_topic: MakeTopic, group: str) -> None:
    """Whoever has committed it: confluent-kafka's own function adds what lies behind the metadata in memory."""
    topic = make_topic(40)
    expected = {TopicPartition(topic, number): Committed(number, "a" * number) for number in range(40)}
    await _commit(broker, group, {tp: one for tp, one in expected.items() if tp.partition % 2})
    worker = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": group})
    mine = [_TopicPartition(*tp, one.offset, one.metadata) for tp, one in expected.items() if tp.partition % 2 == 0]
    worker.commit(offsets=mine, asynchronous=False)
    worker.close()
    async with KafkaReader(_settings(broker, topic, group)) as kafka:
        for _ in range(5):
            assert expected == await kafka.committed(list(expected))


async def _commit(broker: KafkaBroker, group: str, commits: Mapping[TopicPartition, Committed]) -> None:
    """As the worker did before it used librdkafka."""
    offsets = {AIOKafkaTopicPartition(*tp): (one.offset, one.metadata) for tp, one in commits.items()}
    async with AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, group_id=group, enable_auto_commit=False
    ) as consumer:
        consumer.assign(list(offsets))
        await consumer.commit(offsets)
