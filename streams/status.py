"""One view of the whole worker, taken when somebody asks: what `/stats`, `/metrics`, health and the log line show."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, TypedDict

from faust.types import TP

from streams.costs import CostMeter
from streams.delivery import Delivery
from streams.retention_watch import RetentionWatch
from streams.stats import Stats

if TYPE_CHECKING:
    from streams.administration import Administration
    from streams.consumer import WatermarkConsumer

logger = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
"""Of `/stats`, described by `docs/stats.schema.json`: it rises when a field goes or means something else."""
END_OFFSETS_INTERVAL_SECONDS = 5.0
END_OFFSETS_TIMEOUT_SECONDS = 10.0
PERCENTILES = (0.5, 0.9, 0.99)


class Identity(TypedDict):
    """Which worker this is: what a page that shows one of many must say first."""

    host: str
    client_id: str
    group: str
    group_instance_id: str | None
    destination: str
    version: str


@dataclass(slots=True)
class PartitionStatus:
    """Where one assigned partition stands; offsets as Kafka counts them, lag in events."""

    topic: str
    partition: int
    position: int | None
    """The next offset to be taken from Kafka."""
    watermark: int | None
    """The lowest offset that is not durable: what the next commit carries."""
    committed: int | None
    end: int | None
    """The offset behind the last event that may be read (the last stable offset of a transactional topic)."""
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
    def lag(self) -> int | None:
        """Events behind the watermark; `None` while the broker has not been asked yet."""
        if self.end is None or self.watermark is None:
            return None
        return max(0, self.end - self.watermark)


class Status:
    """Reads consumer, delivery and statistics; keeps the end offsets and the topics' retention fresh."""

    def __init__(self, stats: Stats, delivery: Delivery, retention: RetentionWatch, costs: CostMeter) -> None:
        self.stats = stats
        self.delivery = delivery
        self.retention = retention
        self.costs = costs
        self.consumer: WatermarkConsumer | None = None
        self.identity: Identity | None = None
        self.administration: Administration | None = None
        """What an administrator has changed; `None` where nobody may (no STREAMS_ADMIN_TOKEN)."""
        self.last_rebalance: float | None = None
        """Monotonic time when the last rebalance was first seen to have ended."""
        self.assigned = False
        """Whether the group has given this worker its share of the partitions (which may be none)."""
        self.end_offsets: dict[TP, int] = {}
        self.end_offsets_at: float | None = None
        self._rebalances_seen = 0
        self._oldest: dict[TP, tuple[int, float]] = {}
        """When each partition's oldest pending event became that."""

    def tick(self, now: float) -> None:
        """Called once a second."""
        self.stats.tick(now)
        self.costs.tick(now)
        if self.stats.rebalances != self._rebalances_seen:
            self._rebalances_seen, self.last_rebalance = self.stats.rebalances, now
        if self.consumer is None:
            return
        seen: dict[TP, tuple[int, float]] = {}
        for tp, watermark in self.consumer.watermarks.items():
            oldest = watermark.oldest_pending
            watermark.oldest_timestamp_ms()  # forgets those that are no longer needed
            if oldest is not None:
                known = self._oldest.get(tp)
                seen[tp] = known if known and known[0] == oldest else (oldest, now)
        self._oldest = seen

    @property
    def end_offsets_missing(self) -> bool:
        """Whether partitions were assigned whose end is not known yet."""
        return self.consumer is not None and not self.consumer.watermarks.keys() <= self.end_offsets.keys()

    async def refresh_end_offsets(self) -> None:
        """Ask the broker how far each assigned partition goes; an answer that does not come is only noted."""
        consumer = self.consumer
        if consumer is None or not consumer.watermarks or self.rebalancing_seconds:
            return
        partitions = list(consumer.watermarks)
        try:
            ends: Mapping[Any, int] = await asyncio.wait_for(
                consumer.highwaters(*partitions), END_OFFSETS_TIMEOUT_SECONDS
            )
        except Exception as error:
            logger.debug("end offsets could not be read: %r", error)
            return
        self.end_offsets = {TP(tp.topic, tp.partition): end for tp, end in ends.items()}
        self.end_offsets_at = monotonic()
        self.retention.note_ends(self.end_offsets, self.end_offsets_at)

    async def refresh_retention(self) -> None:
        """Ask for the topics' retention where it is due, and for first offsets where they matter."""
        consumer = self.consumer
        if consumer is None or not consumer.watermarks or self.rebalancing_seconds:
            return
        partitions = list(consumer.watermarks)
        await self.retention.refresh({tp.topic for tp in partitions})
        limited = self.retention.limited_by_size(partitions)
        if not limited:
            return
        try:
            offsets: Mapping[Any, int] = await asyncio.wait_for(
                consumer.earliest_offsets(*limited), END_OFFSETS_TIMEOUT_SECONDS
            )
        except Exception as error:
            logger.debug("first offsets could not be read: %r", error)
            return
        self.retention.note_log_starts({TP(tp.topic, tp.partition): offset for tp, offset in offsets.items()})

    def partitions(self, now: float) -> list[PartitionStatus]:
        """Every assigned partition, in order."""
        consumer = self.consumer
        return [] if consumer is None else [self._partition(consumer, tp, now) for tp in sorted(consumer.watermarks)]

    def _partition(self, consumer: WatermarkConsumer, tp: TP, now: float) -> PartitionStatus:
        watermark = consumer.watermarks[tp]
        oldest = watermark.oldest_pending
        held = self.stats.holds.get((tp.topic, tp.partition)) if tp in consumer.held else None
        end = self.end_offsets.get(tp)
        if end is not None and watermark.position is not None:
            end = max(end, watermark.position)
        return PartitionStatus(
            topic=tp.topic,
            partition=tp.partition,
            position=watermark.position,
            watermark=watermark.committable,
            committed=consumer.committed_offset(tp),
            end=end,
            pending=len(watermark.pending),
            oldest=None if oldest is None else self._describe_oldest(tp, oldest, now),
            held=None if held is None else {"offset": held.offset, "reason": held.reason, "detail": held.detail},
            ledger_start=None if watermark.ledger is None else watermark.ledger.start,
            time_to_loss_seconds=self.retention.seconds_to_loss(
                tp, watermark=watermark.committable, end=end, oldest_timestamp_ms=watermark.oldest_timestamp_ms()
            ),
            paused=tp.topic in consumer.paused,
        )

    def _describe_oldest(self, tp: TP, offset: int, now: float) -> dict[str, Any]:
        waiting = self.stats.waiting.get((tp.topic, tp.partition, offset))
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
        held = self.stats.holds.get((tp.topic, tp.partition))
        reason = f"held: {held.reason}" if held and held.offset == offset else "in flight"
        return {"offset": offset, "age_seconds": round(age, 3), "reason": reason, "detail": None, "attempts": None}

    @property
    def rebalancing_seconds(self) -> float:
        """How long the current rebalance has lasted; 0 outside one."""
        since = self.consumer.rebalancing_since if self.consumer else None
        return 0.0 if since is None else monotonic() - since

    def lag(self, now: float) -> int | None:
        """Events that are not durable, over all assigned partitions."""
        return _sum_of_lags(self.partitions(now))

    def state(self) -> str:
        """One word for the whole worker: `starting`, `rebalancing`, `holding`, `running`."""
        if not self.assigned:
            return "starting"
        if self.rebalancing_seconds:
            return "rebalancing"
        return "holding" if self.stats.sink_failing else "running"

    def document(self) -> dict[str, Any]:
        """The whole status as `/stats` serves it (`docs/operations.md` explains each field)."""
        now = monotonic()
        stats, delivery = self.stats, self.delivery
        percentiles = stats.latency.percentiles_seconds(PERCENTILES)
        partitions = self.partitions(now)
        return {
            "schema_version": SCHEMA_VERSION,
            "worker": self.identity,
            "state": self.state(),
            "time": round(time(), 3),
            "uptime_seconds": round(now - stats.started, 1),
            "partitions": [_partition_document(partition) for partition in partitions],
            "lag": _sum_of_lags(partitions),
            "end_offsets_age_seconds": None if self.end_offsets_at is None else round(now - self.end_offsets_at, 1),
            "writes": {
                "in_flight": delivery.in_flight,
                "limit": delivery.limit.limit,
                "maximum": delivery.limit.maximum,
                "waiting_for_retry": len(stats.waiting),
                "latency_seconds": {f"p{int(share * 100)}": value for share, value in percentiles.items()},
                "rates": stats.rates(now),
            },
            "buffer": {
                "events": self.consumer.buffered_events if self.consumer else 0,
                "bytes": self.consumer.buffered_bytes if self.consumer else 0,
            },
            "totals": {
                "events": stats.events.total(),
                "bytes": stats.sent_bytes.total(),
                "dead_letters": stats.dead_letters.total(),
                "retries": dict(stats.retries),
                "rebalances": stats.rebalances,
                "lost_to_retention": stats.lost_to_retention.total(),
            },
            "topics": {
                topic: {
                    "events": stats.events[topic],
                    "bytes": stats.sent_bytes[topic],
                    "dead_letters": {reason: n for (of, reason), n in stats.dead_letters.items() if of == topic},
                }
                for topic in sorted(set(stats.events) | {of for of, _ in stats.dead_letters})
            },
            "cost": self.costs.document(now),
            "ledger": {
                "segments_written": stats.ledger_segments,
                "write_errors": stats.ledger_write_errors,
                "holes": stats.ledger_holes,
                "commits_held_seconds": round(stats.ledger_held_seconds(now), 1),
            },
            "last_durable_seconds_ago": _since(stats.last_durable, now),
            "last_rebalance_seconds_ago": _since(self.last_rebalance, now),
            "errors": stats.errors.documents(),
            "administration": None if self.administration is None else self.administration.document(),
        }

    def summary(self) -> str:
        """One line for the log."""
        now = monotonic()
        stats = self.stats
        rate = stats.rates(now)["60s"]
        slowest = stats.latency.percentiles_seconds((0.99,))[0.99]
        lag = self.lag(now)
        return (
            f"{self.state()}: {stats.events.total()} events durable, {rate['events_per_second']:.0f}/s, "
            f"lag {'unknown' if lag is None else lag}, {self.delivery.in_flight} in flight "
            f"(limit {self.delivery.limit.limit}), p99 {'-' if slowest is None else f'{slowest * 1000:.0f} ms'}, "
            f"{stats.retries.total()} retries, {stats.dead_letters.total()} dead letters, "
            f"{len(self.consumer.watermarks) if self.consumer else 0} partitions"
        )


def _since(moment: float | None, now: float) -> float | None:
    return None if moment is None else round(now - moment, 3)


def _sum_of_lags(partitions: list[PartitionStatus]) -> int | None:
    lags = [partition.lag for partition in partitions]
    return None if any(lag is None for lag in lags) else sum(lag for lag in lags if lag is not None)


def _partition_document(partition: PartitionStatus) -> dict[str, Any]:
    return {
        "topic": partition.topic,
        "partition": partition.partition,
        "position": partition.position,
        "watermark": partition.watermark,
        "committed": partition.committed,
        "end": partition.end,
        "lag": partition.lag,
        "pending": partition.pending,
        "oldest": partition.oldest,
        "held": partition.held,
        "ledger_start": partition.ledger_start,
        "time_to_loss_seconds": _finite(partition.time_to_loss_seconds),
        "at_risk": partition.at_risk,
        "paused": partition.paused,
    }


def _finite(seconds: float | None) -> float | None:
    """JSON has no infinity: `null` stands for "nothing is at risk" as well as for "unknown" (see `at_risk`)."""
    return None if seconds is None or math.isinf(seconds) else round(seconds, 1)
