"""How long Kafka keeps events, and so how long there is until the first one that is not durable is lost.

The arithmetic is pure; `topic_retentions` asks the brokers. The worker's status and `doctor` use both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError

from streams.kafka.admin import KafkaAdmin


@dataclass(frozen=True, slots=True)
class Retention:
    """What a topic's configuration says about deletion; `None`: no limit."""

    seconds: float | None = None
    size_bytes: int | None = None
    """Per partition."""

    @property
    def unlimited(self) -> bool:
        """Whether nothing is ever deleted (compaction may still drop what was superseded)."""
        return self.seconds is None and self.size_bytes is None


def retention_of(config: Mapping[str, str]) -> Retention:
    """The retention that a topic's configuration means (Kafka documentation, "Topic Configs"); -1 is no limit."""
    policy = config.get("cleanup.policy")
    if policy is not None and "delete" not in policy.replace(" ", "").split(","):
        return Retention()
    milliseconds, size_bytes = int(config.get("retention.ms") or -1), int(config.get("retention.bytes") or -1)
    return Retention(
        milliseconds / 1000 if milliseconds >= 0 else None,
        size_bytes if size_bytes >= 0 else None,
    )


def time_to_loss(
    retention: Retention,
    *,
    now_seconds: float,
    oldest_timestamp_ms: int | None,
    watermark: int,
    log_start: int | None = None,
    events_per_second: float | None = None,
) -> float | None:
    """Seconds until the oldest event that is not durable leaves Kafka, at the earliest; 0 when that is overdue.

    Args:
        retention: of the topic.
        now_seconds: since the epoch, by the clock that made the timestamps.
        oldest_timestamp_ms: when that event was made, `None`: unknown.
        watermark: its offset.
        log_start: the partition's first offset; only needed where the size is limited.
        events_per_second: how fast the partition grows; only needed where the size is limited. A full log loses
            as many at its beginning; one that is not full yet loses none, so the answer may be too low, never too high.

    Returns `math.inf` where nothing is ever deleted, `None` where a limit applies and what it needs is unknown.
    """
    left = math.inf
    if retention.seconds is not None:
        if oldest_timestamp_ms is None:
            return None
        left = oldest_timestamp_ms / 1000 + retention.seconds - now_seconds
    if retention.size_bytes is not None:
        if log_start is None or events_per_second is None:
            return None
        ahead = max(0, watermark - log_start)
        left = min(left, ahead / events_per_second if events_per_second > 0 else math.inf)
    return max(0.0, left)


async def topic_retentions(admin: KafkaAdmin, topics: Iterable[str]) -> dict[str, Retention | None]:
    """What the brokers say of each topic; `None` where they refuse (ACL DescribeConfigs on the topic).

    Raises:
        KafkaException: no broker answers, or none that can describe a configuration.
    """
    found = await admin.configurations(topics)
    return {name: None if isinstance(config, KafkaError) else retention_of(config) for name, config in found.items()}
