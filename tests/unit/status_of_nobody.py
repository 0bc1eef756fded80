"""A worker's status without a worker: for tests of what is shown of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streams.costs import CostMeter, Prices, Usage
from streams.delivery import Delivery
from streams.kafka.retention import Retention
from streams.retention_watch import RetentionWatch
from streams.sinks.recording import RecordingSink
from streams.stats import Stats
from streams.status import PartitionStatus, Status


class StatusOfNobody(Status):
    """Shows the partitions that a test puts into `shown`."""

    def __init__(self) -> None:
        stats = Stats()
        delivery = Delivery(
            RecordingSink(), stats, max_in_flight=100, retry_base_seconds=1, retry_max_seconds=1, dead_letters=True
        )
        super().__init__(stats, delivery, RetentionWatch(_ask_nobody), CostMeter(Prices(), Usage))
        self.shown: list[PartitionStatus] = []
        self.assigned = True
        self.identity = {
            "host": "host-1",
            "client_id": "streams",
            "group": "archive",
            "group_instance_id": None,
            "destination": "bucket my-events",
            "version": "1",
        }

    def partitions(self, now: float) -> list[PartitionStatus]:
        """What the test says."""
        return self.shown


def partition(number: int = 0, topic: str = "orders", **fields: Any) -> PartitionStatus:
    """A partition that is up to date, but for these fields."""
    known: dict[str, Any] = {
        "position": 5,
        "watermark": 5,
        "committed": 5,
        "end": 5,
        "pending": 0,
        "oldest": None,
        "held": None,
        "ledger_start": None,
        "time_to_loss_seconds": float("inf"),
    }
    return PartitionStatus(topic=topic, partition=number, **{**known, **fields})


async def _ask_nobody(topics: Iterable[str]) -> Mapping[str, Retention | None]:
    return dict.fromkeys(topics)
