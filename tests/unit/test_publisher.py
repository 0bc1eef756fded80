"""How restored events are handed to librdkafka: without a broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, murmur2

from streams.archive.publisher import Publisher, producer_options
from streams.archive.restore_errors import RestoreError, explained, refusal
from streams.archive.target_topic import TargetTopic
from streams.kafka.raw_names import needs_raw_names, produce_raw_names
from streams.record import Record
from tests.unit.memory_reader import event

NOBODY = {"bootstrap.servers": "127.0.0.1:1"}
ODD_NAME = "\udcfcmlaut"


def target(**settings: str) -> TargetTopic:
    return TargetTopic("copy", (0,), settings, 0)


@pytest.fixture
def producer() -> Iterator[Producer]:
    """It reaches nobody: what it takes stays in its queue, which has room for nine."""
    producer = Producer({**NOBODY, "queue.buffering.max.messages": 9, "log_level": 0})
    yield producer
    producer.purge()
    producer.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("", False), ("tenant", False), ("\u00fc\U0001f600", False), (ODD_NAME, True), ("a\0b", True), ("\ud800", True)],
)
def test_names_that_confluent_kafka_crashes_at_or_cuts(name: str, expected: bool) -> None:
    """Every other name goes the usual way."""
    assert expected == needs_raw_names((("plain", b""), (name, None)))


def test_raw_names_are_queued_like_any_event(producer: Producer) -> None:
    """Each call of librdkafka finds the producer behind confluent-kafka's object."""
    records = [
        Record("orders", 0, 1, 5, 0, key, value, ((ODD_NAME, None), ("a\0", b"")))
        for key in (None, b"", b"k")
        for value in (None, b"", b"v")
    ]
    for record in records:
        produce_raw_names(producer, "copy", record, partition=0, timestamp_ms=5)
    with pytest.raises(KafkaException, match="_QUEUE_FULL"):
        produce_raw_names(producer, "copy", records[0], partition=0, timestamp_ms=5)


def test_raw_names_that_are_not_taken_are_said(producer: Producer) -> None:
    """librdkafka's own error; the memory of the headers is ours again."""
    large = Record("orders", 0, 1, 5, 0, None, b"x" * 2_000_000, ((ODD_NAME, b""),))
    with pytest.raises(KafkaException) as raised:
        produce_raw_names(producer, "copy", large, partition=0, timestamp_ms=5)
    assert KafkaError.MSG_SIZE_TOO_LARGE == raised.value.args[0].code()


@pytest.mark.parametrize(
    ("key", "expected"),
    [(b"", 9), (b"k0", 5), (b"customer-7", 7), (b"\xff\x00", 7), ("\u00fc".encode(), 2)],
)
def test_partitions_are_those_of_the_java_clients(key: bytes, expected: int) -> None:
    """As before librdkafka: the numbers are those of the partitioner that restore had then."""
    assert expected == murmur2(key, 12)
    assert "murmur2_random" == producer_options({}, "name", target())["partitioner"]


def test_batches_fit_into_the_topic() -> None:
    """A batch that is larger than max.message.bytes would be refused with all its events."""
    assert 262_144 == producer_options({}, "name", target())["batch.size"]
    assert 5_000 == producer_options({}, "name", target(**{"max.message.bytes": "5000"}))["batch.size"]


@pytest.mark.parametrize(
    ("topic", "record", "words"),
    [
        (target(), event(7, timestamp_ms=0), "orders/0/7 has the time 0"),
        (target(**{"cleanup.policy": "compact"}), event(7, key=None), "orders/0/7 has no key"),
    ],
)
async def test_events_that_would_be_changed_or_refused_are_named_first(
    topic: TargetTopic, record: Record, words: str
) -> None:
    """Before a transaction begins, so there is none to abort."""
    publisher = Publisher(NOBODY, "streams-restore-x", topic, repartition=False)
    with pytest.raises(RestoreError, match=words):
        await publisher.publish([record], 8, "")
    await publisher.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (KafkaError._FENCED, "has taken over"),
        (KafkaError.INVALID_PRODUCER_EPOCH, "has taken over"),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "WRITE on transactional ids prefixed streams-restore-"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, "READ on groups prefixed streams-restore-"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "WRITE, READ and DESCRIBE on the topic copy"),
        (KafkaError._TIMED_OUT, "did not answer in time"),
        (KafkaError.NOT_ENOUGH_REPLICAS, "NOT_ENOUGH_REPLICAS.*Run the same command again"),
    ],
)
def test_each_error_says_what_to_do(code: int, words: str) -> None:
    """One remedy each, whichever call failed."""
    with pytest.raises(RestoreError, match=words), explained("publish", "copy", "streams-restore-x"):
        raise KafkaException(KafkaError(code))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, "max.message.bytes (5,000)"),
        (KafkaError.INVALID_TIMESTAMP, "message.timestamp.before.max.ms"),
        (KafkaError.INVALID_RECORD, "compacted"),
    ],
)
def test_refused_events_are_named(code: int, words: str) -> None:
    """One by its position, several by the first and the last."""
    one, several = (refusal(code, "copy", sent, 5000) for sent in ([event(7)], [event(7), event(9)]))
    assert words in str(one)
    assert "orders/0/7" in str(one)
    assert "orders/0/7 to orders/0/9" in str(several)
    assert refusal(KafkaError._ALL_BROKERS_DOWN, "copy", [event(7)], None) is None
