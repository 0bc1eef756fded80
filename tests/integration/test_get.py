"""One event out of the archive, exactly, and what is known of one that is not there."""

from __future__ import annotations

import base64

import pytest

from streams.envelope import decode_envelope
from tests.conftest import MakeTopic, Produce
from tests.integration.archiving import ArchiveWriter, event
from tests.integration.conftest import RunCommand, StartWorker
from tests.services.kafka import KafkaBroker
from tests.services.s3 import S3Server
from tests.services.waiting import wait_until

ANY_BYTES = bytes(range(256))
TENANT_TEMPLATE = {"STREAMS_OBJECT_KEY_TEMPLATE": "{prefix}{header.tenant}/{topic}/{partition}/{offset}"}
BY_TIME = {"STREAMS_OBJECT_KEY_TEMPLATE": "{prefix}{timestamp:%Y/%m/%d}/{topic}/{partition}/{offset}"}


@pytest.fixture
def writer(base_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ArchiveWriter:
    """Places events in the test's bucket."""
    return ArchiveWriter(base_settings, monkeypatch)


@pytest.mark.parametrize("settings", [{}, {"STREAMS_BODY": "envelope"}, BY_TIME], ids=["raw", "envelope", "by time"])
def test_value_comes_out_byte_for_byte(
    settings: dict[str, str], writer: ArchiveWriter, run_command: RunCommand
) -> None:
    """Nothing is added, whatever the value is and however it was archived; a null value is said apart."""
    big = (("h", b"x" * 3000), ("h", None))
    records = [
        event("orders", 0, 0, value=ANY_BYTES, headers=big),
        event("orders", 0, 1, value=b""),
        event("orders", 0, 2, value=None),
    ]
    writer.write(records, settings)
    first = run_command("get", "orders/0/0", topics="orders", settings=settings, check=0)
    assert (ANY_BYTES, "") == (first.raw, first.stderr)
    empty = run_command("get", "orders/0/1", topics="orders", settings=settings, check=0)
    assert (b"", "") == (empty.raw, empty.stderr)
    null = run_command("get", "orders/0/2", topics="orders", settings=settings, check=0)
    assert (b"", "null value (tombstone)\n") == (null.raw, null.stderr)
    whole = run_command("get", "orders/0/0", "--envelope", topics="orders", settings=settings, check=0)
    assert records[0] == decode_envelope(whole.raw.rstrip(b"\n"))


def test_dead_letter_is_an_event_with_a_reason(writer: ArchiveWriter, run_command: RunCommand) -> None:
    """It is printed from there, and standard error says why it is there."""
    writer.write([event("orders", 0, 0)], TENANT_TEMPLATE)
    found = run_command("get", "orders/0/0", topics="orders", settings=TENANT_TEMPLATE, check=0)
    assert b"value 0" == found.raw
    assert "from the dead letters (key_template" in found.stderr


def test_event_that_is_not_there_is_explained(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    run_command: RunCommand,
    s3_server: S3Server,
    broker: KafkaBroker,
    bucket: str,
    group: str,
) -> None:
    """Not archived yet, never there, or perhaps lost: each has words of its own, and exit code 1."""
    topic = make_topic()
    produce(topic, [b"a", b"b"])
    early = run_command("get", f"{topic}/0/0", topics=topic, check=1)
    assert "still to come" in early.stderr
    start_worker(topic)
    wait_until(lambda: broker.committed_offsets(group) == {(topic, 0): 2}, 30, "nothing was archived")
    assert b"b" == run_command("get", f"{topic}/0/1", topics=topic, check=0).raw
    s3_server.client.delete_object(Bucket=bucket, Key=f"{topic}/0/{1:020d}.json")
    for position, words in (("0/1", "verify"), ("0/2", "next offset is 2"), ("7/0", "no partition 7")):
        missing = run_command("get", f"{topic}/{position}", topics=topic, check=1)
        assert words in missing.stderr
        assert b"" == missing.raw
    wrong = {"STREAMS_S3_PREFIX": "elsewhere/"}
    elsewhere = run_command("get", f"{topic}/0/0", topics=topic, settings=wrong, check=1)
    assert "check STREAMS_S3_BUCKET, STREAMS_S3_PREFIX" in elsewhere.stderr
    assert "first check STREAMS_S3_BUCKET" in run_command("verify", topics=topic, settings=wrong, check=1).stdout


def test_damaged_object_is_said(
    writer: ArchiveWriter, run_command: RunCommand, s3_server: S3Server, bucket: str
) -> None:
    """An object that is no event is not printed as if it were one."""
    writer.write([event("orders", 0, 0)])
    key = f"orders/0/{0:020d}.json"
    s3_server.client.put_object(Bucket=bucket, Key=key, Body=b"no event")
    damaged = run_command("get", "orders/0/0", topics="orders", check=1)
    assert key in damaged.stderr
    assert b"" == damaged.raw


def test_events_of_a_key_are_found(writer: ArchiveWriter, run_command: RunCommand) -> None:
    """In all partitions or in a range, as a table or as documents; the cost is said first, and none is exit code 1."""
    records = [event("orders", partition, offset) for partition in (0, 12) for offset in range(30)]
    records.append(event("orders", 0, 30, key=b"\xff\x00", value=None))
    writer.write(records)
    table = run_command("get", "orders", "--key", "k1", topics="orders", check=0)
    assert "61 GET requests" in table.stderr
    assert 20 == table.stdout.count("orders/")
    ranged = ("get", "orders/12", "--key", "k1", "--from", "3", "--to", "10", "--json")
    found = [decode_envelope(line) for line in run_command(*ranged, topics="orders", check=0).raw.splitlines()]
    assert [event("orders", 12, 4), event("orders", 12, 7)] == found
    binary = base64.b64encode(b"\xff\x00").decode()
    assert "null (tombstone)" in run_command("get", "orders", "--key-base64", binary, topics="orders", check=0).stdout
    timed = ("get", "orders", "--key", "k1", "--since", "2026-01-01T00:00:04", "--until", "2026-01-01T00:00:05")
    assert 2 == run_command(*timed, topics="orders", check=0).stdout.count("orders/")
    assert b"" == run_command("get", "orders", "--key", "nobody", topics="orders", check=1).raw.strip()


@pytest.mark.parametrize("what", ["orders", "orders/0", "orders/0/x"])
def test_wrong_position_names_the_form(what: str, run_command: RunCommand) -> None:
    """Exit code 2, and how to write it."""
    assert "TOPIC/PARTITION/OFFSET" in run_command("get", what, topics="orders", check=2).stderr
