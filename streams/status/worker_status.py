"""One view of the whole worker, taken when somebody asks: what `/stats`, `/metrics`, health and the log line show."""

from __future__ import annotations

from math import inf
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, TypedDict

from streams.costs import CostMeter
from streams.delivery import Delivery
from streams.retention_watch import RetentionWatch
from streams.stats import Kind, SinkWatch, Stats
from streams.status.partitions import (
    ConsumerView,
    PartitionReader,
    PartitionStatus,
    lag_that_moves,
    summarize_lags,
)

if TYPE_CHECKING:
    from streams.administration import Administration

SCHEMA_VERSION: Final = 1
"""Of `/stats`, described by `docs/stats.schema.json`: it rises when a field goes or means something else."""
PERCENTILES: Final = (0.5, 0.9, 0.99)
WAITED_FOR: Final = frozenset({Kind.POSITION_UNKNOWN, Kind.NO_LEADER, Kind.COORDINATOR_AWAY, Kind.TOPIC_RECREATED})
"""Why a partition is not begun, beside the bucket that does not answer (`Stats.sink_failing`)."""
LOOK_SECONDS: Final = 4.5
"""How often it is looked whether there is anything to do: about as often as the brokers tell the ends."""


class Identity(TypedDict):
    """Which worker this is: what a page that shows one of many must say first."""

    host: str
    client_id: str
    group: str
    group_instance_id: str | None
    destination: str
    version: str


class Status:
    """Reads consumer, delivery and statistics; its tick keeps what takes time to be known."""

    def __init__(
        self,
        stats: Stats,
        delivery: Delivery,
        retention: RetentionWatch,
        costs: CostMeter,
        identity: Identity,
        administration: Administration | None = None,
    ) -> None:
        """`administration` is what an administrator has changed; `None` where nobody may (no STREAMS_ADMIN_TOKEN)."""
        self.stats = stats
        self.delivery = delivery
        self.retention = retention
        self.costs = costs
        self.identity = identity
        self.administration = administration
        self.consumer: ConsumerView | None = None
        self.last_rebalance: float | None = None
        """Monotonic time when the last rebalance was first seen to have ended."""
        self.assigned = False
        """Whether the group has given this worker its share of the partitions (which may be none)."""
        self.behind_since: float | None = None
        """Monotonic time since when Kafka is known to have events that should be taken; `None`: it has none."""
        self._looked_at = -inf
        self._rebalances_seen = 0
        self._sink = SinkWatch(stats)
        self._reader = PartitionReader(stats, retention)

    def attach(self, consumer: ConsumerView) -> None:
        """Show this consumer from now on (Faust makes it after the pages)."""
        self.consumer = consumer

    def tick(self, now: float) -> None:
        """Called once a second."""
        self.stats.tick(now)
        self.costs.tick(now)
        self._sink.tick(now)
        if self.stats.rebalances != self._rebalances_seen:
            self._rebalances_seen, self.last_rebalance = self.stats.rebalances, now
        if self.consumer is not None:
            self._reader.tick(self.consumer, now)
        if now - self._looked_at >= LOOK_SECONDS:
            self._look(now)

    def _look(self, now: float) -> None:
        """What takes a moment with many partitions, and need not be done each second."""
        self._looked_at = now
        if self.consumer is not None:
            self._reader.feed_retention(self.consumer, now)
            self.consumer.want_log_starts(self.retention.limited_by_size(self.consumer.assigned))
        if not lag_that_moves(self.partitions(now)):
            self.behind_since = None
        elif self.behind_since is None:
            self.behind_since = now

    async def refresh_retention(self) -> None:
        """Ask for the topics' retention where it is due."""
        if self.consumer is not None and not self.rebalancing_seconds:
            await self.retention.refresh({tp.topic for tp in self.consumer.assigned})

    def partitions(self, now: float) -> list[PartitionStatus]:
        """Every assigned partition, in order."""
        return [] if self.consumer is None else self._reader.read(self.consumer, now)

    @property
    def rebalancing_seconds(self) -> float:
        """How long the current rebalance has lasted; 0 outside one."""
        since = self.consumer.rebalancing_since if self.consumer else None
        return 0.0 if since is None else monotonic() - since

    def lag(self, now: float) -> int | None:
        """Events that are not durable, over all assigned partitions; `None` while it is unknown."""
        return self._total_lag(self.partitions(now))

    def _total_lag(self, partitions: list[PartitionStatus]) -> int | None:
        """No partitions, no lag: but only where the group has said so, and the worker is still in it."""
        if not partitions and self.state() not in ("running", "holding"):
            return None
        return summarize_lags(partitions).total

    def state(self) -> str:
        """One word for the whole worker: `starting`, `disconnected`, `rebalancing`, `holding`, `running`."""
        conditions = self.stats.conditions
        if conditions.of(Kind.BROKERS_DOWN):
            return "disconnected"
        if not self.assigned:
            return "starting"
        if conditions.of(Kind.NOT_JOINED):
            return "disconnected"
        if self.rebalancing_seconds:
            return "rebalancing"
        return "holding" if self.stats.sink_failing or self._none_has_begun() else "running"

    def _none_has_begun(self) -> bool:
        """Whether all that was assigned waits, and a condition says for what."""
        consumer = self.consumer
        if consumer is None or not consumer.assigned or not consumer.assigned.isdisjoint(consumer.watermarks):
            return False
        return any(one.kind in WAITED_FOR for one in self.stats.conditions.active())

    def document(self) -> dict[str, Any]:
        """The whole status as `/stats` serves it (`docs/operations.md` explains each field)."""
        now = monotonic()
        stats, partitions = self.stats, self.partitions(now)
        lags = summarize_lags(partitions)
        return {
            "schema_version": SCHEMA_VERSION,
            "worker": self.identity,
            "state": self.state(),
            "conditions": [one.document(now) for one in stats.conditions.most_serious_first()],
            "time": round(time(), 3),
            "uptime_seconds": round(now - stats.started, 1),
            "partitions": [partition.document() for partition in partitions],
            "lag": self._total_lag(partitions),
            "lag_known": lags.known,
            "lag_unknown_partitions": lags.unknown_partitions,
            "end_offsets_age_seconds": _oldest_end(partitions),
            "writes": self._writes(now),
            "buffer": {
                "events": self.consumer.buffered_events if self.consumer else 0,
                "bytes": self.consumer.buffered_bytes if self.consumer else 0,
            },
            "totals": self._totals(),
            "topics": self._topics(),
            "cost": self.costs.document(now),
            "ledger": {
                "segments_written": stats.ledger_segments,
                "write_errors": stats.ledger_write_errors,
                "holes": stats.ledger_holes,
                "commits_held_seconds": round(stats.ledger_held_seconds(now), 1),
            },
            "last_durable_seconds_ago": _since(stats.last_durable, now),
            "last_commit_seconds_ago": _since(self.consumer.last_committed if self.consumer else None, now),
            "last_rebalance_seconds_ago": _since(self.last_rebalance, now),
            "errors": stats.errors.documents(),
            "administration": None if self.administration is None else self.administration.document(),
        }

    def _writes(self, now: float) -> dict[str, Any]:
        delivery = self.delivery
        percentiles = self.stats.latency.percentiles_seconds(PERCENTILES)
        return {
            "in_flight": delivery.in_flight,
            "limit": delivery.limit.limit,
            "maximum": delivery.limit.maximum,
            "waiting_for_retry": len(self.stats.waiting),
            "latency_seconds": {f"p{int(share * 100)}": value for share, value in percentiles.items()},
            "rates": self.stats.rates(now),
        }

    def _totals(self) -> dict[str, Any]:
        stats = self.stats
        return {
            "events": stats.events.total(),
            "bytes": stats.sent_bytes.total(),
            "dead_letters": stats.dead_letters.total(),
            "retries": dict(stats.retries),
            "rebalances": stats.rebalances,
            "lost_to_retention": stats.lost_to_retention.total(),
        }

    def _topics(self) -> dict[str, Any]:
        stats = self.stats
        return {
            topic: {
                "events": stats.events[topic],
                "bytes": stats.sent_bytes[topic],
                "dead_letters": {reason: n for (of, reason), n in stats.dead_letters.items() if of == topic},
            }
            for topic in sorted(set(stats.events) | {of for of, _ in stats.dead_letters})
        }

    def summary(self) -> str:
        """One line for the log."""
        now = monotonic()
        stats, partitions = self.stats, self.partitions(now)
        rate = stats.rates(now)["60s"]
        slowest = stats.latency.percentiles_seconds((0.99,))[0.99]
        lag = self._total_lag(partitions)
        return (
            f"{self.state()}: {stats.events.total()} events durable, {rate['events_per_second']:.0f}/s, "
            f"lag {'unknown' if lag is None else lag}, {self.delivery.in_flight} in flight "
            f"(limit {self.delivery.limit.limit}), p99 {'-' if slowest is None else f'{slowest * 1000:.0f} ms'}, "
            f"{stats.retries.total()} retries, {stats.dead_letters.total()} dead letters, "
            f"{len(partitions)} partitions"
        )


def _since(moment: float | None, now: float) -> float | None:
    return None if moment is None else round(now - moment, 3)


def _oldest_end(partitions: list[PartitionStatus]) -> float | None:
    ages = [partition.end_age_seconds for partition in partitions if partition.end_age_seconds is not None]
    return round(max(ages), 1) if ages else None
