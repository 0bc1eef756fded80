"""Which topics of a name the bucket holds, and which of them is the one that Kafka has."""

from __future__ import annotations

from typing import cast

import pytest

from streams.archive.lives import lives_in_bucket, place_in_bucket
from streams.archive.redrive import LetterSummary, find_letters
from streams.archive.restore_plan import Selection, plan_restore
from streams.kafka.identity import Identity, encode_identity
from streams.layout import Layout
from streams.sinks.s3_reader import FetchedObject, S3Reader
from tests.unit.memory_reader import WRITTEN_AT, MemoryReader, event, settings

FIRST = Identity("cluster", "SdosoGFiQNSZ6iuNvoBkyQ")
SECOND = Identity("cluster", "AbCd-_09QNSZ6iuNvoBkyQ")
OTHER_CLUSTER = Identity("elsewhere", "ZZZZ-_09QNSZ6iuNvoBkyQ")
WITHOUT_ID = Identity("cluster", None)
MOCK = Identity("mockCluster7f", None)


@pytest.fixture
def bucket() -> MemoryReader:
    """An empty bucket."""
    return MemoryReader(settings())


def write_down(bucket: MemoryReader, identity: Identity, tag: str = "", body: bytes | None = None) -> None:
    key = bucket.archive.layout.identity_key("orders", tag)
    bucket.objects[key] = FetchedObject(key, body or encode_identity("orders", identity), {}, WRITTEN_AT)


def reader_of(bucket: MemoryReader) -> tuple[S3Reader, Layout]:
    return cast(S3Reader, bucket), bucket.archive.layout


async def test_the_same_topic_has_the_plain_names(bucket: MemoryReader) -> None:
    """Nothing is to be said of it."""
    write_down(bucket, FIRST)
    placed = await place_in_bucket(*reader_of(bucket), "orders", FIRST)
    assert (FIRST.life(), None, None) == (placed.life, placed.problem, placed.note)


async def test_an_archive_of_an_earlier_release_is_trusted_with_a_note(bucket: MemoryReader) -> None:
    """It never said whose events it holds."""
    placed = await place_in_bucket(*reader_of(bucket), "orders", FIRST)
    assert (FIRST.life(), None) == (placed.life, placed.problem)
    assert "no topic.json" in (placed.note or "")


@pytest.mark.parametrize("now", [SECOND, OTHER_CLUSTER])
async def test_another_topic_that_is_held_cannot_be_verified(bucket: MemoryReader, now: Identity) -> None:
    """Both ids are named."""
    write_down(bucket, FIRST)
    problem = (await place_in_bucket(*reader_of(bucket), "orders", now)).problem or ""
    assert problem.startswith("not verifiable: the bucket holds another topic of this name")
    assert all(str(one.topic_id) in problem for one in (FIRST, now))
    assert ("elsewhere" in problem) == (now is OTHER_CLUSTER)


async def test_a_later_life_that_is_written_down_has_its_own_names(bucket: MemoryReader) -> None:
    """Those with its tag."""
    write_down(bucket, FIRST)
    write_down(bucket, SECOND, SECOND.tag)
    placed = await place_in_bucket(*reader_of(bucket), "orders", SECOND)
    assert (SECOND.life(SECOND.tag), None) == (placed.life, placed.problem)


async def test_brokers_without_ids_leave_the_cluster_to_be_compared(bucket: MemoryReader) -> None:
    """That is said; another cluster's topic is still told apart."""
    write_down(bucket, FIRST)
    assert "no id" in ((await place_in_bucket(*reader_of(bucket), "orders", WITHOUT_ID)).note or "")
    assert (await place_in_bucket(*reader_of(bucket), "orders", Identity("elsewhere", None))).problem is not None


async def test_the_brokers_of_the_demo_are_no_old_ones(bucket: MemoryReader) -> None:
    """Nothing alarming is said of them: their topics live no longer than the demo."""
    write_down(bucket, MOCK)
    assert (await place_in_bucket(*reader_of(bucket), "orders", MOCK)).note is None


async def test_what_cannot_be_read_proves_nothing(bucket: MemoryReader) -> None:
    """Garbage is no identity, and not a missing one either."""
    write_down(bucket, FIRST, body=b"garbage")
    assert "cannot be told" in ((await place_in_bucket(*reader_of(bucket), "orders", FIRST)).problem or "")


async def test_lives_are_listed_however_much_is_in_them(bucket: MemoryReader) -> None:
    """The first one, and each that has a ledger; one listing each."""
    write_down(bucket, FIRST)
    for one in (SECOND, OTHER_CLUSTER):
        write_down(bucket, one, one.tag)
        for offset in range(20):
            key = bucket.archive.layout.ledger_key(f"orders@{one.tag}", 0, offset, offset + 1, "00")
            bucket.objects[key] = FetchedObject(key, b"", {}, WRITTEN_AT)
    bucket.pages = 0
    found = await lives_in_bucket(*reader_of(bucket), "orders")
    assert {("orders", FIRST), ("orders@AbCd-_09", SECOND), ("orders@ZZZZ-_09", OTHER_CLUSTER)} == {
        (life.name, life.identity) for life in found
    }
    assert bucket.pages <= 6
    assert "topic id SdosoGFiQNSZ6iuNvoBkyQ, since 2026-11-20 00:00 UTC" in found[0].describe()


async def test_a_name_with_a_tag_reads_that_life_alone(bucket: MemoryReader) -> None:
    """Events and dead letters of both lives lie side by side at the same offsets."""
    later = SECOND.life(SECOND.tag)
    for life, value in ((FIRST.life(), b"first"), (later, b"second")):
        bucket.put(event(0, value=value, life=life))
    bucket.put(event(1, value=b"second", life=later))
    bucket.put_letter(event(2, life=later))
    archive = bucket.archive
    found = {name: await archive.event(name, 0, 0) for name in ("orders", "orders@AbCd-_09")}
    assert [b"first", b"second"] == [record.value for record in found.values() if record]
    counts = {}
    for name in found:
        (plan,) = await plan_restore(archive, Selection(name))
        counts[name] = (plan.objects, plan.dead_letters)
    assert {"orders": (1, 0), "orders@AbCd-_09": (2, 1)} == counts


async def test_a_dead_letter_keeps_its_life(bucket: MemoryReader) -> None:
    """So a redrive writes its event under that life's names."""
    later = SECOND.life(SECOND.tag)
    bucket.put_letter(event(0))
    bucket.put_letter(event(0, life=later))
    summary = LetterSummary()
    async for found in find_letters(bucket.archive, lambda topic: True):
        summary.add(found)
    assert ["orders", "orders@AbCd-_09"] == [group.topic for group in summary.groups]
    (group,) = [one for one in summary.groups if one.topic != "orders"]
    assert "orders@AbCd-_09/0/0" == group.first
