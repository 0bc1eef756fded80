"""Is there an object for every event that Kafka has delivered? The proof, offset by offset.

Offsets in a listing of the bucket are there. For each of the others the ledger is asked, then the broker; what neither
knows is not verifiable, and never counted as fine. The worker may go on meanwhile: only what it had committed at the
beginning is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from streams.archive.lives import place_in_bucket
from streams.archive.objects import Archive
from streams.errors import ConfigurationError
from streams.kafka.reader import KafkaReader
from streams.layout import Layout
from streams.object_key import ObjectKeyTemplate
from streams.offset_set import OffsetSet, Range
from streams.proof.content import Comparison, Sample
from streams.proof.inventory import Advance, Found, Inventory
from streams.proof.ledger_proof import LedgerProof, LedgerReader
from streams.proof.offset_ranges import joined, parted
from streams.proof.result import PartitionResult, Verdict, verdict_beside_faults, verdict_of
from streams.proof.scope import Asked, Scope, Scoping
from streams.record import TopicPartition
from streams.settings import Settings
from streams.sinks.s3_reader import S3Reader

READ_THROUGH_OFFSETS = 5_000
"""Kafka is read through between two offsets that are asked for when they are nearer than this."""


@dataclass
class Verification:
    """One verification: `plan` looks what there is to do, `run` does it, and the parts hold the result."""

    settings: Settings
    kafka: KafkaReader
    reader: S3Reader
    asked: Asked = field(default_factory=Asked)
    sample: Sample | None = None
    parallel: int = 16

    def __post_init__(self) -> None:
        self.layout = Layout(self.settings)
        check_template(self.layout.template, self.settings)
        self._ledgers = LedgerReader(self.reader, self.layout, parallel=self.parallel)
        self.inventory = Inventory(self.reader, self.layout, self.settings.topic_names, parallel=self.parallel)
        self._scope = Scope({}, {})

    @property
    def parts(self) -> list[PartitionResult]:
        """The result of each partition."""
        return list(self._scope.parts.values())

    @property
    def verdict(self) -> Verdict:
        """The outcome."""
        return verdict_of(self.parts, self.settings.consumer_group)

    @property
    def verdict_beside_faults(self) -> Verdict:
        """What is left of it once everything is repaired."""
        return verdict_beside_faults(self.parts, self.settings.consumer_group)

    @property
    def offsets(self) -> int:
        """How many offsets are looked at."""
        return self._scope.offsets

    async def plan(self) -> dict[str, int]:
        """Work the ranges out; the requests that `run` will probably send, by kind."""
        place = partial(place_in_bucket, self.reader, self.layout)
        scoping = Scoping(self.kafka, self._ledgers, self.inventory, place, self.asked, self.parallel)
        self._scope = await scoping.scope()
        ranges = self._ranges()
        estimate = {"LIST": self.inventory.estimate(ranges) if ranges else 0}
        if self.sample is not None:
            retained = sum(max(0, part.stop - max(part.start, part.earliest)) for part in self.parts)
            estimate["GET"] = retained if self.sample.events is None else min(self.sample.events, retained)
        return estimate

    async def run(self, advance: Advance = lambda _: None) -> None:
        """List, ask, and (with a sample) compare; `advance` is told how many offsets have been listed."""
        found = await self.inventory.take(self._ranges(), advance)
        checked = {tp: found[part.place] for tp, part in self._scope.parts.items() if part.place in found}
        for tp, there in checked.items():
            await self._judge(tp, self._scope.parts[tp], there)
        if self.sample is not None:
            comparison = Comparison(self.kafka, Archive(self.settings, self.reader), self.sample, self.parallel)
            await comparison.compare(
                [(self._scope.parts[tp], there.all()) for tp, there in checked.items()],
                read_through=READ_THROUGH_OFFSETS,
            )

    def _ranges(self) -> dict[TopicPartition, Range]:
        """The ranges to list, by the partition's name in the bucket."""
        return {
            part.place: (part.start, part.stop)
            for part in self.parts
            if part.problem is None and part.start < part.stop
        }

    async def _judge(self, tp: TopicPartition, part: PartitionResult, there: Found) -> None:
        found = there.all()
        part.objects, part.dead_letters, part.found = len(there.objects), len(there.dead_letters), len(found)
        open_offsets = OffsetSet(found.missing_from(part.start, part.stop))
        if not open_offsets:
            return
        proof = await self._ledgers.proof(self._scope.ledgers[tp], open_offsets)
        part.notes += [f"a ledger segment could not be read, and proves nothing: {why}" for why in proof.unreadable]
        unknown = judge_by_ledger(part, open_offsets, proof)
        await self._ask_kafka(tp, part, unknown)

    async def _ask_kafka(self, tp: TopicPartition, part: PartitionResult, unknown: OffsetSet) -> None:
        """Which of the unknown and the missing offsets does the broker deliver?"""
        # Once more: retention may have gone on while the bucket was listed.
        earliest = (await self.kafka.beginnings([tp]))[tp] if unknown or part.missing else 0
        asked = OffsetSet(
            (max(start, earliest), stop) for one in (unknown, part.missing) for start, stop in one.ranges()
        )
        delivered = OffsetSet()
        for start, stop in joined(asked.ranges(), READ_THROUGH_OFFSETS):
            async for batch in self.kafka.read(tp, start, stop):
                for record in batch:
                    if record.offset in asked:
                        delivered.add(record.offset)
        judge_by_kafka(part, unknown, earliest, delivered)


def check_template(template: ObjectKeyTemplate, settings: Settings) -> None:
    """Raises `ConfigurationError` where object keys do not tell which event they belong to."""
    if not template.is_unique(settings.topic_names or None):
        raise ConfigurationError(
            f"STREAMS_OBJECT_KEY_TEMPLATE: the keys of {template.template!r} do not tell the topic, partition and "
            "offset of an event, and one event may overwrite another (STREAMS_ALLOW_OVERWRITE), so nothing can be "
            "proved event by event. Put {topic}, {partition} and {offset} into the template."
        )


def judge_by_ledger(part: PartitionResult, open_offsets: OffsetSet, proof: LedgerProof) -> OffsetSet:
    """Sort the offsets that have no object by what the ledger says; those that it does not cover are returned."""
    unknown = OffsetSet()
    for start, stop in open_offsets.ranges():
        for durable, was_durable in parted(start, stop, proof.durable):
            if was_durable:
                part.missing.add_range(*durable)
                continue
            for lost, was_lost in parted(*durable, proof.lost):
                if was_lost:
                    part.lost.add_range(*lost)
                    continue
                for absent, was_absent in parted(*lost, proof.absent):
                    (part.absent if was_absent else unknown).add_range(*absent)
    return unknown


def judge_by_kafka(part: PartitionResult, unknown: OffsetSet, earliest: int, delivered: OffsetSet) -> None:
    """Sort the offsets that the ledger does not cover by what the broker has delivered."""
    part.repairable |= delivered
    for start, stop in unknown.ranges():
        part.unverifiable.add_range(start, min(stop, earliest))
        for found, was_delivered in parted(max(start, earliest), stop, delivered):
            (part.missing if was_delivered else part.absent).add_range(*found)
