"""What the consumer is told when it is made, and the little that it must know of the rest of the worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from confluent_kafka import KafkaError

from streams.consumer.lives import TopicLives
from streams.consumer.runs import Run
from streams.errors import ConfigurationError
from streams.kafka.admin import KafkaAdmin
from streams.kafka.explanations import Problem
from streams.record import Life, TopicPartition
from streams.stats import Stats


class Writes(Protocol):
    """The writes in flight, as a drain sees them (`streams.delivery`)."""

    async def wait_idle(
        self,
        timeout_seconds: float,
        *,
        partitions: Mapping[TopicPartition, Life] | None = None,
        even_if_failing: bool = True,
    ) -> bool:
        """Wait until none of these partitions' events, in these lives, is being written; whether it was in time."""

    async def abandon(self, partitions: Mapping[TopicPartition, Life] | None = None) -> int:
        """Cancel those that are; how many there were."""


class Ledgers(Protocol):
    """Who makes closed ledger segments durable (`streams.ledger_writer`)."""

    def offer(self, ledger: Any, committed: int) -> None:
        """A commit was accepted: write what it has closed."""

    def forget(self, ledger: Any) -> None:
        """The partition is somebody else's."""


@dataclass(slots=True)
class ConsumerOptions:
    """What the consumer needs; durations in seconds."""

    client: dict[str, Any]
    """librdkafka's configuration: connection, security, group (`consumer.poller` adds what must be as it is)."""
    group: str
    admin: KafkaAdmin
    """For questions to the cluster."""
    explain: Callable[[KafkaError], Problem]
    """Why brokers cannot be used, and what to do, in the words of the settings."""
    lives: TopicLives
    """Tells a topic from another one of the same name."""
    stats: Stats
    writes: Writes
    archive: Callable[[Run], Awaitable[None]]
    """Begins the writes of a run, as the agent does."""
    ledgers: Ledgers | None
    """`None` where no ledger is kept."""
    max_buffered_events: int
    max_buffered_bytes: int
    commit_interval_seconds: float
    drain_timeout_seconds: float
    rebalance_drain_timeout_seconds: float
    fatal: Callable[[ConfigurationError], None]
    """Ends the process with a message."""
