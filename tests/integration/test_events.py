"""Every kind of event that Kafka can hold ends up in S3 byte for byte, and the committed offsets say so.

Each test ends with the same proof (`assert_archived`), made by clients and parsers that are not the worker's own.
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from tests.conftest import MakeTopic, Produce
from tests.integration.conftest import RunCommand, StartWorker
from tests.services.archive import Archive, Content, Headers, Position, next_offsets
from tests.services.kafka import KafkaBroker
from tests.services.producer import EventProducer, Expected, TransactionalProducer
from tests.services.raw_headers import RAW_NAME, produce_raw_headers
from tests.services.s3 import S3Server
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

Offsets = dict[tuple[str, int], int]
AssertCommitted = Callable[[Offsets], None]
AssertArchived = Callable[[Expected], None]

COMMIT_TIMEOUT_SECONDS = 30
ANY_BYTES = bytes(range(256))
MEGABYTE = 1024 * 1024


@pytest.fixture
def assert_committed(broker: KafkaBroker, group: str) -> AssertCommitted:
    """Waits until the group has committed exactly these offsets."""

    def check(offsets: Offsets) -> None:
        wait_until(
            lambda: broker.committed_offsets(group) == offsets,
            COMMIT_TIMEOUT_SECONDS,
            lambda: f"committed {broker.committed_offsets(group)}, expected {offsets}",
        )

    return check


@pytest.fixture
def assert_archived(assert_committed: AssertCommitted, archive: Archive) -> AssertArchived:
    """Waits until all of this (which has no gap at an end) is committed, then compares S3 with it byte for byte."""

    def check(expected: Expected) -> None:
        assert_committed(next_offsets(expected))
        archive.assert_complete(expected)

    return check


# -- contents ---------------------------------------------------------------------------------------------------------


def odd_events() -> list[Content]:
    """One event for each way in which an event can be unusual."""
    headers: list[Headers] = [
        (("null", None),),
        (("", None),),
        (("", b""),),
        (("same", b"1"), ("same", None), ("same", b"1"), ("same", b"2")),
        (("a=b&c%d", b"e=f&g%h"), ("é 漢", "é 漢".encode())),
        (("\x01\n\x7f", ANY_BYTES),),
        (("large", b"x" * 3_000),),
        tuple((f"header-{number}", b"%d" % number) for number in range(150)),
        (("large", ANY_BYTES * 40), ("null", None), ("empty", b"")),
    ]
    return [
        (b"key", None, ()),
        (None, None, ()),
        (b"", None, (("why", b"deleted"),)),
        (None, b"", ()),
        (b"", b"", ()),
        (None, b"null key", ()),
        (b"", b"empty key", ()),
        (ANY_BYTES, ANY_BYTES, (("any", ANY_BYTES),)),
        (b"\x00", b"\x00", ()),
        (b"key past two kilobytes" * 200, b"in the sidecar", ()),
        (b"key", b'{"json": true}', ()),
        (b"key", b"\xef\xbb\xbfnot quite JSON \xff", ()),
        (b"key", b"line\r\nbreaks\n", ()),
        *((b"key", b"value", each) for each in headers),
    ]


def random_events(count: int, seed: int) -> list[Content]:
    """Events with any bytes in keys and header values, and any text in header names; the same ones for a seed."""
    chance = random.Random(seed)

    def text() -> str:
        # No NUL: librdkafka's Python client ends a header's name there.
        return "".join(chr(chance.choice((chance.randrange(1, 128), chance.randrange(1, 0xD800)))) for _ in range(5))

    def some_bytes(limit: int) -> bytes | None:
        return None if chance.random() < 0.1 else chance.randbytes(chance.randrange(limit))

    return [
        (
            some_bytes(chance.choice((3, 40, 2_500))),
            some_bytes(chance.choice((3, 300))),
            tuple((text(), some_bytes(chance.choice((2, 30, 900)))) for _ in range(chance.randrange(5))),
        )
        for _ in range(count)
    ]


def large_events(count: int) -> list[bytes]:
    """Values of 1 MB that no codec makes smaller."""
    return [random.Random(number).randbytes(MEGABYTE) for number in range(count)]


def read_topic(broker: KafkaBroker, topic: str) -> dict[int, Message]:
    """What an independent consumer of committed events finds in partition 0 of a topic, by offset."""
    settings = {"bootstrap.servers": broker.bootstrap_servers, "group.id": f"read-{topic}", "log_level": 0}
    consumer = Consumer({**settings, "enable.auto.commit": False, "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: dict[int, Message] = {}
    try:
        while True:
            message = consumer.poll(5)
            assert message is not None, f"{topic} cannot be read"
            if message.error() is not None:
                return found  # the end of the partition
            found[_offset(message)] = message
    finally:
        consumer.close()


def end_offset(broker: KafkaBroker, topic: str) -> int:
    """The offset behind everything in partition 0, control records among it."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "watermarks", "log_level": 0})
    try:
        _, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    finally:
        consumer.close()
    return int(high)


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset


def wait_held(worker: WorkerProcess, topic: str) -> dict[str, Any]:
    """What `/stats` says of the event that holds partition 0 of a topic."""

    def held() -> dict[str, Any] | None:
        of_topic = [entry for entry in worker.stats()["partitions"] if entry["topic"] == topic]
        return next((entry["held"] for entry in of_topic if entry["partition"] == 0), None)

    found = wait_until(held, 10, worker.log_tail)
    assert found is not None
    return found


# -- contents and codecs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"STREAMS_S3_CLIENT": "obstore"},
        {"STREAMS_S3_CLIENT": "aiobotocore", "STREAMS_MAX_IN_FLIGHT_BYTES": "1MiB"},
    ],
    ids=["obstore", "aiobotocore-1MiB-in-flight"],
)
def test_every_kind_of_event_arrives_byte_for_byte(
    settings: Mapping[str, str],
    make_topic: MakeTopic,
    broker: KafkaBroker,
    start_worker: StartWorker,
    assert_archived: AssertArchived,
) -> None:
    """Tombstones, nulls, empty parts, any bytes, sidecars and values of 1 MB, from topics of every codec."""
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    topic = make_topic(len(codecs))
    expected: Expected = {}
    for partition, codec in enumerate(codecs):
        producer = EventProducer(broker.bootstrap_servers, {"compression.type": codec})
        events: Iterable[Content | bytes] = [*odd_events(), *random_events(60, seed=partition), *large_events(2)]
        expected |= producer.produce(topic, events, partition=partition)
    worker = start_worker(topic, settings)
    assert_archived(expected)
    totals = worker.stats()["totals"]
    assert (len(expected), 0, {}) == (totals["events"], totals["dead_letters"], totals["retries"])


def test_memory_bound_holds_with_large_events(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, assert_archived: AssertArchived
) -> None:
    """With 4 MiB allowed, 60 MB of events pass through, and no more than one event above the bound is ever held."""
    topic = make_topic(2)
    values = large_events(30)
    expected = produce(topic, values, partition=0) | produce(topic, values, partition=1)
    worker = start_worker(topic, {"STREAMS_MAX_IN_FLIGHT_BYTES": "4MiB"}, wait=False)
    held: list[int] = []

    def all_written() -> bool:
        try:
            document = worker.stats()
        except OSError:
            return False
        held.append(document["buffer"]["bytes"])
        return bool(document["totals"]["events"] == len(expected))

    wait_until(all_written, COMMIT_TIMEOUT_SECONDS, worker.log_tail, 0.02)
    assert max(held) <= 4 * MEGABYTE + MEGABYTE + 2_000
    assert_archived(expected)


def test_envelope_holds_the_whole_event(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    broker: KafkaBroker,
    archive: Archive,
    assert_committed: AssertCommitted,
) -> None:
    """`STREAMS_BODY=envelope`: one JSON document gives the event back, and a JSON value stands in it verbatim."""
    topic = make_topic()
    json_values = [b'{"n": 1.0000, "a":[ ]}', b" 12345678901234567890123 ", b'"\\u00e9"', b"null"]
    events: list[Content] = [*odd_events(), *random_events(60, seed=7), *((b"k", value, ()) for value in json_values)]
    expected = produce(topic, events, partition=0)
    start_worker(topic, {"STREAMS_BODY": "envelope"})
    assert_committed(next_offsets(expected))
    found = {}
    for stored in map(archive.read, archive.keys()):
        position, content = read_envelope(stored.body)
        found[position] = content
        assert f"{topic}/0/{position[2]:020d}.json" == stored.key
    assert expected == found


def read_envelope(body: bytes) -> tuple[Position, Content]:
    """Position and content of the event that an envelope (or a dead letter) holds."""
    document = json.loads(body)
    length = document["value_length"]
    if document["value_encoding"] == "json":
        value: bytes | None = body[-1 - length : -1]
    else:
        value = _decoded(document["value"], document["value_encoding"])
        assert len(value or b"") == length
    headers = tuple((name, _decoded(text, encoding)) for name, text, encoding in document["headers"])
    content = (_decoded(document["key"], document["key_encoding"]), value, headers)
    return (document["topic"], document["partition"], document["offset"]), content


def _decoded(text: str | None, encoding: str | None) -> bytes | None:
    if encoding is None:
        assert text is None
        return None
    assert text is not None
    return base64.b64decode(text) if encoding == "base64" else text.encode(encoding)


@pytest.mark.parametrize("body", ["raw", "envelope"])
async def test_header_names_that_are_not_utf8_stop_nothing(
    broker: KafkaBroker,
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    assert_committed: AssertCommitted,
    run_command: RunCommand,
    body: str,
) -> None:
    """Kafka's protocol forbids such names and its broker takes them: they are archived like any others."""
    topic = make_topic()
    produce(topic, [b"before"], partition=0)
    await produce_raw_headers(broker.bootstrap_servers, topic, [(b"bad", [(RAW_NAME, b"1"), ("ok", b"2")])])
    produce(topic, [b"after"], partition=0)
    start_worker(topic, {"STREAMS_BODY": body})
    assert_committed({(topic, 0): 3})
    found = run_command("get", f"{topic}/0/1", "--envelope", topics=topic, check=0).json()
    assert [[base64.b64encode(b"caf\xe9").decode(), "1", "utf-8", "base64"], ["ok", "2", "utf-8"]] == found["headers"]
    run_command("verify", "--content", "all", topics=topic, settings={"STREAMS_BODY": body}, check=0)


def test_timestamps_are_kept_and_make_keys(
    make_topic: MakeTopic,
    broker: KafkaBroker,
    start_worker: StartWorker,
    archive: Archive,
    assert_committed: AssertCommitted,
) -> None:
    """The producer's time and the broker's, to the millisecond, as metadata and as `{timestamp:%Y/%m/%d/%H}` in UTC."""
    created, appended = make_topic(), make_topic(config={"message.timestamp.type": "LogAppendTime"})
    moments_ms = [
        -30_641_760_000_000,
        -2,
        1,
        951_782_399_999,
        951_782_400_000,
        1_709_251_199_999,
        int(time.time() * 1000),
    ]
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    for topic in (created, appended):
        for moment_ms in moments_ms:
            producer.produce(topic, value=b"x", partition=0, timestamp=moment_ms)
    assert 0 == producer.flush(30)
    expected = {
        (topic, offset): message.timestamp()
        for topic in (created, appended)
        for offset, message in read_topic(broker, topic).items()
    }
    assert moments_ms == [expected[created, offset][1] for offset in range(len(moments_ms))]

    template = "{timestamp:%Y/%m/%d/%H}/{topic}/{partition}/{offset}.json"
    start_worker(f"{created},{appended}", {"STREAMS_OBJECT_KEY_TEMPLATE": template})
    assert_committed({(topic, 0): len(moments_ms) for topic in (created, appended)})
    kinds = {1: "create", 2: "append"}  # librdkafka's TIMESTAMP_CREATE_TIME and TIMESTAMP_LOG_APPEND_TIME
    for (topic, offset), (kind, timestamp_ms) in expected.items():
        moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
        hour = f"{moment.year:04d}/{moment:%m/%d/%H}"
        metadata = archive.read(f"{hour}/{topic}/0/{offset:020d}.json").metadata
        assert (str(timestamp_ms), kinds[kind]) == (
            metadata["kafka-timestamp-ms"],
            metadata.get("kafka-timestamp-type", "create"),
        )
    assert len(expected) == len(archive.keys())


# -- gaps in the offsets ----------------------------------------------------------------------------------------------


def test_aborted_transactions_are_not_archived(
    make_topic: MakeTopic,
    broker: KafkaBroker,
    start_worker: StartWorker,
    archive: Archive,
    assert_committed: AssertCommitted,
) -> None:
    """Committed events all, aborted ones none, and the committed offset passes the control records at the end."""
    topics = {name: make_topic() for name in ("ends committed", "ends aborted", "begins aborted", "all aborted")}
    expected: Expected = {}
    with TransactionalProducer(broker.bootstrap_servers) as producer:
        for name, topic in topics.items():
            if name in ("begins aborted", "all aborted"):
                producer.abort(topic, [b"never"] * 30)
            if name == "all aborted":
                continue
            for number in range(5):
                expected |= producer.commit(topic, [b"%d" % number] * 7)
                producer.abort(topic, [b"never"] * 5)
            if name != "ends aborted":
                expected |= producer.commit(topic, [b"last"])
    ends = {(topic, 0): end_offset(broker, topic) for topic in topics.values()}
    worker = start_worker(",".join(topics.values()))
    assert_committed(ends)
    archive.assert_complete(expected)
    wait_until(lambda: worker.stats()["lag"] == 0, 15, lambda: f"{worker.stats()}")
    assert ends == {(entry["topic"], 0): entry["end"] for entry in worker.stats()["partitions"]}


def test_open_transaction_is_waited_for(
    make_topic: MakeTopic,
    produce: Produce,
    broker: KafkaBroker,
    start_worker: StartWorker,
    archive: Archive,
    assert_committed: AssertCommitted,
) -> None:
    """What is behind an open transaction is neither archived nor counted as lag until it ends; then all of it is."""
    topic = make_topic()
    expected = produce(topic, [b"before"] * 3, partition=0)
    settings = {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": f"open-{topic}", "log_level": 0}
    transactional = Producer(settings)
    transactional.init_transactions(30)
    transactional.begin_transaction()
    transactional.produce(topic, value=b"inside", partition=0)
    assert 0 == transactional.flush(30)
    inside: Expected = {(topic, 0, 3): (None, b"inside", ())}
    behind = produce(topic, [b"behind"] * 3, partition=0)
    worker = start_worker(topic)
    assert_committed({(topic, 0): 3})
    archive.assert_complete(expected)
    wait_until(lambda: worker.stats()["lag"] == 0, 15, lambda: f"{worker.stats()}")
    transactional.commit_transaction(30)
    assert_committed({(topic, 0): end_offset(broker, topic)})
    archive.assert_complete(expected | inside | behind)


def test_compacted_topic_with_gaps(
    make_topic: MakeTopic,
    broker: KafkaBroker,
    start_worker: StartWorker,
    archive: Archive,
    assert_committed: AssertCommitted,
) -> None:
    """What compaction has left is archived, and the offsets that it took away stop nothing."""
    topic = make_topic(
        config={
            "cleanup.policy": "compact",
            "segment.ms": "50",
            "min.cleanable.dirty.ratio": "0.001",
            "delete.retention.ms": "0",
        }
    )
    producer = EventProducer(broker.bootstrap_servers)
    for number in range(20):
        producer.produce(topic, [(b"key-%d" % (number % 7), b"%d" % number, ()) for _ in range(50)], partition=0)
    fillers = iter(range(1_000))

    def compacted() -> dict[int, Message]:
        """The topic, once one event for each key is all that is left; a filler closes the segment before it."""
        producer.produce(topic, [(b"filler-%d" % next(fillers), b"", ())], partition=0)
        left = read_topic(broker, topic)
        return left if set(Counter(message.key() for message in left.values()).values()) == {1} else {}

    left = wait_until(compacted, 60, "the log cleaner has left more than one event of a key", 0.3)
    end = end_offset(broker, topic)
    assert min(left) > 0
    assert len(left) < end / 10, "there are gaps"
    expected: Expected = {(topic, 0, offset): (message.key(), message.value(), ()) for offset, message in left.items()}
    worker = start_worker(topic)
    assert_committed({(topic, 0): end})
    archive.assert_complete(expected)
    wait_until(lambda: worker.stats()["lag"] == 0, 15, lambda: f"{worker.stats()}")


# -- events that can never be written ---------------------------------------------------------------------------------

BY_ID = {
    "STREAMS_OBJECT_KEY_TEMPLATE": "{prefix}{topic}/{partition}/{value.id}.json",
    "STREAMS_ALLOW_OVERWRITE": "true",
}
POISON: list[Content] = [
    (b"key", b'{"no_id": 1}', (("h", None), ("h", ANY_BYTES))),
    (ANY_BYTES, b"not JSON \xff", ()),
    (b"tombstone", None, ()),
    (None, b"", ()),
    (None, b"[1, 2]", ()),
    (None, b'{"id": "%s"}' % (b"x" * 1_100), ()),
]
POISON_REASONS = ["key_template"] * 5 + ["key_too_long"]


def good(first: int, count: int = 20) -> list[bytes]:
    """Events that the template `BY_ID` has keys for."""
    return [b'{"id": %d}' % number for number in range(first, first + count)]


def dead_letters(s3_server: S3Server, bucket: str) -> dict[str, bytes]:
    """What lies under the dead letters' prefix, by key."""
    return {stored.key: stored.body for stored in s3_server.objects(bucket, "dead-letter/")}


def test_poison_events_become_dead_letters(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    archive: Archive,
    s3_server: S3Server,
    bucket: str,
    assert_committed: AssertCommitted,
) -> None:
    """An event without a key goes, whole and with the reason, where its position says; all around it is archived."""
    topic = make_topic()
    expected: Expected = {}
    poison: Expected = {}
    for number, content in enumerate(POISON):
        expected |= produce(topic, good(20 * number), partition=0)
        poison |= produce(topic, [content], partition=0)
    expected |= produce(topic, good(20 * len(POISON)), partition=0)
    worker = start_worker(topic, BY_ID)
    assert_committed(next_offsets(expected))
    archive.assert_complete(expected)

    letters = dead_letters(s3_server, bucket)
    assert [f"dead-letter/{topic}/0/{offset:020d}.json" for _, _, offset in poison] == sorted(letters)
    assert poison == dict(read_envelope(body) for body in letters.values())
    reasons = [json.loads(body)["dead_letter"] for _, body in sorted(letters.items())]
    assert POISON_REASONS == [reason["reason"] for reason in reasons]
    for reason, (_, _, offset) in zip(reasons, poison, strict=True):
        assert f"{topic}/0/{offset}" in reason["detail"]
    stats = worker.stats()
    assert {"key_template": 5, "key_too_long": 1} == stats["topics"][topic]["dead_letters"]
    assert (len(expected), len(poison)) == (stats["totals"]["events"], stats["totals"]["dead_letters"])

    again = start_worker(topic, BY_ID | {"STREAMS_CONSUMER_GROUP": f"{topic}-again"})
    wait_until(lambda: again.stats()["totals"]["dead_letters"] == len(poison), 20, again.log_tail)
    assert letters == dead_letters(s3_server, bucket), "the same event gives the same dead letter, at the same key"


def test_held_partition_stops_at_the_event_and_others_go_on(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    archive: Archive,
    s3_server: S3Server,
    bucket: str,
    broker: KafkaBroker,
    group: str,
    assert_committed: AssertCommitted,
) -> None:
    """`STREAMS_ON_REJECT=hold`: nothing past the event is committed, not after a restart either, until it is mended."""
    topic = make_topic(2)
    before = produce(topic, good(0), partition=0)
    poison = produce(topic, [b"not JSON"], partition=0)
    expected = before | produce(topic, good(20), partition=0) | produce(topic, good(0), partition=1)
    settings = BY_ID | {"STREAMS_ON_REJECT": "hold"}
    worker = start_worker(topic, settings)
    assert_committed({(topic, 0): 20, (topic, 1): 20})
    for run in range(2):
        held = wait_held(worker, topic)
        assert (20, "key_template") == (held["offset"], held["reason"])
        assert f"{topic}/0/20" in held["detail"]
        expected |= produce(topic, good(20 + 20 * run), partition=1)
        expected |= produce(topic, good(40 + 20 * run), partition=0)
        assert_committed({(topic, 0): 20, (topic, 1): 40 + 20 * run})
        assert (200, 200) == (worker.get("/health/ready")[0], worker.get("/health/live")[0])
        assert 1 == len([line for line in worker.log().splitlines() if " ERROR " in line and f"{topic}/0/20" in line])
        worker.terminate()
        assert 0 == worker.wait(20), "nothing was in flight"
        assert_committed({(topic, 0): 20, (topic, 1): 40 + 20 * run})
        worker = start_worker(topic, settings if run == 0 else BY_ID)
    assert_committed(next_offsets(expected))
    archive.assert_complete(expected)
    assert poison == dict(read_envelope(body) for body in dead_letters(s3_server, bucket).values())


# -- object keys and topics -------------------------------------------------------------------------------------------


def test_published_benchmarks_keys_need_leave_to_overwrite(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    archive: Archive,
    assert_archived: AssertArchived,
) -> None:
    """`message_{value.message_id}.json` may give two events one key: refused, unless overwriting is meant."""
    topic = make_topic()
    messages = [b'{"message_id": %d, "message_content": "This is message %d"}' % (n, n) for n in range(100)]
    expected = produce(topic, messages, partition=0)
    settings = {"STREAMS_OBJECT_KEY_TEMPLATE": "message_{value.message_id}.json"}
    refused = start_worker(topic, settings, wait=False)
    assert 2 == refused.wait(20)
    for words in ("STREAMS_OBJECT_KEY_TEMPLATE", "STREAMS_ALLOW_OVERWRITE=true"):
        assert words in refused.log()
    assert "Traceback" not in refused.log()

    start_worker(topic, settings | {"STREAMS_ALLOW_OVERWRITE": "true"})
    assert_archived(expected)
    assert sorted(f"message_{number}.json" for number in range(100)) == archive.keys()


def test_keys_from_keys_headers_and_values(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    archive: Archive,
    assert_archived: AssertArchived,
) -> None:
    """Text of an event in a key is encoded, so that it neither adds a segment nor meets another event's key."""
    topic = make_topic()
    template = "{prefix}{key}/{header.kind}/{value.order.id}/{topic}/{partition}/{offset:05d}"
    events: list[Content] = [
        ("größe/1 %".encode(), b'{"order": {"id": "a/b"}}', (("kind", b"x y"),)),
        (b"..", b'{"order": {"id": 7}}', (("kind", b"first"), ("kind", b"second"))),
    ]
    expected = produce(topic, events, partition=0)
    start_worker(topic, {"STREAMS_OBJECT_KEY_TEMPLATE": template, "STREAMS_S3_PREFIX": "all/events/"})
    assert_archived(expected)
    keys = archive.keys()
    assert [f"{topic}/0/0000{offset}" for offset in (0, 1)] == sorted(key[-len(topic) - 8 :] for key in keys)
    assert all(key.startswith("all/events/") and key.count("/") == 7 for key in keys)
    assert not [key for key in keys if "/../" in key]


def test_pattern_takes_in_topics_that_are_made_later(
    broker: KafkaBroker,
    produce: Produce,
    make_topic: MakeTopic,
    start_worker: StartWorker,
    group: str,
    assert_archived: AssertArchived,
) -> None:
    """`^prefix\\..*` means the topics that there are and those to come, and no other."""
    other = make_topic()
    produce(other, [b"not asked for"], partition=0)
    first, second = f"{group}.first", f"{group}.second"
    broker.create_topic(first)
    expected = produce(first, [b"first"] * 20, partition=0)
    worker = start_worker(rf"^{group}\..*", app="tests.integration.apps.quick_topic_refresh")
    assert_archived(expected)
    broker.create_topic(second, 2)
    expected |= produce(second, [b"second"] * 20, partition=0) | produce(second, [b"too"] * 5, partition=1)
    assert_archived(expected)
    expected |= produce(first, [b"still"] * 5, partition=0)
    assert_archived(expected)
    assert 3 == len(worker.stats()["partitions"])


@pytest.mark.fault
def test_pattern_outlives_a_broker_that_is_away(
    own_broker: KafkaBroker, start_worker: StartWorker, group: str, archive: Archive
) -> None:
    """Looking for new topics while Kafka is gone ends nothing: the worker goes on, and finds the topic made later."""
    producer = EventProducer(own_broker.bootstrap_servers)
    own_broker.create_topic("orders.first")
    expected = producer.produce("orders.first", [b"before"], partition=0)
    settings = {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": own_broker.bootstrap_servers}
    worker = start_worker(r"^orders\..*", settings, app="tests.integration.apps.quick_topic_refresh")

    def committed() -> bool:
        return own_broker.committed_offsets(group) == next_offsets(expected)

    wait_until(committed, COMMIT_TIMEOUT_SECONDS, worker.log_tail)
    own_broker.kill()
    wait_until(lambda: "could not look for new topics" in worker.log(), 20, worker.log_tail)
    own_broker.start()
    own_broker.create_topic("orders.second")
    expected |= producer.produce("orders.first", [b"after"], partition=0)
    expected |= producer.produce("orders.second", [b"new"], partition=0)
    wait_until(committed, COMMIT_TIMEOUT_SECONDS, worker.log_tail)
    archive.assert_complete(expected)
