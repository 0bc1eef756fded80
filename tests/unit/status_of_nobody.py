"""A worker's status without a worker: for tests of what is shown of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any

from streams.consumer.watermark import PartitionWatermark
from streams.costs import CostMeter, Prices, Usage
from streams.delivery import Delivery
from streams.kafka.retention import Retention
from streams.record import TopicPartition
from streams.retention_watch import RetentionWatch
from streams.sinks.recording import RecordingSink
from streams.stats import Stats
from streams.status import Identity, PartitionStatus, Status

NOBODY: Identity = {
    "host": "host-1",
    "client_id": "streams",
    "group": "archive",
    "group_instance_id": None,
    "destination": "bucket my-events",
    "version": "1",
}


class StatusOfNobody(Status):
    """Shows the partitions that a test puts into `shown`."""

    def __init__(self) -> None:
        stats = Stats()
        delivery = Delivery(
            RecordingSink(), stats, max_in_flight=100, retry_base_seconds=1, retry_max_seconds=1, dead_letters=True
        )
        super().__init__(stats, delivery, RetentionWatch(_ask_nobody), CostMeter(Prices(), Usage), NOBODY)
        self.shown: list[PartitionStatus] | None = None
        """`None`: what the consumer has."""
        self.assigned = True

    def partitions(self, now: float) -> list[PartitionStatus]:
        """What the test says."""
        return super().partitions(now) if self.shown is None else self.shown


class ConsumerOfNobody:
    """What the status sees of a consumer, as a test wants it: nothing assigned, and all is well."""

    def __init__(self) -> None:
        self.assigned: set[TopicPartition] = set()
        self.watermarks: dict[TopicPartition, PartitionWatermark] = {}
        self.ends: dict[TopicPartition, tuple[int, float]] = {}
        self.log_starts: dict[TopicPartition, int] = {}
        self.committed: dict[TopicPartition, int] = {}
        self.held: set[TopicPartition] = set()
        self.paused: set[str] = set()
        self.rebalancing_since: float | None = None
        self.buffered_events = 0
        self.buffered_bytes = 0
        self.log_starts_wanted: set[TopicPartition] = set()
        self.last_acknowledged = monotonic()
        self.commit_due_since: float | None = None
        self.last_committed: float | None = None
        self.brokers_answered: float | None = monotonic()
        self.refused_since: float | None = None

    def want_log_starts(self, partitions: Iterable[TopicPartition]) -> None:
        """Remember them."""
        self.log_starts_wanted = set(partitions)

    def committed_offset(self, tp: TopicPartition) -> int | None:
        """The last commit."""
        return self.committed.get(tp)

    def assign(
        self, tp: TopicPartition, *, position: int | None = 5, end: int | None = 5, told_seconds_ago: float = 1.0
    ) -> None:
        """Give it a partition; `position=None`: one that has not begun."""
        self.assigned.add(tp)
        if position is not None:
            self.watermarks[tp] = PartitionWatermark(1, position)
            self.committed[tp] = position
        if end is not None:
            self.ends[tp] = (end, monotonic() - told_seconds_ago)


def status_of(consumer: ConsumerOfNobody) -> StatusOfNobody:
    """The status of a worker with this consumer."""
    status = StatusOfNobody()
    status.attach(consumer)
    return status


def partition(number: int = 0, topic: str = "orders", **fields: Any) -> PartitionStatus:
    """A partition that is up to date, but for these fields."""
    known: dict[str, Any] = {
        "position": 5,
        "watermark": 5,
        "committed": 5,
        "end": 5,
        "end_age_seconds": 1.0,
        "pending": 0,
        "oldest": None,
        "held": None,
        "ledger_start": None,
        "time_to_loss_seconds": float("inf"),
    }
    return PartitionStatus(topic=topic, partition=number, **{**known, **fields})


async def _ask_nobody(topics: Iterable[str]) -> Mapping[str, Retention | None]:
    return dict.fromkeys(topics)
