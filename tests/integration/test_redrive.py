"""Dead letters of a real worker's sink become objects once their cause is mended, and not one is lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.record import Record
from tests.conftest import require
from tests.integration.archiving import ArchiveWriter, event
from tests.integration.conftest import RunCommand, StartCommand
from tests.services.install import S3
from tests.services.s3 import S3Server
from tests.services.s3_users import S3ServerWithUsers
from tests.services.waiting import wait_until

TENANT_TEMPLATE = {"STREAMS_OBJECT_KEY_TEMPLATE": "{prefix}{header.tenant}/{topic}/{partition}/{offset}"}
DEAD_LETTERS = "dead-letter/"


@pytest.fixture
def writer(base_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ArchiveWriter:
    """Places events in the test's bucket."""
    return ArchiveWriter(base_settings, monkeypatch)


def without_tenant(offsets: range, topic: str = "orders") -> list[Record]:
    return [event(topic, 0, offset) for offset in offsets]


def test_mended_template_makes_objects_of_dead_letters(
    writer: ArchiveWriter, run_command: RunCommand, s3_server: S3Server, bucket: str
) -> None:
    """They are listed with the reason, written under the keys of the new template, and deleted; nothing is left."""
    writer.write(without_tenant(range(30)), TENANT_TEMPLATE)
    listed = run_command("redrive", topics="orders", check=1)
    assert "key_template" in listed.stdout
    assert "30" in listed.stdout
    again = run_command("redrive", "--execute", topics="orders", settings=TENANT_TEMPLATE, check=1)
    assert "30 still rejected" in again.stdout
    assert 30 == len(s3_server.keys(bucket, DEAD_LETTERS))
    done = run_command("redrive", "--execute", topics="orders", check=0)
    assert "30 events written" in done.stdout
    assert [f"orders/0/{offset:020d}.json" for offset in range(30)] == s3_server.keys(bucket)
    assert b"value 7" == s3_server.read(bucket, f"orders/0/{7:020d}.json").body
    nothing = run_command("redrive", topics="orders", check=0)
    assert "no dead letters of the topics orders under s3://" in nothing.stderr
    assert "/dead-letter/ (STREAMS_S3_BUCKET" in nothing.stderr


def test_choice_by_reason_topic_and_number(
    writer: ArchiveWriter, run_command: RunCommand, s3_server: S3Server, bucket: str
) -> None:
    """Only what was asked for is tried; other workers' topics are not touched; --keep keeps the letters."""
    writer.write(without_tenant(range(3)), TENANT_TEMPLATE)
    long_key = {"STREAMS_OBJECT_KEY_TEMPLATE": "{prefix}{key}/{topic}/{partition}/{offset}"}
    writer.write([event("orders", 0, 9, key=b"x" * 1100)], long_key)
    writer.write(without_tenant(range(2), "payments"), TENANT_TEMPLATE)
    document = run_command("redrive", "--json", topics="orders", check=1).json()
    assert {"key_template": 3, "key_too_long": 1} == {one["reason"]: one["count"] for one in document["groups"]}
    lines = run_command("redrive", "--list", "--topic", "payments", topics="orders", check=1).stdout.splitlines()
    assert ["payments/0/0", "payments/0/1"] == [line.split()[0] for line in lines if line.startswith("payments/")]
    result = run_command("redrive", "--reason", "key_too_long", "--execute", "--json", topics="orders", check=0).json()
    assert ["orders/0/9"] == result["result"]["written"]
    run_command("redrive", "--limit", "2", "--keep", "--execute", topics="orders", check=0)
    keys = s3_server.keys(bucket)
    assert [f"orders/0/{offset:020d}.json" for offset in (0, 1, 9)] == [key for key in keys if key.startswith("orders")]
    assert 5 == len([key for key in keys if key.startswith(DEAD_LETTERS)])


def test_denied_delete_leaves_both(
    base_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, run_command: RunCommand, tmp_path: Path
) -> None:
    """Without s3:DeleteObject the events are written, the dead letters stay, and the permission is named."""
    require(S3)
    server = S3ServerWithUsers(tmp_path / "s3")
    with server:
        server.create_bucket("limited")
        address = {"STREAMS_S3_ENDPOINT_URL": server.endpoint_url, "STREAMS_S3_BUCKET": "limited"}
        ArchiveWriter({**base_settings, **address}, monkeypatch).write(without_tenant(range(2)), TENANT_TEMPLATE)
        objects = "arn:aws:s3:::limited/*"
        server.allow(
            "limited", [(["s3:ListBucket"], ["arn:aws:s3:::limited"]), (["s3:GetObject", "s3:PutObject"], [objects])]
        )
        denied = run_command(
            "redrive",
            "--execute",
            topics="orders",
            settings={**address, **server.user_environment()},
            check=1,
        )
        assert "s3:DeleteObject" in denied.stdout
        assert "2 written, but the dead letter could not be deleted" in denied.stdout
        assert 4 == len(server.keys("limited"))


def test_unreadable_dead_letter_is_reported_and_kept(
    writer: ArchiveWriter, run_command: RunCommand, s3_server: S3Server, bucket: str
) -> None:
    """The others are redriven all the same, and the exit code says that something is left."""
    writer.write(without_tenant(range(2)), TENANT_TEMPLATE)
    damaged = f"{DEAD_LETTERS}orders/0/{0:020d}.json"
    s3_server.client.put_object(Bucket=bucket, Key=damaged, Body=b"{}")
    done = run_command("redrive", "--execute", topics="orders", check=1)
    assert damaged in done.stdout
    assert [damaged, f"orders/0/{1:020d}.json"] == s3_server.keys(bucket)


def test_killed_redrive_is_finished_by_the_next(
    writer: ArchiveWriter, start_command: StartCommand, run_command: RunCommand, s3_server: S3Server, bucket: str
) -> None:
    """At any moment each event is in its object, in its dead letter, or in both."""
    writer.write(without_tenant(range(300)), TENANT_TEMPLATE)
    running = start_command("redrive", "--execute", "--rate", "100", topics="orders")
    wait_until(lambda: s3_server.keys(bucket, "orders/"), 60, "nothing was redriven")
    running.kill()
    running.wait()
    left = {int(key[-25:-5]) for key in s3_server.keys(bucket, DEAD_LETTERS)}
    written = {int(key[-25:-5]) for key in s3_server.keys(bucket, "orders/")}
    assert set(range(300)) == left | written
    assert left
    run_command("redrive", "--execute", topics="orders", check=0)
    assert [f"orders/0/{offset:020d}.json" for offset in range(300)] == s3_server.keys(bucket)
