"""The bucket of a test, in memory, with the interface of `S3Reader`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

from streams.archive.objects import Archive
from streams.envelope import encode_dead_letter
from streams.metadata import object_metadata
from streams.record import CREATE_TIME, Record, name_in_bucket
from streams.settings import Settings
from streams.sinks.s3_reader import MAX_EVENT_OBJECT_BYTES, FetchedObject, ListedObject, S3Reader

WRITTEN_AT = datetime(2026, 11, 20, tzinfo=UTC)
PAGE_OBJECTS = 3


def event(offset: int, partition: int = 0, **fields: Any) -> Record:
    """An event of the topic `orders`; its timestamp is its offset unless told otherwise."""
    known: dict[str, Any] = {"timestamp_ms": offset, "key": b"k", "value": b"v%d" % offset}
    return Record("orders", partition, offset, timestamp_type=CREATE_TIME, **{**known, **fields})


class MemoryReader:
    """Objects by key; `put` and `put_letter` place events as the worker would."""

    def __init__(self, settings: Settings) -> None:
        self.objects: dict[str, FetchedObject] = {}
        self.archive = Archive(settings, cast(S3Reader, self))
        self.pages = 0

    def put(self, record: Record, modified_at: datetime = WRITTEN_AT) -> str:
        key = self.archive.layout.template.render(record)
        self.objects[key] = FetchedObject(key, record.value or b"", object_metadata(record)[0], modified_at)
        return key

    def put_letter(self, record: Record, reason: str = "key_template", detail: str = "no header tenant") -> str:
        key = self.archive.layout.dead_letter_key(
            name_in_bucket(record.topic, record.life), record.partition, record.offset
        )
        self.objects[key] = FetchedObject(key, encode_dead_letter(record, reason, detail), {}, WRITTEN_AT)
        return key

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[list[ListedObject]]:
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        for first in range(0, len(keys), PAGE_OBJECTS):
            self.pages += 1
            page = [(key, self.objects[key]) for key in keys[first : first + PAGE_OBJECTS]]
            yield [ListedObject(key, len(one.body), one.modified_at) for key, one in page]

    async def get(self, object_key: str, max_bytes: int = MAX_EVENT_OBJECT_BYTES) -> FetchedObject | None:
        return self.objects.get(object_key)

    async def exists(self, object_key: str) -> bool:
        return object_key in self.objects

    async def delete(self, object_key: str) -> None:
        self.objects.pop(object_key, None)


def settings(**fields: Any) -> Settings:
    """Settings for the topic `orders`."""
    needed = {
        "kafka_bootstrap_servers": "broker:9092",
        "topics": "orders",
        "consumer_group": "group",
        "s3_bucket": "bucket",
    }
    return Settings(**{**needed, **fields})
