"""Whether a topic is still the one whose events are in the bucket (KIP-516): a name alone does not say so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from streams.kafka.admin import Topic
from streams.record import UNKNOWN_LIFE, Life, TopicPartition


class Lives(Protocol):
    """What the consumer asks of a topic's identity."""

    async def of(self, topics: Collection[str], committed: Mapping[TopicPartition, Any]) -> Mapping[str, Life | str]:
        """The life of each topic, or why its partitions must not be begun (yet)."""

    async def is_same(self, topic: str) -> bool:
        """Whether the topic is still the one that was begun; false while that cannot be told."""

    async def look(self, topics: Mapping[str, Topic]) -> None:
        """The metadata as it is now: a topic that is another one than before is noticed here, too."""

    def is_held(self, topic: str) -> bool:
        """Whether a condition already says why the topic is not read."""

    def hold_truncated(self, tp: TopicPartition, position: int, end: int) -> None:
        """The partition ends before what was read of it, so it has lost its end."""


class AnyLife:
    """For sinks in which one life cannot overwrite another, and for tests."""

    async def of(self, topics: Collection[str], committed: Mapping[TopicPartition, Any]) -> Mapping[str, Life | str]:
        """All are as they should be."""
        return dict.fromkeys(topics, UNKNOWN_LIFE)

    async def is_same(self, topic: str) -> bool:
        """Always."""
        return True

    async def look(self, topics: Mapping[str, Topic]) -> None:
        """Nothing depends on it."""

    def is_held(self, topic: str) -> bool:
        """Never."""
        return False

    def hold_truncated(self, tp: TopicPartition, position: int, end: int) -> None:
        """Nothing can be overwritten."""
