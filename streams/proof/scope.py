"""Which offsets are verified: from what was asked for, the group's commits, Kafka's offsets and the ledgers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from streams.errors import ConfigurationError
from streams.kafka.admin import Committed
from streams.kafka.reader import KafkaReader
from streams.ledger import decode_commit_metadata
from streams.parallel import run_in_parallel
from streams.proof.inventory import Inventory
from streams.proof.ledger_proof import LedgerIndex, LedgerReader
from streams.proof.result import PartitionResult, count_of
from streams.record import TopicPartition


@dataclass(frozen=True)
class Asked:
    """What is to be verified; without a beginning, from the lowest offset that anything is known of."""

    topics: tuple[str, ...] = ()
    partitions: tuple[int, ...] = ()
    from_offset: int | None = None
    since: datetime | None = None
    ledger: bool = True
    """Whether the ledger is believed."""


@dataclass
class Scope:
    """The partitions, each with its range, and what is known of their ledgers."""

    parts: dict[TopicPartition, PartitionResult]
    ledgers: dict[TopicPartition, LedgerIndex]

    @property
    def offsets(self) -> int:
        """How many offsets are to be looked at."""
        return sum(part.stop - part.start for part in self.parts.values() if part.problem is None)


class Scoping:
    """Works the ranges out."""

    def __init__(
        self, kafka: KafkaReader, ledgers: LedgerReader, inventory: Inventory, asked: Asked, parallel: int
    ) -> None:
        self._kafka = kafka
        self._ledgers = ledgers
        self._inventory = inventory
        self._asked = asked
        self._parallel = parallel

    async def scope(self) -> Scope:
        """The range of every partition that was asked for. Raises `ConfigurationError` when there is none."""
        tps = self._chosen(await self._kafka.topics())
        # In this order: a worker that goes on meanwhile never seems to have committed more than there is.
        commits = await self._kafka.committed(tps)
        ends = await self._kafka.ends(tps)
        beginnings = await self._kafka.beginnings(tps)
        parts = {tp: PartitionResult(tp.topic, tp.partition, 0, 0, beginnings[tp], ends[tp]) for tp in tps}
        for tp, part in parts.items():
            _set_end(part, commits.get(tp))
        checkable = [tp for tp, part in parts.items() if part.stop and part.problem is None]
        ledgers = await self._list_ledgers(checkable, commits)
        await self._set_beginnings({tp: parts[tp] for tp in checkable}, ledgers)
        return Scope(parts, ledgers)

    def _chosen(self, topics: dict[str, list[int]]) -> list[TopicPartition]:
        unknown = [topic for topic in self._asked.topics if topic not in topics]
        if unknown:
            raise ConfigurationError(
                f"--topic {unknown[0]}: not one of the topics of STREAMS_TOPICS ({', '.join(topics)})."
            )
        chosen = [
            TopicPartition(topic, partition)
            for topic, partitions in topics.items()
            for partition in partitions
            if topic in (self._asked.topics or topics) and partition in (self._asked.partitions or partitions)
        ]
        if not chosen:
            raise ConfigurationError(f"--partition {self._asked.partitions[0]}: no topic has such a partition.")
        return chosen

    async def _list_ledgers(
        self, tps: Sequence[TopicPartition], commits: dict[TopicPartition, Committed]
    ) -> dict[TopicPartition, LedgerIndex]:
        ledgers = {tp: LedgerIndex(tp) for tp in tps}
        if not self._asked.ledger:
            return ledgers

        async def read(tp: TopicPartition) -> None:
            commit = commits[tp]
            carried = decode_commit_metadata(tp.topic, tp.partition, commit.offset, commit.metadata)
            ledgers[tp] = await self._ledgers.index(tp, carried)

        await run_in_parallel((partial(read, tp) for tp in tps), self._parallel)
        return ledgers

    async def _set_beginnings(
        self, parts: dict[TopicPartition, PartitionResult], ledgers: dict[TopicPartition, LedgerIndex]
    ) -> None:
        asked = self._asked
        if asked.from_offset is not None:
            for part in parts.values():
                part.start = asked.from_offset
        elif asked.since is not None:
            since_ms = int(asked.since.timestamp() * 1000)
            offsets = await self._kafka.offsets_at(list(parts), since_ms)
            for tp, part in parts.items():
                _begin_since(part, offsets[tp], ledgers[tp], asked.since)
        else:
            await run_in_parallel(
                (partial(self._begin_lowest, part, ledgers[tp]) for tp, part in parts.items()), self._parallel
            )
        for part in parts.values():
            part.start = min(part.start, part.stop)
            _note_unread(part)

    async def _begin_lowest(self, part: PartitionResult, ledger: LedgerIndex) -> None:
        """The lowest offset that Kafka, a ledger or the bucket knows."""
        first = await self._inventory.first_offset(TopicPartition(part.topic, part.partition))
        part.start = min(offset for offset in (part.earliest, ledger.first, first) if offset is not None)
        if 0 < part.start:
            part.notes.append(f"offsets below {part.start:,} are known to neither Kafka, a ledger nor the bucket")


def _set_end(part: PartitionResult, commit: Committed | None) -> None:
    if commit is None:
        part.notes.append("the group has committed nothing here")
    elif commit.offset > part.end:
        part.stop = part.start = commit.offset
        part.problem = (
            f"the group has committed offset {commit.offset:,} and the partition ends at {part.end:,}: was the topic "
            "deleted and made anew? Then set the group's offsets back to the new beginning"
        )
    else:
        part.stop = commit.offset


def _begin_since(part: PartitionResult, offset: int | None, ledger: LedgerIndex, since: datetime) -> None:
    """From the first event since then; where Kafka may have forgotten it, from what the ledger tells."""
    part.start = part.stop if offset is None else offset
    if part.start > part.earliest or ledger.first is None or ledger.first >= part.earliest:
        if 0 < part.start == part.earliest:
            part.notes.append(
                f"Kafka's events begin at offset {part.earliest:,}; whether earlier ones are newer than "
                f"{since:%Y-%m-%d %H:%M} UTC is not known"
            )
        return
    known = ledger.not_before(since)
    part.start = min(part.start, ledger.first if known is None else known)


def _note_unread(part: PartitionResult) -> None:
    if part.stop < part.earliest:
        part.notes.append(
            f"{count_of(part.earliest - part.stop, 'offset')} behind the committed one left Kafka's retention before "
            "the worker has passed them"
        )
