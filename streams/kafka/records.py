"""A delivered message as a `Record`: one step, on the worker's hot path and for every command."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any, Final

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from streams.record import UNKNOWN_LIFE, Headers, Life, Record, TopicPartition, timestamp_or_none

RECORD_OVERHEAD_BYTES: Final = 1_000
"""What an event costs in memory besides its key, value and headers (measured: Record, Run's share, table entry)."""

_headers_of: Final = methodcaller("headers")
"""`message.headers()`, called so that its error is seen at once.

Where a name is not UTF-8, confluent-kafka 2.16 returns a list and leaves the error set. Python notices that in a call
made by C code, as here, but not in one of its own that it has optimized: there the error surfaces in some later call.
"""

ReadHeaders = Callable[[TopicPartition, int], Headers]


def record_of(message: Any, topic: str, read_headers: ReadHeaders, life: Life = UNKNOWN_LIFE) -> Record:
    """The event that a message without an error is (0.7 µs).

    Only -1 is Kafka's "no timestamp"; what is before 1970 is a time like any other.

    Args:
        message: confluent-kafka's `Message`; ask it for its headers nowhere else (see `_headers_of`).
        topic: its topic's name, one string for all its messages (`message.topic()` makes one each time).
        read_headers: asked where a header's name is not UTF-8 (`HeaderReader.read`); what it raises is raised.
    """
    kind, timestamp_ms = message.timestamp()
    try:
        headers = _headers_of(message)
    except (SystemError, UnicodeDecodeError):
        # A second call would hand out a list with a hole where the name was.
        headers = read_headers(TopicPartition(topic, message.partition()), message.offset())
    known = kind != TIMESTAMP_NOT_AVAILABLE
    return Record(
        topic,
        message.partition(),
        message.offset(),
        timestamp_or_none(timestamp_ms) if known else None,
        kind - 1 if known else None,  # CREATE_TIME and LOG_APPEND_TIME are one higher in librdkafka
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
