"""From librdkafka's message to an event of ours."""

from __future__ import annotations

from typing import Any, Final

from streams.record import UNKNOWN_LIFE, Life, Record, timestamp_or_none

RECORD_OVERHEAD_BYTES: Final = 1_000
"""What an event costs in memory besides its key, value and headers (measured: Record, Run's share, table entry)."""


def record_of(message: Any, topic: str, life: Life = UNKNOWN_LIFE) -> Record:
    """The event that librdkafka delivered (a `confluent_kafka.Message` without error)."""
    timestamp_type, timestamp = message.timestamp()
    headers = message.headers()
    return Record(
        topic,
        message.partition(),
        message.offset(),
        timestamp_or_none(timestamp) if timestamp_type else None,
        timestamp_type - 1 if timestamp_type else None,
        message.key(),
        message.value(),
        tuple(headers) if headers else (),
        life,
    )


def size_of(record: Record) -> int:
    """What the event takes in memory, in bytes."""
    size_bytes = RECORD_OVERHEAD_BYTES
    if record.key:
        size_bytes += len(record.key)
    if record.value:
        size_bytes += len(record.value)
    if record.headers:
        size_bytes += sum(len(name) + (len(content) if content else 0) for name, content in record.headers)
    return size_bytes
