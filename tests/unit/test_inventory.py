"""Taking stock of the bucket: what is listed, in which order, in how many pieces, and what counts as an event."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from streams.layout import Layout
from streams.ledger import Segment, encode_segment, segment_digest
from streams.offset_set import OffsetSet
from streams.parallel import run_in_parallel
from streams.proof.inventory import Inventory, _distinct
from streams.proof.ledger_proof import LedgerReader
from streams.record import TopicPartition
from streams.settings import Settings
from streams.sinks.s3_reader import FetchedObject, ListedObject, S3Reader

MOMENT = datetime(2026, 11, 23, tzinfo=UTC)


class Bucket:
    """Objects in memory, listed as S3 does it, `page` keys at a time."""

    def __init__(self, keys: Iterable[str] = (), page: int = 3) -> None:
        self.bodies = dict.fromkeys(keys, b"")
        self.page = page
        self.requests: Counter[str] = Counter()

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[list[ListedObject]]:
        """As `S3Reader.list`."""
        keys = sorted(key for key in self.bodies if key.startswith(prefix) and key > after)
        for first in range(0, max(len(keys), 1), self.page):
            self.requests["LIST"] += 1
            await asyncio.sleep(0)
            yield [ListedObject(key, 1, MOMENT) for key in keys[first : first + self.page]]

    async def get(self, key: str, max_bytes: int = 0) -> FetchedObject | None:
        """As `S3Reader.get`."""
        self.requests["GET"] += 1
        return FetchedObject(key, self.bodies[key], {}, MOMENT) if key in self.bodies else None


def layout_of(**settings: Any) -> Layout:
    """The layout of a bucket."""
    return Layout(
        Settings(kafka_bootstrap_servers="k:1", topics="orders", consumer_group="g", s3_bucket="bucket", **settings)
    )


def inventory_of(bucket: Bucket, layout: Layout, piece_offsets: int = 5) -> Inventory:
    """An inventory of pieces small enough for a test."""
    return Inventory(cast(S3Reader, bucket), layout, ["orders"], parallel=4, piece_offsets=piece_offsets)


def key(offset: int, partition: int = 0) -> str:
    """The default template's."""
    return f"orders/{partition}/{offset:020d}.json"


async def test_pieces_find_every_object_once_and_nothing_else() -> None:
    """Objects of other partitions, sidecars, strange objects and those outside the range are left out."""
    there = [0, 1, 4, 5, 6, 9, 10, 14, 19, 20, 23]
    keys = [*(key(offset) for offset in there), key(4) + ".kafka.json", key(7, 1), key(8, 10), "orders/0/notes.txt"]
    bucket = Bucket([*keys, f"dead-letter/orders/0/{11:020d}.json", f"dead-letter/orders/0/{22:020d}.json"])
    inventory = inventory_of(bucket, layout_of())
    tp = TopicPartition("orders", 0)
    passed: list[int] = []
    found = (await inventory.take({tp: (1, 21)}, passed.append))[tp]
    assert [1, 4, 5, 6, 9, 10, 14, 19, 20] == list(found.objects)
    assert [11] == list(found.dead_letters)
    assert 20 == sum(passed)
    assert 0 == await inventory.first_offset(tp)


async def test_whole_bucket_is_listed_once_where_keys_are_in_another_order() -> None:
    """With the time in front all partitions come from one listing; dead letters and ledgers are no strange objects."""
    layout = layout_of(object_key_template="{timestamp:%Y}/{topic}/{partition}/{offset}.json")
    year = "2026/" + key(3)
    others = [f"dead-letter/orders/1/{7:020d}.json", f"ledger/orders/0/{0:020d}.json", "mine.txt", "2026/notes.txt"]
    bucket = Bucket(
        [year, "2025/" + key(4, 1), "2026/" + key(50), "2026/other/0/00000000000000000003.json", *others], 100
    )
    inventory = inventory_of(bucket, layout)
    tps = [TopicPartition("orders", 0), TopicPartition("orders", 1)]
    found = await inventory.take(dict.fromkeys(tps, (0, 10)))
    assert ([3], [4], [7]) == (
        list(found[tps[0]].objects),
        list(found[tps[1]].objects),
        list(found[tps[1]].dead_letters),
    )
    assert (3, 2) == (bucket.requests["LIST"], inventory.other_objects)
    assert await inventory.first_offset(tps[0]) is None


async def test_one_fixed_topic_may_be_left_out_of_the_key() -> None:
    """Its objects are those of the only topic."""
    bucket = Bucket(["0-00000000000000000002"])
    inventory = inventory_of(bucket, layout_of(object_key_template="{partition}-{offset}"))
    tp = TopicPartition("orders", 0)
    assert [2] == list((await inventory.take({tp: (0, 10)}))[tp].objects)


def test_estimate_counts_pages_and_dead_letters() -> None:
    """One LIST for a thousand offsets, and one for each partition's dead letters."""
    tps = [TopicPartition("orders", partition) for partition in range(2)]
    assert 13 + 2 == inventory_of(Bucket(), layout_of()).estimate({tps[0]: (0, 10_000), tps[1]: (0, 2_001)})


def test_prefixes_that_another_covers_are_listed_with_it() -> None:
    """Nothing is listed twice."""
    assert ["a/", "b/1", "b/2/"] == _distinct(["b/1", "a/", "a/x/", "b/2/", "b/10", "a/"])


async def test_empty_range_asks_nothing() -> None:
    """A partition without commits costs no request."""
    bucket = Bucket()
    tp = TopicPartition("orders", 0)
    found = await inventory_of(bucket, layout_of()).take({tp: (7, 7)})
    assert (0, 0) == (len(found[tp].all()), bucket.requests["LIST"])


async def test_ledger_is_read_where_it_matters_and_into_overlaps() -> None:
    """Segments that a set-back group has left for the same offsets are all read; damaged ones prove nothing."""
    layout, bucket = layout_of(), Bucket(page=100)
    tp = TopicPartition("orders", 0)
    for segment in (
        Segment("orders", 0, 0, 100),
        Segment("orders", 0, 100, 200, absent=((170, 171),)),
        Segment("orders", 0, 100, 200),
        Segment("orders", 0, 150, 250, absent=((170, 171),)),
        Segment("orders", 0, 250, 350),
    ):
        body = encode_segment(segment)
        key = layout.ledger_key("orders", 0, segment.start, segment.stop, segment_digest(body))
        bucket.bodies[key] = body
    bucket.bodies[layout.ledger_key("orders", 0, 350, 400, "0")] = b"{}"
    reader = LedgerReader(cast(S3Reader, bucket), layout, parallel=2)
    index = await reader.index(tp, Segment("orders", 0, 400, 410, absent=((405, 406),)))
    assert ([0, 100, 100, 150, 250, 350], 0) == ([one.start for one in index.segments], index.first)
    proof = await reader.proof(index, OffsetSet([(170, 171), (360, 361), (405, 406)]))
    assert (True, False, True) == (170 in proof.durable, 360 in proof.durable, 405 in proof.absent)
    assert 1 == len(proof.unreadable)
    assert 4 == bucket.requests["GET"]


async def test_first_failure_ends_the_other_jobs() -> None:
    """The error comes out as it is, and nothing goes on behind its back."""
    ended: list[str] = []

    async def fail() -> None:
        raise ValueError("first")

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    with pytest.raises(ValueError, match="first"):
        await run_in_parallel([wait, wait, fail, wait], 3)
    assert ["cancelled", "cancelled"] == ended
