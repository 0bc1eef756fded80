"""Header names that are not UTF-8, from the real broker: such an event is read whole, its neighbours as ever."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AclOperation

from streams.errors import KafkaReadError
from streams.kafka.header_names import HeaderReader, HeadersLaterError
from streams.kafka.raw_names import produce_raw_names
from streams.kafka.reader import KafkaReader
from streams.record import Headers, Record, TopicPartition
from streams.settings import Settings
from tests.conftest import MakeTopic, Produce
from tests.integration.conftest import StartWorker
from tests.services.kafka import PASSWORD, STRANGER, SUPERUSER, KafkaBroker
from tests.services.oauth import TokenServer, unsigned_token
from tests.services.raw_headers import ESCAPED, NOT_UTF8, RAW_NAME, RawHeaders, produce_raw_headers
from tests.services.waiting import wait_until


def _options(broker: KafkaBroker, **more: Any) -> dict[str, Any]:
    return {"bootstrap.servers": broker.bootstrap_servers, "group.id": "header-names", **more}


@pytest.mark.parametrize("compression", [None, "gzip"])
async def test_such_events_are_read_with_their_neighbours(
    compression: Literal["gzip"] | None, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, group: str
) -> None:
    """Every event comes once and in order, with the bytes of its names, however they are compressed."""
    topic = make_topic()
    produce(topic, [b"before"], partition=0)
    headers = [(RAW_NAME, b"1"), ("ok", b"2"), (RAW_NAME, None), ("é", b""), (RAW_NAME, b"\xff")]
    events: list[tuple[bytes, RawHeaders]] = [(b"bad", headers), (b"plain", [])]
    events += [(b"", [(RAW_NAME, b"%d" % number)]) for number in range(99)]
    await produce_raw_headers(broker.bootstrap_servers, topic, events, compression=compression)
    produce(topic, [b"after"], partition=0)
    settings = Settings(
        kafka_bootstrap_servers=broker.bootstrap_servers, topics=topic, consumer_group=group, s3_bucket="unused"
    )
    async with KafkaReader(settings) as kafka:
        records = [one async for batch in kafka.read(TopicPartition(topic, 0), 0, 103) for one in batch]
    assert list(range(103)) == [one.offset for one in records]
    assert [b"before", b"bad", b"plain"] == [one.value for one in records[:3]]
    assert ((ESCAPED, b"1"), ("ok", b"2"), (ESCAPED, None), ("é", b""), (ESCAPED, b"\xff")) == records[1].headers
    assert NOT_UTF8 == records[1].headers[0][0].encode("utf-8", "surrogateescape")
    assert [((ESCAPED, b"%d" % number),) for number in range(99)] == [one.headers for one in records[3:102]]
    assert [(), (), ()] == [records[at].headers for at in (0, 2, 102)]


async def test_partitions_in_turn(broker: KafkaBroker, make_topic: MakeTopic) -> None:
    """Forwards, backwards and in another partition: each answer is that of the offset that was asked for."""
    topic = make_topic(2)
    for partition in (0, 1):
        events = [(b"", [(RAW_NAME, b"%d/%d" % (partition, offset))]) for offset in range(20)]
        await produce_raw_headers(broker.bootstrap_servers, topic, events, partition=partition)
    with HeaderReader(_options(broker)) as reader:
        for partition, offset in [(0, 3), (1, 3), (1, 4), (1, 19), (0, 0), (0, 19), (0, 19)]:
            expected = ((ESCAPED, b"%d/%d" % (partition, offset)),)
            assert expected == reader.read(TopicPartition(topic, partition), offset)


async def test_event_that_has_left_kafka_is_an_error(broker: KafkaBroker, make_topic: MakeTopic) -> None:
    """It is never taken for one without headers, and the next one can be read all the same."""
    topic = make_topic()
    await produce_raw_headers(broker.bootstrap_servers, topic, [(b"", [(RAW_NAME, b"1")])])
    with HeaderReader(_options(broker)) as reader:
        with pytest.raises(KafkaReadError, match=f"{topic}/0/5 has a header whose name is not UTF-8"):
            reader.read(TopicPartition(topic, 0), 5)
        assert ((ESCAPED, b"1"),) == reader.read(TopicPartition(topic, 0), 0)


async def test_name_is_cut_at_a_zero_byte_and_nothing_else_is_lost(
    broker: KafkaBroker, make_topic: MakeTopic, group: str
) -> None:
    """Neither client says how long a name is (docs/delivery-guarantee.md); values and all other names are whole."""
    topic = make_topic()
    names = ["cut\0here", "\0", "é\0", "plain", f"{ESCAPED}\0x"]
    headers = tuple((name, value) for name in names for value in (b"a\0b", None))
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for sent in (headers[:-2], headers, (("plain", b"\0"),)):
        record = Record(topic, 0, 0, None, None, b"\0k", b"\0v", sent)
        produce_raw_names(producer, topic, record, partition=0, timestamp_ms=int(time.time() * 1000))
    assert 0 == producer.flush(30)
    settings = Settings(
        kafka_bootstrap_servers=broker.bootstrap_servers, topics=topic, consumer_group=group, s3_bucket="unused"
    )
    async with KafkaReader(settings) as kafka:
        records = [one async for batch in kafka.read(TopicPartition(topic, 0), 0, 3) for one in batch]
    expected = tuple((name.partition("\0")[0], value) for name, value in headers)
    assert [expected[:-2], expected, (("plain", b"\0"),)] == [one.headers for one in records]
    assert {(b"\0k", b"\0v")} == {(one.key, one.value) for one in records}


async def test_reader_that_is_given_little_time_goes_on_where_it_was(own_broker: KafkaBroker) -> None:
    """A broker that is silent holds nobody up for longer; the answer that comes at last is that of the right event."""
    own_broker.create_topic("events", 2)
    for partition in (0, 1):
        events = [(b"", [(RAW_NAME, b"%d/%d" % (partition, offset))]) for offset in range(3)]
        await produce_raw_headers(own_broker.bootstrap_servers, "events", events, partition=partition)
    first, second = TopicPartition("events", 0), TopicPartition("events", 1)

    def read_slowly(tp: TopicPartition, offset: int) -> Headers:
        """In slices far shorter than connecting takes."""
        deadline = time.monotonic() + 14
        while time.monotonic() < deadline:
            try:
                return reader.read(tp, offset, 0.001)
            except HeadersLaterError:
                time.sleep(0.001)
        raise AssertionError("the headers did not come")

    with HeaderReader(_options(own_broker)) as reader:
        assert ((ESCAPED, b"0/1"),) == read_slowly(first, 1)
        own_broker.freeze()
        for tp, offset in ((first, 2), (second, 0), (first, 2)):
            began = time.monotonic()
            with suppress(HeadersLaterError):  # what had been fetched ahead is there
                assert ((ESCAPED, b"0/2"),) == reader.read(tp, offset, 0.3)
            assert time.monotonic() - began < 1
        with pytest.raises(HeadersLaterError):
            reader.read(second, 0, 0.3)
        reader.forget([first, second])
        with pytest.raises(HeadersLaterError, match="have not come yet"):
            reader.read(second, 2, 0.3)
        with pytest.raises(HeadersLaterError, match="waits for the headers of another event"):
            reader.read(first, 0, 5)
        own_broker.thaw()
        assert ((ESCAPED, b"1/2"),) == read_slowly(second, 2)
        assert ((ESCAPED, b"0/0"),) == read_slowly(first, 0)


@pytest.mark.timeout(120)
def test_sigterm_is_heard_while_headers_are_awaited(
    own_broker: KafkaBroker, start_worker: StartWorker, group: str
) -> None:
    """Of many partitions at once, none of which answers: the worker polls, says so, and leaves within two seconds."""
    own_broker.create_topic("events", 12)
    settings = {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": own_broker.bootstrap_servers}
    worker = start_worker("events", settings, app="tests.integration.apps.silent_headers")
    for partition in range(12):
        event = [(b"x", [(RAW_NAME, b"1")])]
        asyncio.run(produce_raw_headers(own_broker.bootstrap_servers, "events", event, partition=partition))
    wait_until(lambda: "it is read again" in worker.log(), 40, worker.log_tail)
    assert worker.ready(), "it is in its group, and polls"
    began = time.monotonic()
    worker.terminate()
    assert 0 == worker.wait(10), worker.log_tail()
    assert time.monotonic() - began < 2, worker.log_tail()
    assert "could not be left in time" not in worker.log()
    assert {0} == set(own_broker.committed_offsets(group).values()), "none of them is written"


@pytest.fixture
def secured_topic(secure_broker: KafkaBroker) -> str:
    """On the secure broker, of one partition."""
    name = f"header-names-{uuid.uuid4().hex[:12]}"
    secure_broker.create_topic(name)
    return name


def _oidc(token_url: str) -> dict[str, Any]:
    return {
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": SUPERUSER,
        "sasl.oauthbearer.client.secret": PASSWORD,
        "sasl.oauthbearer.token.endpoint.url": token_url,
    }


def _callback(_: str) -> dict[str, Any]:
    return {"oauth_cb": lambda _: (unsigned_token(SUPERUSER, 300), time.time() + 300)}


def _plain(_: str) -> dict[str, Any]:
    return {"sasl.mechanism": "SCRAM-SHA-256", "sasl.username": STRANGER, "sasl.password": PASSWORD}


@pytest.mark.parametrize("login", [_oidc, _callback, _plain], ids=["oidc", "callback", "password"])
async def test_every_login_of_the_worker_works_here_too(
    login: Callable[[str], dict[str, Any]], secure_broker: KafkaBroker, secured_topic: str
) -> None:
    """Options of confluent-kafka, a token's callback among them."""
    await produce_raw_headers(secure_broker.bootstrap_servers, secured_topic, [(b"", [(RAW_NAME, b"1")])])
    assert secure_broker.certificates is not None
    with TokenServer() as tokens:
        options = _options(secure_broker) | {
            "bootstrap.servers": secure_broker.address("SASL_SSL"),
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(secure_broker.certificates.ca_file),
            "sasl.mechanism": "OAUTHBEARER",
            "socket.keepalive.enable": True,
            **login(tokens.url),
        }
        with HeaderReader(options) as reader:
            if login is _plain:
                secure_broker.grant(STRANGER, topic=secured_topic, operation=AclOperation.DESCRIBE)
                with pytest.raises(KafkaReadError, match="TOPIC_AUTHORIZATION_FAILED"):
                    reader.read(TopicPartition(secured_topic, 0), 0)
                secure_broker.grant(STRANGER, topic=secured_topic, operation=AclOperation.READ)
            assert ((ESCAPED, b"1"),) == reader.read(TopicPartition(secured_topic, 0), 0)


def test_option_that_librdkafka_does_not_know_is_named() -> None:
    """Not ignored."""
    with pytest.raises(KafkaReadError, match=r"takes no no\.such\.option"):
        HeaderReader({"group.id": "g", "no.such.option": 1}).read(TopicPartition("t", 0), 0)
