"""A message of librdkafka as a `Record`: nothing is made up, nothing is mixed up."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE, Message

from streams.kafka.records import record_of
from streams.record import CREATE_TIME, LOG_APPEND_TIME, Headers, Record, TopicPartition


def never_asked(tp: TopicPartition, offset: int) -> Headers:
    raise AssertionError(f"{tp}/{offset} was read again")


def make_message(**fields: Any) -> Message:
    return Message(**{"topic": "orders", "partition": 3, "offset": 7, "timestamp": (0, 0), **fields})


@pytest.mark.parametrize(
    ("timestamp", "timestamp_ms", "kind"),
    [
        ((TIMESTAMP_CREATE_TIME, 1_700_000_000_000), 1_700_000_000_000, CREATE_TIME),
        ((TIMESTAMP_LOG_APPEND_TIME, 5), 5, LOG_APPEND_TIME),
        ((TIMESTAMP_CREATE_TIME, 0), 0, CREATE_TIME),
        ((TIMESTAMP_CREATE_TIME, -2), -2, CREATE_TIME),
        ((TIMESTAMP_CREATE_TIME, -86_400_000), -86_400_000, CREATE_TIME),
        ((TIMESTAMP_CREATE_TIME, -1), None, CREATE_TIME),
        ((TIMESTAMP_NOT_AVAILABLE, 0), None, None),
    ],
)
def test_only_minus_one_is_no_timestamp(timestamp: tuple[int, int], timestamp_ms: int | None, kind: int | None) -> None:
    """The epoch and what lies before it are times; a broker of the oldest format has none, and no kind of it."""
    record = record_of(make_message(timestamp=timestamp), "orders", never_asked)
    assert (timestamp_ms, kind) == (record.timestamp_ms, record.timestamp_type)


@pytest.mark.parametrize("content", [None, b"", b"\x00"])
def test_null_and_empty_are_different(content: bytes | None) -> None:
    """In keys, values and headers."""
    message = make_message(key=content, value=content, headers=[("", content), ("", content)])
    expected = Record("orders", 3, 7, None, None, content, content, (("", content), ("", content)))
    assert expected == record_of(message, "orders", never_asked)


def test_event_without_headers_has_an_empty_tuple() -> None:
    """Whether librdkafka says `None` or an empty list."""
    assert () == record_of(make_message(headers=None), "orders", never_asked).headers
    assert () == record_of(make_message(headers=[]), "orders", never_asked).headers
