"""What was archived comes back into Kafka as it was, each event once, whatever happens on the way."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer, murmur2
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.archive.restore_errors import RestoreError
from streams.archive.restore_target import RestoreTarget
from streams.envelope import encode_envelope
from streams.record import Record
from tests.conftest import MakeTopic
from tests.integration.archiving import (
    FOREVER,
    NEW_YEAR_MS,
    ArchiveWriter,
    Published,
    content,
    event,
    read_topic,
    worker_settings,
)
from tests.integration.conftest import RunCommand, StartCommand, StartWorker
from tests.services.archive import Headers
from tests.services.kafka import PASSWORD, STRANGER, KafkaBroker
from tests.services.ports import free_port
from tests.services.s3 import S3Server
from tests.services.waiting import wait_until

PutObject = Callable[[str, bytes, Mapping[str, str]], None]
ReadTopic = Callable[[str, int], list[list[Published]]]

TENANT_TEMPLATE = {"STREAMS_OBJECT_KEY_TEMPLATE": "{prefix}{header.tenant}/{topic}/{partition}/{offset}"}


@pytest.fixture
def writer(base_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ArchiveWriter:
    """Places events in the test's bucket."""
    return ArchiveWriter(base_settings, monkeypatch)


@pytest.fixture
def published(broker: KafkaBroker) -> ReadTopic:
    """What a topic holds for those who read committed events."""
    return lambda topic, partitions: read_topic(broker.bootstrap_servers, topic, partitions)


@pytest.fixture
def put_object(s3_server: S3Server, bucket: str) -> PutObject:
    """Puts something into the test's bucket that no worker has written: its key, body and metadata."""

    def put(key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        s3_server.client.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata)

    return put


def test_partitions_come_back_as_they_were(
    make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand, published: ReadTopic
) -> None:
    """Every record, in the order of the original offsets, at its partition; a dry run before changes nothing."""
    target = make_topic(3, FOREVER)
    records = [event("orders", partition, offset) for partition in range(3) for offset in range(40)]
    writer.write(records)
    dry = run_command("restore", "orders", "--to-topic", target, topics="orders", check=0)
    assert "120 events to read" in dry.stdout
    assert "dry run" in dry.stderr
    assert [[], [], []] == published(target, 3)
    run_command("restore", "orders", "--to-topic", target, "--execute", topics="orders", check=0)
    expected = [[content(one) for one in records if one.partition == partition] for partition in range(3)]
    assert expected == published(target, 3)
    again = run_command("restore", "orders", "--to-topic", target, "--execute", topics="orders", check=0)
    assert "all done already: 120 events" in again.stderr
    assert expected == published(target, 3)
    anew = run_command("restore", "orders", "--to-topic", target, "--execute", "--again", topics="orders", check=0)
    assert f"{target} holds up to" in anew.stderr
    assert [part * 2 for part in expected] == published(target, 3)


def test_any_record_survives_with_its_nulls(
    make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand, published: ReadTopic
) -> None:
    """Null and empty key and value in all pairs, header lists with duplicates and nulls, big values, times up to 0."""
    target = make_topic(1, FOREVER | {"max.message.bytes": "4000000"})
    pairs = [(key, value) for key in (None, b"", b"\xff\x00") for value in (None, b"", b"\x00\xfe")]
    headers: Headers = (("a", None), ("a", b""), ("", b"\xff"), ("a", b"x"), ("\u00fc", b"y" * 3000))
    records = [event("orders", 0, at, key=key, value=value) for at, (key, value) in enumerate(pairs)]
    records += [
        event("orders", 0, 9, headers=headers, timestamp_ms=1),
        event("orders", 0, 10, value=b"x" * 3_000_000),
        event("orders", 0, 11, timestamp_ms=-2),
        event("orders", 0, 12, timestamp_ms=-62_135_596_800_001),
        event("orders", 0, 13, timestamp_ms=None),
    ]
    writer.write(records)
    run_command("restore", "orders", "--to-topic", target, "--execute", topics="orders", check=0)
    assert [[content(one) for one in records]] == published(target, 1)


def test_time_of_zero_is_not_made_the_present(
    make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand, published: ReadTopic
) -> None:
    """librdkafka cannot publish it: refused by name, and a millisecond later when that is accepted."""
    target = make_topic(1, FOREVER)
    writer.write(event("orders", 0, at, timestamp_ms=at) for at in range(3))
    command = ("restore", "orders", "--to-topic", target, "--execute")
    refused = run_command(*command, topics="orders", check=2)
    assert "orders/0/0 has the time 0" in refused.stderr
    assert [[]] == published(target, 1)
    run_command(*command, "--accept-time-shift", topics="orders", check=0)
    assert [1, 1, 2] == [one[2] for one in published(target, 1)[0]]


ODD_NAMES = (b"\xfcmlaut", b"cut\0here", b"\0", "\u00fc\0".encode(), b"\xed\xa0\x80")


async def test_header_names_are_any_bytes(
    broker: KafkaBroker, make_topic: MakeTopic, base_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not UTF-8, or with zero bytes, among events whose names are text: looked up in the broker's own file."""
    target = make_topic(1, FOREVER)
    configured = worker_settings({**base_settings, "STREAMS_TOPICS": target}, monkeypatch)
    names = [os.fsdecode(name) for name in ODD_NAMES]
    records = [
        event("orders", 0, 0, headers=(("text", b"x"),)),
        *(event("orders", 0, at, headers=((name, b"x"), ("b", None))) for at, name in enumerate(names, 1)),
        event("orders", 0, 6, headers=((names[0], None), (names[0], b"")), key=b"", value=None, timestamp_ms=None),
        event("orders", 0, 7, headers=((names[0], b"\0"),), key=None, value=b""),
        event("orders", 0, 8),
    ]
    async with RestoreTarget(configured, target) as kafka:
        topic = await kafka.describe()
        async with kafka.publisher(f"streams-restore-{target}", topic, repartition=False) as publisher:
            await publisher.publish(records, 9, "")
        assert (9, "") == await kafka.progress(f"streams-restore-{target}")
    stored = next(broker.directory.rglob(f"{target}-0/*.log")).read_bytes()
    places = [stored.find(stored_form(record)) for record in records]
    assert -1 not in places
    assert sorted(places) == places


def stored_form(record: Record) -> bytes:
    """The event from its key on, as Kafka's record format v2 has it."""
    names_and_values = [part for name, value in record.headers for part in (os.fsencode(name), value)]
    headers = b"".join(_bytes_form(part) for part in names_and_values)
    return _bytes_form(record.key) + _bytes_form(record.value) + _varint(len(record.headers)) + headers


def _bytes_form(content: bytes | None) -> bytes:
    return _varint(-1) if content is None else _varint(len(content)) + content


def _varint(number: int) -> bytes:
    zigzag = number * 2 if number >= 0 else -number * 2 - 1
    assert zigzag < 0x80, "one byte is enough here"
    return bytes([zigzag])


async def test_event_with_odd_header_names_is_refused_like_any_other(
    make_topic: MakeTopic, base_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no delivery report for it: the transaction's end says why it failed, and nothing of it is published."""
    target = make_topic(1, FOREVER | {"max.message.bytes": "50000"})
    configured = worker_settings({**base_settings, "STREAMS_TOPICS": target}, monkeypatch)
    name = os.fsdecode(ODD_NAMES[0])
    large = event("orders", 0, 7, headers=((name, b"x" * 60_000),))
    async with RestoreTarget(configured, target) as kafka:
        topic = await kafka.describe()
        async with kafka.publisher(f"streams-restore-{target}", topic, repartition=False) as publisher:
            with pytest.raises(RestoreError, match=r"orders/0/7: too large for its max.message.bytes \(50,000\)"):
                await publisher.publish([large], 8, "")
        async with kafka.publisher(f"streams-restore-{target}", topic, repartition=False) as publisher:
            await publisher.publish([event("orders", 0, 8)], 9, "after it")
        assert (9, "after it") == await kafka.progress(f"streams-restore-{target}")


LONG = st.integers(1800, 2400).map(lambda length: bytes(range(256)) * 9 + bytes(length - 1800))
"""Around the 2 KB that S3 takes as metadata: longer keys and headers go into a sidecar."""
SOME_BYTES = st.one_of(st.none(), st.binary(max_size=30), LONG)
EVENTS = st.lists(
    st.tuples(
        SOME_BYTES,
        SOME_BYTES,
        st.lists(st.tuples(st.text(max_size=8), SOME_BYTES), max_size=4).map(tuple),
        st.integers(1, 4_102_444_800_000),  # librdkafka takes 0 for now
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=20,
)


@pytest.mark.parametrize("body", ["raw", "envelope"])
def test_round_trip_gives_identical_records(
    body: str,
    broker: KafkaBroker,
    make_topic: MakeTopic,
    start_worker: StartWorker,
    run_command: RunCommand,
    published: ReadTopic,
    group: str,
) -> None:
    """Kafka, worker, S3, restore, Kafka: whatever the records are."""
    source, target = make_topic(2, FOREVER), make_topic(2, FOREVER)
    start_worker(source, {"STREAMS_BODY": body})
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "enable.idempotence": True})
    sent: Counter[int] = Counter()

    refused: list[object] = []

    def delivered(error: object, _message: object) -> None:
        if error is not None:
            refused.append(error)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(EVENTS)
    def produce(events: list[tuple[bytes | None, bytes | None, Headers, int, int]]) -> None:
        for key, value, headers, timestamp_ms, partition in events:
            producer.produce(
                source,
                value=value,
                key=key,
                headers=list(headers),
                timestamp=timestamp_ms,
                partition=partition,
                on_delivery=delivered,
            )
            sent[partition] += 1
        assert (0, []) == (producer.flush(30), refused)

    produce()
    expected = {(source, partition): count for partition, count in sent.items()}
    wait_until(
        lambda: broker.committed_offsets(group) == expected,
        30,
        lambda: f"committed {broker.committed_offsets(group)}, expected {expected}",
    )
    run_command("restore", source, "--to-topic", target, "--execute", topics=source, check=0)
    assert published(source, 2) == published(target, 2)


def test_ranges_by_offset_and_time_select_exactly(
    make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand, published: ReadTopic
) -> None:
    """Ends are exclusive, one partition can be named, and each range has a progress of its own."""
    target = make_topic(2, FOREVER)
    records = [event("orders", partition, offset) for partition in range(2) for offset in range(30)]
    writer.write(records)
    options = ("--to-topic", target, "--execute")
    run_command("restore", "orders/1", "--from", "5", "--to", "8", *options, topics="orders", check=0)
    first = [content(one) for one in records if one.partition == 1 and 5 <= one.offset < 8]
    assert [[], first] == published(target, 2)
    times = [datetime.fromtimestamp(NEW_YEAR_MS / 1000 + at, UTC).isoformat() for at in (10, 12)]
    done = run_command(
        "restore", "orders", "--since", times[0], "--until", times[1], *options, topics="orders", check=0
    )
    by_time = [[content(one) for one in records if one.partition == part and one.offset in (10, 11)] for part in (0, 1)]
    assert [by_time[0], first + by_time[1]] == published(target, 2)
    assert "lie outside" in done.stderr


def test_repartition_keeps_order_by_key(
    make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand, published: ReadTopic
) -> None:
    """Fewer partitions will do then, each key is where Java clients put it, and its events are in order."""
    target = make_topic(2, FOREVER)
    writer.write(event("orders", 2, offset, key=b"k%d" % (offset % 9)) for offset in range(90))
    refused = run_command("restore", "orders", "--to-topic", target, "--execute", topics="orders", check=1)
    assert "--repartition" in refused.stderr
    run_command("restore", "orders", "--to-topic", target, "--repartition", "--execute", topics="orders", check=0)
    parts = published(target, 2)
    assert 90 == sum(len(part) for part in parts)
    for number, part in enumerate(parts):
        assert {number} == {murmur2(one[0] or b"", 2) for one in part}
        assert sorted(part, key=lambda one: one[2] or 0) == part


def test_killed_restore_goes_on_without_loss_or_double(
    make_topic: MakeTopic,
    writer: ArchiveWriter,
    start_command: StartCommand,
    run_command: RunCommand,
    published: ReadTopic,
) -> None:
    """SIGKILL twice and SIGTERM once at any moment; the same command finishes, and readers see each event once."""
    target = make_topic(2, FOREVER)
    records = [event("orders", partition, offset) for partition in range(2) for offset in range(1500)]
    writer.write(records)
    command = ("restore", "orders", "--to-topic", target, "--id", target, "--execute")

    def count() -> int:
        return sum(map(len, published(target, 2)))

    for kill in ("kill", "terminate", "kill"):
        before = count()
        running = start_command(*command, "--rate", "400", topics="orders")
        wait_until(lambda floor=before: count() > floor, 60, "nothing was published")  # type: ignore[misc] # binds the loop's value now
        getattr(running, kill)()
        finished = running.wait()
        assert finished.code in (-9, 128 + 15), finished.stderr
    shown = run_command("restore", "orders", "--to-topic", target, "--id", target, topics="orders", check=0)
    assert "it was interrupted" in shown.stderr
    done = run_command(*command, topics="orders", check=0)
    assert "3,000 in all" in done.stderr
    expected = [[content(one) for one in records if one.partition == partition] for partition in range(2)]
    assert expected == published(target, 2)


def test_second_run_at_once_takes_over(
    make_topic: MakeTopic,
    writer: ArchiveWriter,
    start_command: StartCommand,
    run_command: RunCommand,
    published: ReadTopic,
) -> None:
    """Two of the same restore at a time publish each event once: the later one shuts the earlier one out."""
    target = make_topic(1, FOREVER)
    records = [event("orders", 0, offset) for offset in range(600)]
    writer.write(records)
    command = ("restore", "orders", "--to-topic", target, "--id", target, "--execute")
    slow = start_command(*command, "--rate", "50", topics="orders")
    wait_until(lambda: len(published(target, 1)[0]) > 0, 60, "nothing was published")
    run_command(*command, topics="orders", check=0)
    first = slow.wait()
    assert 2 == first.code, first.stderr
    assert "taken over" in first.stderr
    assert [[content(one) for one in records]] == published(target, 1)


def test_events_archived_meanwhile_are_not_restored(
    make_topic: MakeTopic,
    writer: ArchiveWriter,
    start_command: StartCommand,
    run_command: RunCommand,
    published: ReadTopic,
) -> None:
    """Restored into the topic that is archived: the plan was fixed before, so it ends."""
    target = make_topic(1, FOREVER)
    records = [event(target, 0, offset) for offset in range(100)]
    writer.write(records)
    command = ("restore", target, "--execute")
    running = start_command(*command, "--rate", "20", topics=target)
    wait_until(lambda: len(published(target, 1)[0]) > 0, 60, "nothing was published")
    running.kill()
    running.wait()
    writer.write(event(target, 0, offset) for offset in range(100, 150))
    run_command(*command, topics=target, check=0)
    assert "all done already" in run_command(*command, topics=target, check=0).stderr
    assert [[content(one) for one in records]] == published(target, 1)


def test_rate_is_kept(make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand) -> None:
    """300 events at 100 a second take two seconds at the least (the first second's go out at once)."""
    target = make_topic(1, FOREVER)
    writer.write(event("orders", 0, offset) for offset in range(300))
    began = time.monotonic()
    run_command("restore", "orders", "--to-topic", target, "--rate", "100", "--execute", topics="orders", check=0)
    assert 2 <= time.monotonic() - began


def test_target_that_would_change_events_is_refused(
    make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand, published: ReadTopic
) -> None:
    """Own timestamps, a retention that deletes them at once, or no topic at all: said before anything is published."""
    writer.write(event("orders", 0, offset) for offset in range(3))
    stamping = make_topic(1, {"message.timestamp.type": "LogAppendTime"})
    refused = run_command("restore", "orders", "--to-topic", stamping, "--execute", topics="orders", check=1)
    assert "LogAppendTime" in refused.stderr
    assert [[]] == published(stamping, 1)
    accepted = ("--accept-append-time", "--execute")
    run_command("restore", "orders", "--to-topic", stamping, *accepted, topics="orders", check=0)
    assert 3 == len(published(stamping, 1)[0])
    forgetful = make_topic(1, {"retention.ms": "3600000"})
    assert "retention.ms" in run_command("restore", "orders", "--to-topic", forgetful, topics="orders", check=1).stderr
    missing = run_command("restore", "orders", "--to-topic", "no-such-topic", topics="orders", check=2)
    assert "does not exist" in missing.stderr


def test_event_that_the_topic_does_not_take_is_named(
    make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand
) -> None:
    """Too large, or without a key in a compacted topic: what it was, and what to do."""
    writer.write([event("orders", 0, 7, key=None, value=b"x" * 100_000)])
    compacted = make_topic(1, FOREVER | {"cleanup.policy": "compact"})
    small = make_topic(1, FOREVER | {"max.message.bytes": "50000"})
    for target, words in ((compacted, "compacted"), (small, "max.message.bytes (50,000)")):
        refused = run_command("restore", "orders", "--to-topic", target, "--execute", topics="orders", check=2)
        assert "orders/0/7" in refused.stderr
        assert words in refused.stderr


def test_gaps_dead_letters_and_damage_are_said(
    make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand, published: ReadTopic, put_object: PutObject
) -> None:
    """A missing object is counted and passed over; a dead letter is an event; a damaged one stops until told not to."""
    target = make_topic(1, FOREVER)
    records = [event("orders", 0, at, headers=(("tenant", b"a"),) if at != 2 else ()) for at in (0, 1, 2, 5, 6)]
    writer.write(records, TENANT_TEMPLATE)
    put_object("a/orders/0/00000000000000000006", b"no event", {})
    command = ("restore", "orders", "--to-topic", target, "--execute")
    refused = run_command(*command, topics="orders", settings=TENANT_TEMPLATE, check=2)
    assert "a/orders/0/00000000000000000006" in refused.stderr
    assert "2 offsets in between have no object (0/3-4" in refused.stderr
    skipped = run_command(*command, "--skip-damaged", topics="orders", settings=TENANT_TEMPLATE, check=1)
    assert "1 events could not be read back" in skipped.stderr
    assert [[content(one) for one in records[:-1]]] == published(target, 1)


def test_crafted_objects_are_skipped(
    make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand, published: ReadTopic, put_object: PutObject
) -> None:
    """Whatever somebody has written in the place of an event, the first one's too: it is named and passed over."""
    target = make_topic(1, FOREVER)
    records = [event("orders", 0, at) for at in range(6)]
    writer.write(records)
    envelope = encode_envelope(records[0])
    crafted: list[tuple[bytes, dict[str, str]]] = [
        (envelope.replace(b'"headers":[]', b'"headers":[["a",1,"utf-8"]]'), {}),
        (b"v", {"kafka-position": "orders/0/1", "kafka-timestamp-ms": "9" * 30}),
        (b"v", {"kafka-position": "orders/0/2", "kafka-sidecar": "//"}),
    ]
    for offset, (body, metadata) in enumerate(crafted):
        put_object(f"orders/0/{offset:020d}.json", body, metadata)
    command = ("restore", "orders", "--to-topic", target, "--execute", "--skip-damaged")
    skipped = run_command(*command, topics="orders", check=1)
    assert "3 events could not be read back" in skipped.stderr
    assert "Traceback" not in skipped.stderr
    assert [[content(one) for one in records[3:]]] == published(target, 1)


@pytest.mark.parametrize("template", ["{offset}/{topic}/{partition}", "{offset}{partition}/{topic}"])
def test_offset_before_partition_is_restored_whole(
    make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand, published: ReadTopic, template: str
) -> None:
    """Keys of several partitions lie side by side: every partition is found, by restore and by the search for a key."""
    target = make_topic(12, FOREVER)
    configured = {"STREAMS_OBJECT_KEY_TEMPLATE": template}
    records = [event("orders", partition, at, key=b"k") for partition in range(12) for at in range(3)]
    writer.write(records, configured)
    restored = run_command(
        "restore", "orders", "--to-topic", target, "--execute", topics="orders", settings=configured, check=0
    )
    assert "Traceback" not in restored.stderr
    expected = [[content(one) for one in records if one.partition == partition] for partition in range(12)]
    assert expected == published(target, 12)
    found = run_command("get", "orders", "--key", "k", "--json", topics="orders", settings=configured, check=0)
    assert len(records) == len(found.stdout.splitlines())


def test_json_is_all_that_machines_read(make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand) -> None:
    """The plan, and then the result."""
    target = make_topic(1, FOREVER)
    writer.write(event("orders", 0, offset) for offset in range(3))
    plan = run_command("restore", "orders", "--to-topic", target, "--json", topics="orders", check=0).json()
    assert (3, [], False) == (plan["events"], plan["problems"], plan["executed"])
    result = run_command(
        "restore", "orders", "--to-topic", target, "--json", "--execute", topics="orders", check=0
    ).json()
    assert (3, True, {"next_offset": 3, "stop": 3, "published": 3}) == (
        result["published"],
        result["done"],
        result["partitions"]["0"],
    )


def test_nothing_to_restore_is_said(make_topic: MakeTopic, writer: ArchiveWriter, run_command: RunCommand) -> None:
    """An empty range is a mistake somewhere: exit code 1. A name that was never archived: exit code 2."""
    target = make_topic(1)
    writer.write([event("orders", 0, 0)])
    nothing = run_command("restore", "orders", "--from", "7", "--to-topic", target, topics="orders", check=1)
    assert "no event of orders in that range" in nothing.stderr
    for arguments in (("ordrs",), ("ordrs", "--to-topic", target), ("ordrs/0", "--to-topic", "no-such-topic")):
        mistyped = run_command("restore", *arguments, topics="orders", check=2)
        assert "the archive holds no event of ordrs. Is the name right (STREAMS_TOPICS=orders)?" in mistyped.stderr


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("port", "Correct host and port in STREAMS_KAFKA_BOOTSTRAP_SERVERS"),
        ("password", "wrong credentials: the broker refused the login (SASL PLAIN as"),
    ],
)
def test_broker_that_cannot_be_used_is_explained(
    mistake: str, words: str, secure_broker: KafkaBroker, run_command: RunCommand
) -> None:
    """In the words of the worker and of every other command, with the setting to correct."""
    settings = {
        "port": {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"},
        "password": login(secure_broker) | {"STREAMS_KAFKA_SASL_PASSWORD": "not-the-password"},
    }
    finished = run_command("restore", "orders", topics="orders", settings=settings[mistake], check=2)
    assert "no Kafka broker could be used" in finished.stderr
    assert words in finished.stderr
    assert "KafkaError" not in finished.stderr
    assert "Traceback" not in finished.stderr


def test_denied_permissions_are_named(
    secure_broker: KafkaBroker, writer: ArchiveWriter, run_command: RunCommand
) -> None:
    """Each missing ACL by its name, one after the other, until it works."""
    target = f"restored-{time.time_ns()}"
    secure_broker.create_topic(target, 1, FOREVER)
    writer.write(event("orders", 0, offset) for offset in range(3))

    def restore(check: int) -> str:
        command = ("restore", "orders", "--to-topic", target, "--execute")
        return run_command(*command, topics="orders", settings=login(secure_broker), check=check).stderr

    assert target in restore(2)
    secure_broker.grant(STRANGER, topic=target)
    assert "READ on groups prefixed streams-restore-" in restore(2)
    dry = run_command(
        "restore", "orders", "--to-topic", target, topics="orders", settings=login(secure_broker), check=0
    )
    assert "3 events to read" in dry.stdout
    assert "whether an earlier run of this restore has begun is not known" in dry.stderr
    _grant_prefix(secure_broker, "GROUP", AclOperation.READ)
    assert "WRITE on transactional ids prefixed streams-restore-" in restore(2)
    _grant_prefix(secure_broker, "TRANSACTIONAL_ID", AclOperation.WRITE)
    denied = restore(2)
    assert "WRITE, READ and DESCRIBE on the topic" in denied
    assert "DESCRIBE_CONFIGS" in denied
    secure_broker.grant(STRANGER, topic=target, operation=AclOperation.WRITE)
    assert "published 3 events" in restore(0)


def login(broker: KafkaBroker) -> dict[str, str]:
    """As somebody who may do nothing unless it is granted."""
    return {
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.address("SASL_PLAINTEXT"),
        "STREAMS_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "STREAMS_KAFKA_SASL_MECHANISM": "PLAIN",
        "STREAMS_KAFKA_SASL_USERNAME": STRANGER,
        "STREAMS_KAFKA_SASL_PASSWORD": PASSWORD,
    }


def _grant_prefix(broker: KafkaBroker, kind: str, operation: AclOperation) -> None:
    binding = AclBinding(
        ResourceType[kind],
        "streams-restore-",
        ResourcePatternType.PREFIXED,
        f"User:{STRANGER}",
        "*",
        operation,
        AclPermissionType.ALLOW,
    )
    for future in broker.admin.create_acls([binding]).values():
        future.result(30)
