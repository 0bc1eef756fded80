"""The test services themselves: a fault test proves something only if its servers and its proxy are what they claim."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.conftest import MakeTopic, require
from tests.services.archive import Archive, Content
from tests.services.install import KAFKA, ROOT
from tests.services.kafka import KafkaBroker
from tests.services.kafka_proxy import Level, ProxiedBroker
from tests.services.producer import EventProducer, TransactionalProducer
from tests.services.s3 import S3Server, s3_client
from tests.services.s3_faults import (
    RESET,
    SLOW_DOWN,
    Delay,
    Fault,
    Hang,
    Reply,
    Reset,
    always,
    every,
    first_attempts,
    first_of,
    in_turn,
    matching,
)
from tests.services.s3_proxy import S3FaultProxy
from tests.services.waiting import wait_until

S3Client = Any
"""boto3 makes its clients at run time."""

ODD_KEY = "odd/ä b%2F+&=~'()*.json"


@pytest.fixture
def proxied(s3_proxy: S3FaultProxy) -> Iterator[S3Client]:
    """A boto3 client that goes through the proxy."""
    client = s3_client(s3_proxy.endpoint_url)
    yield client
    client.close()


def _put_in_another_process(endpoint_url: str, bucket: str, key: str) -> subprocess.Popen[bytes]:
    """A client that can be killed while its PUT waits."""
    code = (
        "import sys; from tests.services.s3 import s3_client; endpoint, bucket, key = sys.argv[1:];"
        "s3_client(endpoint).put_object(Bucket=bucket, Key=key, Body=b'late')"
    )
    return subprocess.Popen([sys.executable, "-c", code, endpoint_url, bucket, key], cwd=ROOT)


class TestProxy:
    def test_hands_on_what_it_is_given(self, proxied: S3Client, s3_server: S3Server, bucket: str) -> None:
        """A signed request arrives intact, whatever its key, and so does the answer to every method."""
        body = bytes(range(256)) * 8_000
        proxied.put_object(Bucket=bucket, Key=ODD_KEY, Body=body, Metadata={"kafka-topic": "orders"})

        stored = s3_server.read(bucket, ODD_KEY)
        assert (body, {"kafka-topic": "orders"}) == (stored.body, stored.metadata)
        assert body == proxied.get_object(Bucket=bucket, Key=ODD_KEY)["Body"].read()
        assert len(body) == proxied.head_object(Bucket=bucket, Key=ODD_KEY)["ContentLength"]
        assert [ODD_KEY] == [item["Key"] for item in proxied.list_objects_v2(Bucket=bucket)["Contents"]]
        proxied.delete_object(Bucket=bucket, Key=ODD_KEY)
        assert [] == s3_server.keys(bucket)

    def test_write_that_waits_when_its_client_is_killed_never_reaches_s3(
        self, s3_proxy: S3FaultProxy, s3_server: S3Server, bucket: str
    ) -> None:
        """Else a late write would hide an event that a killed worker has lost."""
        s3_proxy.rule = always(Delay(5))
        started = time.monotonic()
        client = _put_in_another_process(s3_proxy.endpoint_url, bucket, "late.json")
        try:
            wait_until(lambda: s3_proxy.injected["Delay"] == 1, 30, "the write has not reached the proxy")
        finally:
            client.kill()
            client.wait()
        wait_until(lambda: s3_proxy.dropped == 1, 4, "the proxy has not dropped the dead client's write", 0.02)

        assert s3_proxy.in_flight == 0
        wait_until(lambda: time.monotonic() > started + 6, 10, "the delay is not over")
        assert [] == s3_server.keys(bucket)

    def test_write_that_waits_reaches_s3_while_its_client_lives(
        self, s3_proxy: S3FaultProxy, proxied: S3Client, s3_server: S3Server, bucket: str
    ) -> None:
        """A delay is only a delay: the connection goes on as if nothing had been."""
        s3_proxy.rule = every(2, Delay(0.3))
        for number in range(4):
            proxied.put_object(Bucket=bucket, Key=str(number), Body=b"x")

        assert ["0", "1", "2", "3"] == s3_server.keys(bucket)
        assert (2, 0) == (s3_proxy.injected["Delay"], s3_proxy.dropped)

    @pytest.mark.parametrize("fault", [SLOW_DOWN, RESET, Hang(0.1)], ids=lambda fault: fault.name)
    def test_failed_write_is_not_in_s3(
        self, s3_proxy: S3FaultProxy, proxied: S3Client, s3_server: S3Server, bucket: str, fault: Fault
    ) -> None:
        """The client is told the truth, and the next try goes through."""
        s3_proxy.rule = first_attempts(1, fault)
        with pytest.raises((ClientError, BotoCoreError)):
            proxied.put_object(Bucket=bucket, Key="key", Body=b"x")

        assert [] == s3_server.keys(bucket)
        proxied.put_object(Bucket=bucket, Key="key", Body=b"x")
        assert ["key"] == s3_server.keys(bucket)

    @pytest.mark.parametrize("fault", [Reply(500, "InternalError", after_write=True), Reset(after_write=True)])
    def test_write_whose_answer_is_lost_is_in_s3(
        self, s3_proxy: S3FaultProxy, proxied: S3Client, s3_server: S3Server, bucket: str, fault: Fault
    ) -> None:
        """The case in which a client cannot know."""
        s3_proxy.rule = always(fault)
        with pytest.raises((ClientError, BotoCoreError)):
            proxied.put_object(Bucket=bucket, Key="key", Body=b"x")

        assert ["key"] == s3_server.keys(bucket)

    def test_rules_choose_by_number_attempt_and_key(
        self, s3_proxy: S3FaultProxy, proxied: S3Client, bucket: str
    ) -> None:
        """A rule's fault meets the requests that it names and no other."""
        denied = Reply(403, "AccessDenied")
        s3_proxy.rule = first_of(matching("^bad", denied), in_turn(2, [SLOW_DOWN, RESET]))
        outcomes = []
        for key in ("bad-1", "good-2", "good-3", "good-4"):
            try:
                proxied.put_object(Bucket=bucket, Key=key, Body=b"x")
                outcomes.append("stored")
            except ClientError as error:
                outcomes.append(error.response["Error"]["Code"])
            except BotoCoreError as error:
                outcomes.append(type(error).__name__)

        assert ["AccessDenied", "SlowDown", "stored", "ConnectionClosedError"] == outcomes
        assert {"AccessDenied": 1, "SlowDown": 1, "Reset": 1} == dict(s3_proxy.injected)
        assert s3_proxy.requests["PUT"] == 4

    def test_disconnected_proxy_refuses_until_it_is_connected(
        self, s3_proxy: S3FaultProxy, proxied: S3Client, s3_server: S3Server, bucket: str
    ) -> None:
        """S3 that is gone for a while, and comes back at the same address."""
        s3_proxy.disconnect()
        with pytest.raises(BotoCoreError):
            proxied.put_object(Bucket=bucket, Key="key", Body=b"x")
        s3_proxy.connect()
        proxied.put_object(Bucket=bucket, Key="key", Body=b"x")

        assert ["key"] == s3_server.keys(bucket)


class TestS3Server:
    def test_keeps_objects_over_a_kill(self, own_s3_server: S3Server) -> None:
        """What the server has acknowledged is there after `kill -9`, metadata included."""
        own_s3_server.create_bucket("kept-bucket")
        own_s3_server.client.put_object(Bucket="kept-bucket", Key=ODD_KEY, Body=b"x", Metadata={"kafka-null": "key"})
        own_s3_server.kill()
        own_s3_server.start()

        stored = own_s3_server.read("kept-bucket", ODD_KEY)
        assert (b"x", {"kafka-null": "key"}) == (stored.body, stored.metadata)

    def test_refuses_a_wrong_signature(self, s3_server: S3Server, bucket: str) -> None:
        """Credentials are checked for real."""
        client = s3_client(s3_server.endpoint_url, secret_key="not-the-secret")
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            client.put_object(Bucket=bucket, Key="key", Body=b"x")
        client.close()


class TestKafkaBroker:
    def test_keeps_events_over_kill_and_freeze(self, own_broker: KafkaBroker) -> None:
        """What the broker has acknowledged is there after `kill -9`, and it goes on after a freeze."""
        own_broker.create_topic("events", partitions=2)
        producer = EventProducer(own_broker.bootstrap_servers)
        expected = producer.produce("events", [b"%d" % number for number in range(50)])
        own_broker.kill()
        own_broker.start()
        own_broker.freeze()
        own_broker.thaw()
        expected |= producer.produce("events", [b"after"], partition=0)

        assert expected == _consume(own_broker, "events", len(expected))

    def test_aborted_transactions_are_hidden_from_committed_readers(
        self, broker: KafkaBroker, make_topic: MakeTopic
    ) -> None:
        """The producer of the tests makes real transactions, with gaps between."""
        topic = make_topic()
        with TransactionalProducer(broker.bootstrap_servers) as producer:
            expected = producer.commit(topic, [b"1", b"2"])
            unseen = producer.abort(topic, [b"3"])
            expected |= producer.commit(topic, [b"4"])

        assert [(topic, 0, 3)] == list(unseen)
        assert expected == _consume(broker, topic, len(expected))

    def test_produced_events_keep_null_and_empty_apart(self, broker: KafkaBroker, make_topic: MakeTopic) -> None:
        """What `produce` returns is what Kafka holds, byte for byte."""
        topic = make_topic()
        events: list[Content] = [
            (None, None, ()),
            (b"", b"", (("h", None), ("h", b""), ("é", b"\xff\x00"))),
            (b"\x00", b"v", ()),
        ]
        expected = EventProducer(broker.bootstrap_servers).produce(topic, events)

        assert expected == _consume(broker, topic, len(events))


class TestArchive:
    def test_reports_what_is_missing_wrong_doubled_and_unexpected(
        self, s3_server: S3Server, archive: Archive, bucket: str
    ) -> None:
        """Each way in which S3 may differ from Kafka fails the comparison and is named."""

        def put(key: str, offset: int, body: bytes) -> None:
            metadata = {"kafka-position": f"t/0/{offset}"}
            s3_server.client.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata)

        content: Content = (None, b"x", ())
        put("0", 0, b"x")
        archive.assert_complete({("t", 0, 0): content})
        put("1", 1, b"changed")
        put("1-again", 1, b"changed")
        put("3", 3, b"x")

        with pytest.raises(AssertionError) as failure:
            archive.assert_complete({("t", 0, 0): content, ("t", 0, 1): content, ("t", 0, 2): content})
        for words in ("1 missing:\n  ('t', 0, 2)", "1 wrong:", "1 doubled:", "1 unexpected:\n  3"):
            assert words in str(failure.value)


def test_kafka_proxy_says_what_it_is_told_to(tmp_path: Path) -> None:
    """A leader's OFFSET_OUT_OF_RANGE reaches the client, and so do both forms of a coordinator that is loading."""
    require(KAFKA)
    with ProxiedBroker(tmp_path / "kafka") as broker:
        broker.create_topic("events")
        EventProducer(broker.bootstrap_servers).produce("events", [b"x"] * 10, partition=0)
        options = {"group.id": "g", "auto.offset.reset": "error", "enable.auto.commit": False, "log_level": 0}
        consumer = Consumer({"bootstrap.servers": broker.proxy.address, **options})
        where = TopicPartition("events", 0, 5)
        consumer.commit(offsets=[where], asynchronous=False)
        assert [5] == [one.offset for one in consumer.committed([where], timeout=20)]
        levels: list[Level] = ["group", "partition"]
        for level in levels:
            broker.proxy.loading = level
            told = broker.proxy.refused
            with suppress(KafkaException):  # that time is up: librdkafka asks again until then
                errors = [one.error for one in consumer.committed([where], timeout=3)]
                assert [KafkaError.COORDINATOR_LOAD_IN_PROGRESS] == [error and error.code() for error in errors]
            assert broker.proxy.refused > told
        broker.proxy.loading = None
        assert [5] == [one.offset for one in consumer.committed([where], timeout=20)]
        consumer.assign([where])
        message = consumer.poll(20)
        assert message is not None
        assert (None, 5) == (message.error(), message.offset())
        broker.proxy.out_of_range = 1
        wait_until(lambda: _error_of(consumer) == KafkaError._AUTO_OFFSET_RESET, 20, lambda: f"{vars(broker.proxy)}")
        consumer.close()
        assert broker.proxy.problem is None


def _error_of(consumer: Consumer) -> int | None:
    message = consumer.poll(1)
    error = None if message is None else message.error()
    return None if error is None else error.code()


def _consume(broker: KafkaBroker, topic: str, count: int) -> dict[tuple[str, int, int], Content]:
    """`count` events of `topic` as an independent consumer of committed events sees them."""
    settings = {"bootstrap.servers": broker.bootstrap_servers, "group.id": f"check-{topic}", "log_level": 0}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "isolation.level": "read_committed"})
    found: dict[tuple[str, int, int], Content] = {}
    consumer.subscribe([topic])

    def enough() -> bool:
        for message in consumer.consume(count, 0.5):
            assert message.error() is None, message.error()
            headers: Any = tuple(message.headers() or ())
            position = (topic, _known(message.partition()), _known(message.offset()))
            found[position] = (message.key(), message.value(), headers)
        return len(found) >= count

    try:
        wait_until(enough, 60, lambda: f"{len(found)} of {count} events were read")
    finally:
        consumer.close()
    return found


def _known(number: int | None) -> int:
    assert number is not None
    return number
