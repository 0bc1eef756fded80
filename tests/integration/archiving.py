"""Events placed in a bucket by the worker's own sink, and topics read back record by record: for tests of commands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from streams.errors import RecordRejectedError
from streams.record import CREATE_TIME, Headers, Record
from streams.settings import Settings
from streams.sinks import make_sink

FOREVER = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)}
NEW_YEAR_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""

Published = tuple[bytes | None, bytes | None, int | None, Headers]
"""Key, value, timestamp (ms), headers of a record in Kafka."""


def event(topic: str, partition: int, offset: int, **fields: Any) -> Record:
    """An event with a second between it and the next, unless told otherwise."""
    known: dict[str, Any] = {"timestamp_ms": NEW_YEAR_MS + 1000 * offset, "key": b"k%d" % (offset % 3)}
    value = b"value %d" % offset
    return Record(topic, partition, offset, timestamp_type=CREATE_TIME, **{**known, "value": value, **fields})


def content(record: Record) -> Published:
    """What Kafka is to hold of the event."""
    return record.key, record.value, record.timestamp_ms, tuple(record.headers)


def worker_settings(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a worker with this environment, in this process."""
    for name, value in environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    prefix = "STREAMS_"
    fields: dict[str, Any] = {
        name.removeprefix(prefix).lower(): value for name, value in environment.items() if name.startswith(prefix)
    }
    return Settings(**fields)


class ArchiveWriter:
    """Writes events as a worker with these settings (its environment) would."""

    def __init__(self, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._environment = environment
        self._monkeypatch = monkeypatch

    def write(self, records: Iterable[Record], settings: Mapping[str, str] | None = None) -> None:
        """Events, and dead letters for those that the settings reject; `settings` adds to the environment."""
        asyncio.run(self._write(list(records), settings or {}))

    async def _write(self, records: list[Record], settings: Mapping[str, str]) -> None:
        environment = {"STREAMS_TOPICS": records[0].topic, **self._environment, **settings}
        sink = make_sink(worker_settings(environment, self._monkeypatch))
        await sink.start()
        places = asyncio.Semaphore(32)

        async def write(record: Record) -> None:
            async with places:
                try:
                    await sink.write(record)
                except RecordRejectedError as rejection:
                    await sink.write_dead_letter(record, rejection)

        await asyncio.gather(*(write(record) for record in records))
        await sink.close()


def read_topic(bootstrap_servers: str, topic: str, partitions: int) -> list[list[Published]]:
    """The committed records of each partition, in order."""
    return [_read_partition(bootstrap_servers, topic, partition) for partition in range(partitions)]


def _read_partition(bootstrap_servers: str, topic: str, partition: int) -> list[Published]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "reads-without-a-group",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "log_level": 0,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, partition, 0)])
        found: list[Published] = []
        while True:
            message = consumer.poll(20)
            assert message is not None, f"{topic}/{partition} did not come to its end"
            if message.error():
                return found
            _, timestamp_ms = message.timestamp()
            time_or_none = None if timestamp_ms == -1 else timestamp_ms
            headers: Any = message.headers() or ()
            found.append((message.key(), message.value(), time_or_none, tuple(headers)))
    finally:
        consumer.close()
