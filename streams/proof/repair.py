"""Writes missing and wrong events again from Kafka, with the worker's own sink and retries.

It keeps no state and touches no group: run again, it verifies again and writes what is left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from streams.delivery import Delivery
from streams.kafka.reader import KafkaReader
from streams.offset_set import OffsetSet
from streams.proof.offset_ranges import joined, parted
from streams.proof.result import EXIT_PROVED, EXIT_UNCHECKED, EXIT_WRONG, PartitionResult, Verdict
from streams.proof.verification import READ_THROUGH_OFFSETS
from streams.record import UNKNOWN_LIFE, Life, Record, TopicPartition
from streams.settings import Settings
from streams.sinks import Sink
from streams.stats import Stats, watched_sink

IDLE_SECONDS = 60.0
LEFT_RETENTION = "it left Kafka's retention"
COMPACTED = "Kafka does not deliver it any more (compacted, or deleted)"
RECREATED = "the topic was deleted and recreated while it was being verified"
NEVER_WRITTEN = "it left Kafka's retention before it was written"

Advance = Callable[[int], None]


class Pace(NamedTuple):
    """How fast events are written, and for how long each is tried."""

    events_per_second: float
    in_flight: int
    give_up_seconds: float


@dataclass
class PartitionRepair:
    """What was written for a partition, and what could not be, with the reasons."""

    topic: str
    partition: int
    wanted: OffsetSet = field(default_factory=OffsetSet)
    repaired: OffsetSet = field(default_factory=OffsetSet)
    failures: dict[str, OffsetSet] = field(default_factory=dict)
    life: Life = UNKNOWN_LIFE
    """Which topic of that name was verified: only its events are written, and under its names."""

    def fail(self, start: int, stop: int, reason: str) -> None:
        """Note offsets that could not be repaired."""
        self.failures.setdefault(reason, OffsetSet()).add_range(start, stop)

    @property
    def failed(self) -> int:
        """How many could not be repaired."""
        return sum(len(offsets) for offsets in self.failures.values())


def plan_repair(part: PartitionResult) -> PartitionRepair:
    """What of a verified partition can be written again, and what cannot."""
    repair = PartitionRepair(part.topic, part.partition, life=part.life)
    repair.wanted |= part.repairable
    for start, stop in part.missing.ranges():
        for gone, still_there in parted(start, stop, part.repairable):
            if not still_there:
                repair.fail(gone[0], min(gone[1], max(part.earliest, gone[0])), LEFT_RETENTION)
                repair.fail(max(gone[0], part.earliest), gone[1], COMPACTED)
    for start, stop in part.lost.ranges():
        repair.fail(start, stop, NEVER_WRITTEN)
    repair.failures = {reason: offsets for reason, offsets in repair.failures.items() if offsets}
    return repair


class Repairer:
    """Reads exactly the wanted events and writes them, at a bounded rate."""

    def __init__(self, settings: Settings, kafka: KafkaReader, sink: Sink, pace: Pace) -> None:
        self._kafka = kafka
        self._interval_seconds = 1 / pace.events_per_second
        self._next_at = 0.0
        self.stats = Stats()
        self._repairs: dict[tuple[str, int], PartitionRepair] = {}
        self._delivery = Delivery(
            sink,
            self.stats,
            max_in_flight=pace.in_flight,
            retry_base_seconds=settings.retry_base_seconds,
            retry_max_seconds=settings.retry_max_seconds,
            dead_letters=settings.on_reject == "dead-letter",
            give_up_seconds=pace.give_up_seconds,
            on_failure=self._note_failure,
        )

    async def run(self, repairs: list[PartitionRepair], advance: Advance = lambda _: None) -> None:
        """Write what is wanted; the repairs hold the result."""
        self._repairs = {(one.topic, one.partition): one for one in repairs}

        def acknowledge(record: Record) -> None:
            self._repairs[record.topic, record.partition].repaired.add(record.offset)
            advance(1)

        await self._delivery.sink.start()
        try:
            async with watched_sink(self.stats):
                for repair in repairs:
                    await self._write(repair, acknowledge)
                while not await self._delivery.wait_idle(IDLE_SECONDS):
                    continue
        finally:
            await self._delivery.abandon()
            await self._delivery.sink.close()
        for repair in repairs:
            _note_undelivered(repair)

    async def _write(self, repair: PartitionRepair, acknowledge: Callable[[Record], None]) -> None:
        tp = TopicPartition(repair.topic, repair.partition)
        if repair.wanted and not await self._is_same_topic(repair):
            for start, stop in repair.wanted.ranges():
                repair.fail(start, stop, RECREATED)
            return
        earliest = (await self._kafka.beginnings([tp]))[tp] if repair.wanted else 0
        for start, stop in joined(repair.wanted.ranges(), READ_THROUGH_OFFSETS):
            async for batch in self._kafka.read(tp, max(start, earliest), stop):
                for record in batch:
                    if record.offset in repair.wanted:
                        record.life = repair.life
                        await self._keep_to_rate()
                        await self._delivery.start(record, acknowledge)

    async def _is_same_topic(self, repair: PartitionRepair) -> bool:
        """Whether the name still stands for the topic that was verified, as far as Kafka tells."""
        if repair.life.topic_id is None:
            return True
        return (await self._kafka.identities([repair.topic]))[repair.topic].topic_id == repair.life.topic_id

    async def _keep_to_rate(self) -> None:
        now = monotonic()
        if self._next_at > now:
            await asyncio.sleep(self._next_at - now)
        self._next_at = max(self._next_at, now) + self._interval_seconds

    def _note_failure(self, record: Record, error: Exception) -> None:
        self._repairs[record.topic, record.partition].fail(record.offset, record.offset + 1, str(error))


def _note_undelivered(repair: PartitionRepair) -> None:
    """What was still there when it was looked for, and was not delivered any more when it was to be read."""
    done = OffsetSet()
    done |= repair.repaired
    for offsets in repair.failures.values():
        done |= offsets
    for start, stop in repair.wanted.ranges():
        for gone in done.missing_from(start, stop):
            repair.fail(*gone, COMPACTED)


def repair_exit_code(rest: Verdict, repairs: list[PartitionRepair]) -> int:
    """0 when nothing is left missing, 1 when something could not be repaired, 2 when a part could not be checked.

    `rest` is the verdict beside the faults.
    """
    if any(one.failed or len(one.repaired) < len(one.wanted) for one in repairs):
        return EXIT_WRONG
    return EXIT_UNCHECKED if rest.exit_code == EXIT_UNCHECKED else EXIT_PROVED


def reasons_of(repairs: list[PartitionRepair]) -> Counter[str]:
    """How many events could not be repaired, by reason."""
    counted: Counter[str] = Counter()
    for repair in repairs:
        counted.update({reason: len(offsets) for reason, offsets in repair.failures.items()})
    return counted
