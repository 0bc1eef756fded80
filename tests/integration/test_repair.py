"""`faust -A streams repair` on the real broker and S3 server: exactly what is missing is written again."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from tests.conftest import MakeTopic, Produce
from tests.integration.conftest import RunCommand, StartCommand
from tests.integration.test_verify import Archived, archived, delete_objects, object_key, offsets_of
from tests.services.archive import Archive, Content, next_offsets
from tests.services.kafka import KafkaBroker
from tests.services.s3 import S3Server
from tests.services.s3_faults import ACCESS_DENIED, S3Request
from tests.services.s3_proxy import S3FaultProxy
from tests.services.waiting import wait_until

__all__ = ["archived"]

FAST = ("--rate", "100000", "--in-flight", "500")


def test_exactly_what_was_deleted_is_named_and_restored(
    s3_server: S3Server,
    bucket: str,
    broker: KafkaBroker,
    group: str,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    archive: Archive,
    run_command: RunCommand,
) -> None:
    """1, 100 and 10,000 of 12,500 objects at random: verify names those, repair restores those, then all is proved."""
    topic = make_topic(4)
    expected = produce(topic, [(b"%d" % (number % 50), b"%d" % number, (("h", b"v"),)) for number in range(12_500)])
    archived(topic, next_offsets(expected))
    committed = broker.committed_offsets(group)
    chance = random.Random(4)
    for count in (1, 100, 10_000):
        victims = set(chance.sample(sorted(expected), count))
        delete_objects(s3_server, bucket, [object_key(*victim) for victim in victims])
        report = run_command("verify", "--json", topics=topic, check=1).json()
        assert victims == offsets_of(report, "missing") == offsets_of(report, "repairable")
        if count == 100:
            dry = run_command("repair", "--dry-run", topics=topic, check=1)
            assert "100 events would be written again" in dry.stdout
        repaired = run_command("repair", "--json", *FAST, topics=topic, check=0).json()
        assert (count, 0) == (repaired["repaired"], repaired["failed"])
    run_command("verify", topics=topic, check=0)
    assert committed == broker.committed_offsets(group)
    archive.assert_complete(expected)


def test_damaged_objects_are_named_and_restored(
    s3_server: S3Server,
    bucket: str,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    archive: Archive,
    run_command: RunCommand,
) -> None:
    """Ten objects, each damaged in its own way: --content names those, repair --content all writes those."""
    topic = make_topic()
    large: Content = (b"k" * 3000, b"value", (("h", b"v"),))
    events: list[Content] = [*([(b"k", b"value", (("h", b"v"),))] * 500), large, (b"k", None, ()), (None, b"", ())]
    expected = produce(topic, events, partition=0)
    archived(topic, next_offsets(expected))
    put = s3_server.client.put_object

    def replace(offset: int, body: bytes | None = None, **metadata: str | None) -> None:
        stored = archive.read(object_key(topic, 0, offset))
        merged = {**stored.metadata, **{name.replace("_", "-"): value for name, value in metadata.items()}}
        kept = {name: value for name, value in merged.items() if value is not None}
        put(Bucket=bucket, Key=stored.key, Body=stored.body if body is None else body, Metadata=kept)

    replace(1, b"other")
    replace(2, b"")
    replace(3, b"value ")
    replace(4, kafka_key="other")
    replace(5, kafka_headers="h=w")
    replace(6, kafka_timestamp_ms="1")
    replace(7, kafka_position=f"{topic}/0/8")
    put(Bucket=bucket, Key=object_key(topic, 0, 8), Body=b"value")
    delete_objects(s3_server, bucket, [object_key(topic, 0, 500) + ".kafka.json"])
    replace(501, kafka_null=None)
    damaged = {(topic, 0, offset) for offset in (1, 2, 3, 4, 5, 6, 7, 8, 500, 501)}

    run_command("verify", topics=topic, check=0)
    report = run_command("verify", "--content", "all", "--json", topics=topic, check=1).json()
    assert damaged == offsets_of(report, "wrong")
    what = {entry["offset"]: entry["what"] for entry in report["partitions"][0]["differences"]}
    assert "value differs (value: 5 bytes in Kafka, 0 bytes in the object)" == what[2]
    assert "headers differs" == what[5]
    assert "sidecar" in what[500]
    repaired = run_command("repair", "--content", "all", "--json", *FAST, topics=topic, check=0).json()
    assert 10 == repaired["repaired"]
    run_command("verify", "--content", "all", topics=topic, check=0)
    archive.assert_complete(expected)


@pytest.mark.fault
def test_repair_that_was_stopped_or_killed_is_finished_by_the_next(
    s3_server: S3Server,
    s3_proxy: S3FaultProxy,
    bucket: str,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    archive: Archive,
    start_command: StartCommand,
    run_command: RunCommand,
) -> None:
    """It keeps no state: what is left is found and written by the next run, and nothing twice."""
    topic = make_topic()
    expected = produce(topic, [b"%d" % number for number in range(400)], partition=0)
    archived(topic, next_offsets(expected))
    delete_objects(s3_server, bucket, [object_key(*position) for position in expected])
    through_proxy = {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url}
    puts: list[S3Request] = []
    s3_proxy.rule = _note_puts(puts)
    for end, code in (("terminate", 143), ("kill", -9)):
        puts.clear()
        command = start_command("repair", "--rate", "100", topics=topic, settings=through_proxy)
        wait_until(lambda: len(puts) > 20, 30, "repair writes nothing")
        getattr(command, end)()
        assert code == command.wait(20).code
    left = run_command("verify", "--json", topics=topic, check=1).json()["totals"]["missing"]
    assert 0 < left < 380
    repaired = run_command("repair", "--json", *FAST, topics=topic, check=0).json()
    assert left == repaired["repaired"]
    archive.assert_complete(expected)


def _note_puts(puts: list[S3Request]) -> Callable[[S3Request], Any]:
    def note(request: S3Request) -> None:
        if request.method == "PUT":
            puts.append(request)

    return note


def test_repair_keeps_to_its_rate(
    s3_server: S3Server,
    bucket: str,
    s3_proxy: S3FaultProxy,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
) -> None:
    """At 50 events a second, 100 events take two seconds; only the missing ones are written."""
    topic = make_topic()
    expected = produce(topic, [b"%d" % number for number in range(120)], partition=0)
    archived(topic, next_offsets(expected))
    victims = sorted(expected)[:100]
    delete_objects(s3_server, bucket, [object_key(*victim) for victim in victims])
    times: list[float] = []
    puts: list[str] = []

    def note(request: S3Request) -> None:
        if request.method == "PUT":
            times.append(monotonic())
            puts.append(request.key)

    s3_proxy.rule = note
    run_command(
        "repair", "--rate", "50", topics=topic, settings={"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url}, check=0
    )
    assert sorted(object_key(*victim) for victim in victims) == sorted(puts)
    assert times[-1] - times[0] > 1.8


@pytest.mark.fault
def test_what_cannot_be_written_is_said(
    s3_server: S3Server,
    s3_proxy: S3FaultProxy,
    bucket: str,
    make_topic: MakeTopic,
    produce: Produce,
    archived: Archived,
    run_command: RunCommand,
) -> None:
    """PUTs that are denied: exit code 1, the reason, and after the mending the next run writes them."""
    topic = make_topic()
    expected = produce(topic, [b"%d" % number for number in range(20)], partition=0)
    archived(topic, next_offsets(expected))
    delete_objects(s3_server, bucket, [object_key(topic, 0, 3), object_key(topic, 0, 4)])
    s3_proxy.rule = lambda request: ACCESS_DENIED if request.method == "PUT" else None
    settings = {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url}
    refused = run_command("repair", "--give-up", "1", "--json", topics=topic, settings=settings, check=1).json()
    assert (0, 2) == (refused["repaired"], refused["failed"])
    assert "AccessDenied" in refused["sentence"]
    s3_proxy.rule = None
    run_command("repair", topics=topic, settings=settings, check=0)
