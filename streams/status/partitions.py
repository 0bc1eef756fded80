"""Where each assigned partition stands, and what of it is known: lag is a number only where it is one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, Protocol

from streams.consumer.watermark import PartitionWatermark
from streams.record import TopicPartition
from streams.retention_watch import RetentionWatch
from streams.stats import Stats

END_OFFSETS_OLD_SECONDS: Final = 30.0
"""The broker is asked every few seconds: an end offset that is older says nothing about the lag any more."""


class ConsumerView(Protocol):
    """What the status reads of the consumer, on the event loop's thread; moments are monotonic."""

    @property
    def assigned(self) -> AbstractSet[TopicPartition]:
        """All partitions that the group gave this worker, those not begun yet among them."""

    @property
    def watermarks(self) -> Mapping[TopicPartition, PartitionWatermark]:
        """The bookkeeping of those that have begun."""

    @property
    def ends(self) -> Mapping[TopicPartition, tuple[int, float]]:
        """The offset behind the last readable event, and when the broker said so."""

    @property
    def log_starts(self) -> Mapping[TopicPartition, int]:
        """The first offset that Kafka still has, where it is known."""

    def want_log_starts(self, partitions: Iterable[TopicPartition]) -> None:
        """Keep the first offsets of these fresh, and of no others."""

    @property
    def held(self) -> AbstractSet[TopicPartition]:
        """Partitions that a rejected event has stopped."""

    @property
    def paused(self) -> AbstractSet[str]:
        """Topics that an administrator has paused."""

    @property
    def rebalancing_since(self) -> float | None:
        """`None` outside a rebalance."""

    @property
    def buffered_events(self) -> int:
        """Events taken and not durable."""

    @property
    def buffered_bytes(self) -> int:
        """What they take in memory."""

    @property
    def last_acknowledged(self) -> float:
        """When an event was last durable; before that, when the consumer was made."""

    @property
    def commit_due_since(self) -> float | None:
        """Since when durable offsets wait for a commit that Kafka accepts; `None`: none wait."""

    @property
    def last_committed(self) -> float | None:
        """When Kafka accepted the last commit."""

    @property
    def brokers_answered(self) -> float | None:
        """When any broker last answered anything; `None`: none ever did."""

    @property
    def refused_since(self) -> float | None:
        """Since when brokers have only refused this worker's login or TLS; `None`: they do not."""

    def committed_offset(self, tp: TopicPartition) -> int | None:
        """The offset that Kafka has accepted last; `None`: none, or unknown."""


@dataclass(slots=True)
class PartitionStatus:
    """Where one assigned partition stands; offsets as Kafka counts them, lag in events."""

    topic: str
    partition: int
    position: int | None
    """The next offset to be taken from Kafka; `None`: the partition has not begun yet."""
    watermark: int | None
    """The lowest offset that is not durable: what the next commit carries."""
    committed: int | None
    end: int | None
    """The offset behind the last event that may be read (the last stable offset of a transactional topic)."""
    end_age_seconds: float | None
    """How long ago the broker said so."""
    pending: int
    """Events taken and not durable yet."""
    oldest: dict[str, Any] | None
    """The oldest of those: offset, age, and why it waits."""
    held: dict[str, Any] | None
    ledger_start: int | None
    """From where on the ledger is not in an object yet; `None` where none is kept."""
    time_to_loss_seconds: float | None
    """Until the oldest event that is not durable leaves Kafka; infinite: nothing is at risk, `None`: unknown."""
    paused: bool = False
    """Whether somebody has paused its topic on this worker."""

    @property
    def at_risk(self) -> bool | None:
        """Whether Kafka will drop something that is not durable if nothing changes; `None`: unknown."""
        return None if self.time_to_loss_seconds is None else math.isfinite(self.time_to_loss_seconds)

    @property
    def end_is_known(self) -> bool:
        """Whether the broker has told the end of late."""
        age = self.end_age_seconds
        return self.end is not None and age is not None and age <= END_OFFSETS_OLD_SECONDS

    @property
    def lag(self) -> int | None:
        """Events behind the watermark; `None` where the partition has not begun or its end is not known (any more)."""
        if self.end is None or self.watermark is None or not self.end_is_known:
            return None
        return max(0, self.end - self.watermark)

    def document(self) -> dict[str, Any]:
        """As `/stats` shows it."""
        return {
            "topic": self.topic,
            "partition": self.partition,
            "position": self.position,
            "watermark": self.watermark,
            "committed": self.committed,
            "end": self.end,
            "end_age_seconds": None if self.end_age_seconds is None else round(self.end_age_seconds, 1),
            "lag": self.lag,
            "pending": self.pending,
            "oldest": self.oldest,
            "held": self.held,
            "ledger_start": self.ledger_start,
            "time_to_loss_seconds": _finite(self.time_to_loss_seconds),
            "at_risk": self.at_risk,
            "paused": self.paused,
        }


@dataclass(frozen=True, slots=True)
class LagSummary:
    """The lag of several partitions."""

    known: int
    """Sum over those whose lag is known."""
    unknown_partitions: int

    @property
    def total(self) -> int | None:
        """Over all of them; `None` while that of one is unknown."""
        return None if self.unknown_partitions else self.known


def summarize_lags(partitions: list[PartitionStatus]) -> LagSummary:
    """What is known of the lag of all partitions together."""
    lags = [partition.lag for partition in partitions]
    return LagSummary(sum(lag for lag in lags if lag is not None), lags.count(None))


def lag_that_moves(partitions: list[PartitionStatus]) -> int | None:
    """Of the partitions that do not wait on purpose; of a paused topic only what was taken is to be finished."""
    moving = [partition for partition in partitions if partition.held is None]
    lags = [partition.pending if partition.paused else partition.lag for partition in moving]
    return None if None in lags else sum(lag or 0 for lag in lags)


class PartitionReader:
    """Makes the status of partitions; remembers since when each one's oldest event has been that."""

    def __init__(self, stats: Stats, retention: RetentionWatch) -> None:
        self._stats = stats
        self._retention = retention
        self._oldest: dict[TopicPartition, tuple[int, float]] = {}

    def tick(self, consumer: ConsumerView, now: float) -> None:
        """Called once a second."""
        seen: dict[TopicPartition, tuple[int, float]] = {}
        for tp, watermark in consumer.watermarks.items():
            oldest = watermark.oldest_pending
            watermark.oldest_timestamp_ms()  # forgets those that are no longer needed
            if oldest is not None:
                known = self._oldest.get(tp)
                seen[tp] = known if known and known[0] == oldest else (oldest, now)
        self._oldest = seen

    def feed_retention(self, consumer: ConsumerView, now: float) -> None:
        """Tell it ends that are fresh (an old one would say that the partition does not grow) and first offsets."""
        ends = {tp: end for tp, (end, at) in consumer.ends.items() if now - at <= END_OFFSETS_OLD_SECONDS}
        self._retention.note_ends(ends, now)
        self._retention.note_log_starts(consumer.log_starts)

    def read(self, consumer: ConsumerView, now: float) -> list[PartitionStatus]:
        """Every assigned partition, in order."""
        return [self._status(consumer, tp, now) for tp in sorted(consumer.assigned | consumer.watermarks.keys())]

    def _status(self, consumer: ConsumerView, tp: TopicPartition, now: float) -> PartitionStatus:
        watermark = consumer.watermarks.get(tp)
        end, told_at = consumer.ends.get(tp, (None, now))
        status = PartitionStatus(
            topic=tp.topic,
            partition=tp.partition,
            position=watermark.position if watermark else None,
            watermark=watermark.committable if watermark else None,
            committed=consumer.committed_offset(tp),
            end=end,
            end_age_seconds=None if end is None else max(0.0, now - told_at),
            pending=len(watermark.pending) if watermark else 0,
            oldest=self._describe_oldest(tp, watermark, now),
            held=self._describe_hold(tp) if tp in consumer.held else None,
            ledger_start=watermark.ledger.start if watermark and watermark.ledger else None,
            time_to_loss_seconds=None,
            paused=tp.topic in consumer.paused,
        )
        if status.end is not None and status.position is not None:
            status.end = max(status.end, status.position)
        status.time_to_loss_seconds = self._seconds_to_loss(tp, status, watermark)
        return status

    def _seconds_to_loss(
        self, tp: TopicPartition, status: PartitionStatus, watermark: PartitionWatermark | None
    ) -> float | None:
        """An old end still shows that there are events behind the watermark, never that there are none."""
        behind = status.end is not None and status.watermark is not None and status.end > status.watermark
        return self._retention.seconds_to_loss(
            tp,
            watermark=status.watermark,
            end=status.end if behind or status.end_is_known else None,
            oldest_timestamp_ms=None if watermark is None else watermark.oldest_timestamp_ms(),
        )

    def _describe_hold(self, tp: TopicPartition) -> dict[str, Any] | None:
        held = self._stats.holds.get((tp.topic, tp.partition))
        return None if held is None else {"offset": held.offset, "reason": held.reason, "detail": held.detail}

    def _describe_oldest(
        self, tp: TopicPartition, watermark: PartitionWatermark | None, now: float
    ) -> dict[str, Any] | None:
        offset = None if watermark is None else watermark.oldest_pending
        if offset is None:
            return None
        waiting = self._stats.waiting.get((tp.topic, tp.partition, offset))
        if waiting is not None:
            return {
                "offset": offset,
                "age_seconds": round(now - waiting.since, 3),
                "reason": waiting.reason,
                "detail": waiting.detail,
                "attempts": waiting.attempts,
            }
        known = self._oldest.get(tp)
        age = now - known[1] if known and known[0] == offset else 0.0
        held = self._stats.holds.get((tp.topic, tp.partition))
        reason = f"held: {held.reason}" if held and held.offset == offset else "in flight"
        return {"offset": offset, "age_seconds": round(age, 3), "reason": reason, "detail": None, "attempts": None}


def _finite(seconds: float | None) -> float | None:
    """JSON has no infinity: `null` stands for "nothing is at risk" as well as for "unknown" (see `at_risk`)."""
    return None if seconds is None or math.isinf(seconds) else round(seconds, 1)
