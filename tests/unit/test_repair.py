"""Repair: what is written again, how fast, and what is said of the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import monotonic
from typing import Any, cast

import pytest

from streams.errors import RecordRejectedError, SinkRefusedError
from streams.kafka.reader import KafkaReader
from streams.offset_set import OffsetSet
from streams.proof.repair import COMPACTED, LEFT_RETENTION, NEVER_WRITTEN, Pace, Repairer, plan_repair, repair_exit_code
from streams.proof.result import PartitionResult, verdict_beside_faults
from streams.record import Record, TopicPartition
from streams.settings import Settings
from streams.sinks import Sink


class Kafka:
    """A partition with these offsets; one reading at a time."""

    def __init__(self, offsets: range | list[int], earliest: int = 0) -> None:
        self.offsets = offsets
        self.earliest = earliest

    async def beginnings(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """As `KafkaReader.beginnings`."""
        return dict.fromkeys(partitions, self.earliest)

    async def read(self, tp: TopicPartition, start: int, stop: int) -> AsyncIterator[list[Record]]:
        """As `KafkaReader.read`."""
        yield [Record(tp.topic, tp.partition, one, 0, 0, None, b"x") for one in self.offsets if start <= one < stop]


class Objects:
    """A sink that keeps offsets, and fails for those that it is told to."""

    def __init__(self, failing: dict[int, Exception] | None = None) -> None:
        self.failing = failing or {}
        self.written: list[int] = []
        self.dead_letters: list[int] = []

    async def start(self) -> None:
        """Nothing to do."""

    async def write(self, record: Record) -> int:
        """Keep it, or fail."""
        if record.offset in self.failing:
            raise self.failing[record.offset]
        self.written.append(record.offset)
        return 1

    async def write_dead_letter(self, record: Record, rejection: RecordRejectedError) -> str:
        """Keep it among the dead letters."""
        self.dead_letters.append(record.offset)
        return "dead-letter"

    async def close(self) -> None:
        """Nothing to do."""


def part_of(**changes: Any) -> PartitionResult:
    """A verified partition."""
    return PartitionResult("orders", 0, 0, 100, end=100, **changes)


def repairer_of(kafka: Kafka, sink: Objects, rate: float = 1e5, **settings: Any) -> Repairer:
    """A repairer that gives up soon."""
    values = Settings(
        kafka_bootstrap_servers="k:1", topics="orders", consumer_group="g", s3_bucket="bucket", retry_base_seconds=0.001
    )
    changed = values.model_copy(update=settings)
    return Repairer(changed, cast(KafkaReader, kafka), cast(Sink, sink), Pace(rate, 10, 0.05))


def test_plan_tells_what_cannot_be_repaired_and_why() -> None:
    """Missing events that Kafka delivers are wanted; the others are gone by retention, compaction, or long ago."""
    part = part_of(
        earliest=10,
        missing=OffsetSet([(5, 15), (20, 22)]),
        repairable=OffsetSet([(12, 15), (21, 22), (40, 41)]),
        wrong=OffsetSet([(40, 41)]),
        lost=OffsetSet([(1, 2)]),
    )
    plan = plan_repair(part)
    assert [(12, 15), (21, 22), (40, 41)] == list(plan.wanted.ranges())
    assert {LEFT_RETENTION: [(5, 10)], COMPACTED: [(10, 12), (20, 21)], NEVER_WRITTEN: [(1, 2)]} == {
        why: list(offsets.ranges()) for why, offsets in plan.failures.items()
    }


async def test_writes_exactly_what_is_wanted() -> None:
    """Neighbours that are read through are left alone, and offsets that Kafka no longer delivers are named."""
    part = part_of(missing=OffsetSet([(3, 5), (50, 52)]), repairable=OffsetSet([(3, 5), (50, 52)]))
    plan, sink = plan_repair(part), Objects()
    await repairer_of(Kafka([*range(51), *range(52, 100)]), sink).run([plan])
    assert [3, 4, 50] == sorted(sink.written) == list(plan.repaired)
    assert [(51, 52)] == list(plan.failures[COMPACTED].ranges())
    assert 1 == repair_exit_code(verdict_beside_faults([part], "g"), [plan])


async def test_rejected_events_become_dead_letters_and_refused_ones_are_given_up() -> None:
    """As in the worker, but for the end: after a while an event is given up, with the sink's reason."""
    part = part_of(missing=OffsetSet([(3, 6)]), repairable=OffsetSet([(3, 6)]))
    plan = plan_repair(part)
    sink = Objects({3: RecordRejectedError("too_large", "5 TB"), 4: SinkRefusedError("kms", "no key", "Make one.")})
    await repairer_of(Kafka(range(100)), sink).run([plan])
    assert ([5], [3], [3, 5]) == (sink.written, sink.dead_letters, list(plan.repaired))
    assert {"kms: no key Make one.": [4]} == {why: list(offsets) for why, offsets in plan.failures.items()}


async def test_rejected_events_without_dead_letters_are_failures() -> None:
    """`STREAMS_ON_REJECT=hold`: nothing is set aside, and the repair does not hang."""
    part = part_of(missing=OffsetSet([(3, 4)]), repairable=OffsetSet([(3, 4)]))
    plan = plan_repair(part)
    sink = Objects({3: RecordRejectedError("too_large", "5 TB")})
    await repairer_of(Kafka(range(100)), sink, on_reject="hold").run([plan])
    assert ([], 1) == (sink.dead_letters, plan.failed)


async def test_rate_is_kept() -> None:
    """Twenty events at 100 a second take a fifth of a second."""
    plan = plan_repair(part_of(missing=OffsetSet([(0, 20)]), repairable=OffsetSet([(0, 20)])))
    began = monotonic()
    await repairer_of(Kafka(range(100)), Objects(), rate=100).run([plan])
    assert 0.18 < monotonic() - began < 2


@pytest.mark.parametrize(
    ("changes", "exit_code"),
    [({"found": 100}, 0), ({"unverifiable": OffsetSet([(1, 2)])}, 2), ({"lost": OffsetSet([(1, 2)])}, 1)],
)
def test_exit_code_when_nothing_was_to_be_written(changes: dict[str, Any], exit_code: int) -> None:
    """0 for nothing to do, 2 for what could not be checked, 1 for what nobody can bring back."""
    part = part_of(**changes)
    assert exit_code == repair_exit_code(verdict_beside_faults([part], "g"), [plan_repair(part)])


@pytest.mark.parametrize(
    ("changes", "exit_code"),
    [({"found": 100}, 0), ({"unverifiable": OffsetSet([(1, 2)])}, 2), ({"problem": "no idea"}, 2)],
)
def test_exit_code_when_all_that_was_missing_is_repaired(changes: dict[str, Any], exit_code: int) -> None:
    """What could not be checked beside it is not forgotten."""
    parts = [part_of(missing=OffsetSet([(3, 4)]), repairable=OffsetSet([(3, 4)])), part_of(**changes)]
    plans = [plan_repair(part) for part in parts]
    plans[0].repaired.add(3)
    assert exit_code == repair_exit_code(verdict_beside_faults(parts, "g"), plans)
