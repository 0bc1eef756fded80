"""An event as Kafka delivered it: what every later stage (object key, body, metadata, sink) works from.

Pure data, no I/O; the consumer makes one per event and nothing changes it afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

TAG_PATTERN: Final = "[A-Za-z0-9_-]{8}"
"""What `Life.tag` can be, as a regular expression: the beginning of a topic's id."""
NO_TIMESTAMP: Final = -1
"""Kafka's `RecordBatch.NO_TIMESTAMP`; every other number, below it too, is a time."""
CREATE_TIME = 0
LOG_APPEND_TIME = 1

Headers = tuple[tuple[str, bytes | None], ...]


class TopicPartition(NamedTuple):
    """A partition's name. Equal to, and hashed as, Faust's `TP`, so both find the same entry of a table."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


@dataclass(frozen=True, slots=True)
class Life:
    """Which topic of that name an event belongs to: a topic that is deleted and recreated begins another life.

    `topic_id` is Kafka's (22 characters, KIP-516), `None` where the brokers know none. `tag` stands in the keys of the
    objects; it is empty for the first life that the bucket has seen.
    """

    cluster_id: str | None
    topic_id: str | None
    tag: str = ""


UNKNOWN_LIFE = Life(None, None)


def name_in_bucket(topic: str, life: Life) -> str:
    """The topic as the names of its objects have it: `topic@tag` in a later life. No topic's own name has an `@`."""
    return f"{topic}@{life.tag}" if life.tag else topic


def parts_of_name(name: str) -> tuple[str, str]:
    """The topic and the tag of a name in the bucket; the tag is empty for the first life."""
    topic, _, tag = name.partition("@")
    return topic, tag


@dataclass(slots=True)
class Record:
    """One Kafka event, byte for byte; `None` is Kafka's null, `b""` is empty, and the two are never mixed up.

    `timestamp_ms` is milliseconds since the epoch (UTC), negative before 1970, `None` where the broker has none;
    `timestamp_type` is `CREATE_TIME` or `LOG_APPEND_TIME` (KIP-32).
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    timestamp_type: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    life: Life = UNKNOWN_LIFE

    @property
    def position(self) -> str:
        """`topic/partition/offset`, the event's name in logs, errors and dead letters."""
        return f"{self.topic}/{self.partition}/{self.offset}"


def timestamp_or_none(timestamp_ms: int | None) -> int | None:
    """A timestamp as Kafka delivered it, `None` where it is Kafka's "none"."""
    return None if timestamp_ms == NO_TIMESTAMP else timestamp_ms
