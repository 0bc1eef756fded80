"""Objects and dead letters of a partition come as one sequence, in order, each event once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from streams.archive.events import archived_events, archived_partitions, in_order, is_archived, read_event
from streams.envelope import encode_envelope
from streams.errors import DamagedObjectError
from tests.unit.memory_reader import MemoryReader, event, settings

PADDED = "{prefix}{topic}/{partition:03d}/{offset}.json"
BY_TIME = "{prefix}{timestamp:%Y}/{topic}/{partition}/{offset}"


async def offsets(reader: MemoryReader, start: int = 0, stop: int | None = None) -> list[tuple[int, bool]]:
    return [(one.offset, one.is_dead_letter) async for one in archived_events(reader.archive, "orders", 0, start, stop)]


async def test_dead_letters_come_at_their_offset() -> None:
    """A dead letter is an event like the others, at its place in the partition."""
    reader = MemoryReader(settings())
    for offset in (1, 4, 5):
        reader.put(event(offset))
    for offset in (0, 3, 5, 9):  # 5 was redriven and its dead letter kept
        reader.put_letter(event(offset))
    expected = [(0, True), (1, False), (3, True), (4, False), (5, False), (9, True)]
    assert expected == await offsets(reader)
    assert expected[2:4] == await offsets(reader, 2, 5)


async def test_dead_letters_can_be_left_out() -> None:
    """The range is the same without them."""
    reader = MemoryReader(settings())
    reader.put(event(1))
    reader.put_letter(event(0))
    found = archived_events(reader.archive, "orders", 0, dead_letters=False)
    assert [1] == [one.offset async for one in found]


@pytest.mark.parametrize(
    "template",
    [
        "{prefix}{topic}/{partition}/{offset}",
        PADDED,
        BY_TIME,
        # Keys of several partitions lie side by side: nothing may be jumped over.
        "{prefix}{offset}/{topic}/{partition}",
        "{offset}{partition}",
        "{topic}/{offset}/{partition}",
        "{partition}/{offset}/{topic}",
        "{topic}/{partition}{offset}",
        "{topic}{partition}/{offset}",
        "{topic}/{partition}/{key}/{offset}",
    ],
)
async def test_partitions_are_found_in_the_bucket_alone(template: str) -> None:
    """Numbers of one, two and three digits, and partitions that have dead letters only."""
    reader = MemoryReader(settings(object_key_template=template))
    for partition in (0, 1, 10, 100):
        for offset in range(7):
            reader.put(event(offset, partition))
    reader.put_letter(event(0, 5))
    assert [0, 1, 5, 10, 100] == await archived_partitions(reader.archive, "orders")
    if "{topic}" in template:
        assert [] == await archived_partitions(reader.archive, "order")


@pytest.mark.parametrize(
    "template", ["{offset}/{topic}/{partition}", "{offset}{partition}", "{topic}/{offset}-{partition}"]
)
async def test_offset_before_partition_is_read_in_order(template: str) -> None:
    """Each partition by itself, whole, from any offset on, though the keys of others lie between its own."""
    reader = MemoryReader(settings(object_key_template=template))
    for offset in range(9):
        for partition in (0, 1, 10):
            reader.put(event(offset, partition))
    for partition in await archived_partitions(reader.archive, "orders"):
        found = [one async for one in archived_events(reader.archive, "orders", partition, 2, 8)]
        assert list(range(2, 8)) == [one.offset for one in found]
        records = [await read_event(reader.archive, "orders", partition, one) for one in found]
        assert [event(offset, partition) for offset in range(2, 8)] == records


async def test_topics_share_a_partition_s_beginning() -> None:
    """A page of another topic's events is no reason to pass over the partition."""
    reader = MemoryReader(settings(topics="orders,aaa", object_key_template="{partition}/{offset}/{topic}"))
    for partition in range(3):
        for offset in range(10):
            reader.put(replace(event(offset, partition), topic="aaa"))
        reader.put(event(20, partition))
    assert [0, 1, 2] == await archived_partitions(reader.archive, "orders")


async def test_partitions_cost_one_page_each() -> None:
    """A partition of a million objects is not listed to learn that it is there."""
    reader = MemoryReader(settings())
    for partition in range(3):
        for offset in range(60):
            reader.put(event(offset, partition))
    assert [0, 1, 2] == await archived_partitions(reader.archive, "orders")
    assert 3 == reader.pages


async def test_object_of_another_event_is_damage() -> None:
    """What is under an event's key is that event, or it is said that it is not."""
    reader = MemoryReader(settings())
    key = reader.put(event(1))
    reader.objects[key] = reader.objects[reader.put(event(2))]
    (first, _) = [one async for one in archived_events(reader.archive, "orders", 0)]
    with pytest.raises(DamagedObjectError, match="orders/0/2"):
        await read_event(reader.archive, "orders", 0, first)


ENVELOPE = encode_envelope(event(1))
DAMAGE: list[tuple[bytes, dict[str, str]]] = [
    (b"", {}),
    (b"[1,2,3]", {}),
    (ENVELOPE.replace(b'"headers":[]', b'"headers":[1,2,3]'), {}),
    (ENVELOPE.replace(b'"headers":[]', b'"headers":[["a",1,"utf-8"]]'), {}),
    (ENVELOPE.replace(b'"headers":[]', b'"headers":[["a","!","base64"]]'), {}),
    (ENVELOPE.replace(b'"key":"k"', b'"key":7'), {}),
    (b"v1", {"kafka-position": "orders/0"}),
    (b"v1", {"kafka-position": "orders/0/1", "kafka-timestamp-ms": "soon"}),
    (b"v1", {"kafka-position": "orders/0/1", "kafka-sidecar": "/../other"}),
    (b"v1", {"kafka-position": "orders/0/1", "kafka-sidecar": ".kafka.json"}),
]


@pytest.mark.parametrize(("body", "metadata"), DAMAGE)
async def test_damage_names_its_object(body: bytes, metadata: dict[str, str]) -> None:
    """Whatever is wrong with it: one kind of error, which `restore --skip-damaged` passes over."""
    reader = MemoryReader(settings())
    key = reader.put(event(1))
    reader.objects[key] = reader.objects[key]._replace(body=body, metadata=metadata)
    if "kafka-sidecar" in metadata:
        reader.objects[f"{key}.kafka.json"] = reader.objects[key]._replace(body=b'{"headers": [1,2,3]}')
    (found,) = [one async for one in archived_events(reader.archive, "orders", 0)]
    with pytest.raises(DamagedObjectError, match=re.escape(key)):
        await read_event(reader.archive, "orders", 0, found)


@pytest.mark.parametrize("body", [b"", b"7", b"[1,2,3]", ENVELOPE, b'{"dead_letter": 5}'])
async def test_damage_names_its_dead_letter(body: bytes) -> None:
    """The same for what stands in the place of a dead letter."""
    reader = MemoryReader(settings())
    key = reader.put_letter(event(1))
    reader.objects[key] = reader.objects[key]._replace(body=body)
    with pytest.raises(DamagedObjectError, match=re.escape(key)):
        await reader.archive.read_dead_letter(key)


async def test_redriven_meanwhile_is_still_found() -> None:
    """A dead letter that became an object between listing and reading is no loss."""
    reader = MemoryReader(settings())
    key = reader.put_letter(event(1))
    (found,) = [one async for one in archived_events(reader.archive, "orders", 0)]
    del reader.objects[key]
    reader.put(event(1))
    assert event(1) == await read_event(reader.archive, "orders", 0, found)
    reader.objects.clear()
    with pytest.raises(DamagedObjectError, match="gone"):
        await read_event(reader.archive, "orders", 0, found)


async def test_a_name_is_known_by_any_event_or_dead_letter() -> None:
    """And by no other topic's that begins as it does."""
    reader = MemoryReader(settings())
    assert not await is_archived(reader.archive, "orders")
    reader.put_letter(event(1, partition=12))
    assert await is_archived(reader.archive, "orders")
    reader.objects.clear()
    reader.put(event(1, partition=12))
    assert await is_archived(reader.archive, "orders")
    assert not await is_archived(reader.archive, "order")
    assert not await is_archived(reader.archive, "ordrs")


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def test_results_keep_the_order_of_the_items() -> None:
    """However long each takes, and never more at once than allowed."""
    under_way = most = 0

    async def read(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001 * (number % 3))
        under_way -= 1
        return -number

    assert [(number, -number) for number in range(20)] == [pair async for pair in in_order(numbers(20), read, 4)]
    assert 4 == most


async def test_failed_read_ends_it_and_leaves_nothing_running() -> None:
    """The error comes at its item's place; what was under way is cancelled."""

    async def read(number: int) -> int:
        if number == 1:
            raise ValueError(number)
        await asyncio.sleep(0 if number < 1 else 60)
        return number

    found = in_order(numbers(10), read, 4)
    assert (0, 0) == await anext(found)
    with pytest.raises(ValueError, match="1"):
        await anext(found)
    assert {asyncio.current_task()} == asyncio.all_tasks()
