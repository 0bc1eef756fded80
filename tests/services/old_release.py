"""A member as the releases on aiokafka were: eager, assignor `roundrobin`, the ledger's notes with each commit.

It reads and commits and writes nothing: what matters here is what it leaves in the group.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.structs import OffsetAndMetadata

from tests.services.waiting import wait_until

_CALL_SECONDS = 30.0


class OldMember:
    """In the group from `start` (or the `with` block's beginning) to `stop`, in a thread of its own."""

    def __init__(self, bootstrap_servers: str, group: str, topic: str) -> None:
        self._options: dict[str, Any] = {
            "bootstrap_servers": bootstrap_servers,
            "group_id": group,
            "partition_assignment_strategy": [RoundRobinPartitionAssignor],
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            "session_timeout_ms": 6_000,
            "heartbeat_interval_ms": 400,
        }
        self._topic = topic
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="old-member", daemon=True)
        self._consumer: Any = None

    def start(self) -> None:
        self._thread.start()
        self._call(self._join()).result(_CALL_SECONDS)

    def stop(self) -> None:
        """Leave the group in an orderly way."""
        self._call(self._consumer.stop()).result(_CALL_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_SECONDS)

    def __enter__(self) -> OldMember:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self.stop()

    def partitions(self) -> set[int]:
        """What the group has given to it."""
        return {tp.partition for tp in self._consumer.assignment()}

    def wait_assigned(self, count: int, timeout_seconds: float = 30) -> None:
        wait_until(lambda: len(self.partitions()) == count, timeout_seconds, lambda: f"it has {self.partitions()}", 0.1)

    def commit(self, points: Mapping[int, tuple[int, str]]) -> None:
        """Commit offset and metadata by partition."""
        offsets = {TopicPartition(self._topic, tp): OffsetAndMetadata(*point) for tp, point in points.items()}
        self._call(self._consumer.commit(offsets)).result(_CALL_SECONDS)

    async def _join(self) -> None:
        self._consumer = AIOKafkaConsumer(self._topic, **self._options)
        await self._consumer.start()

    def _call(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)
