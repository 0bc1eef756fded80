"""Which offsets are verified: from what was asked for, the group's commits, Kafka's offsets and the ledgers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from streams.archive.lives import Placed
from streams.errors import ConfigurationError
from streams.kafka.admin import Committed
from streams.kafka.identity import Identity, without_topic_id
from streams.kafka.reader import KafkaReader
from streams.ledger import decode_commit_metadata
from streams.parallel import run_in_parallel
from streams.proof.inventory import Inventory
from streams.proof.ledger_proof import LedgerIndex, LedgerReader
from streams.proof.result import WHOLE_TOPIC, PartitionResult, count_of
from streams.record import TopicPartition, parts_of_name

Place = Callable[[str, Identity], Awaitable[Placed]]
"""Tells where the objects of a topic are that has this identity in Kafka."""


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
        self,
        kafka: KafkaReader,
        ledgers: LedgerReader,
        inventory: Inventory,
        place: Place,
        asked: Asked,
        parallel: int,
    ) -> None:
        self._kafka = kafka
        self._ledgers = ledgers
        self._inventory = inventory
        self._place = place
        self._asked = asked
        self._parallel = parallel

    async def scope(self) -> Scope:
        """The range of every partition that was asked for. Raises `ConfigurationError` when there is none."""
        topics = await self._kafka.topics(self._topics())
        missing = _not_there({topic: why for topic, why in topics.items() if isinstance(why, str)})
        tps = self._chosen({topic: numbers for topic, numbers in topics.items() if not isinstance(numbers, str)})
        if not tps and missing:
            return Scope(missing, {})
        placed = await self._places({tp.topic for tp in tps})
        # In this order: a worker that goes on meanwhile never seems to have committed more than there is.
        commits = await self._kafka.committed(tps)
        ends = await self._kafka.ends(tps)
        beginnings = await self._kafka.beginnings(tps)
        parts = {tp: PartitionResult(*tp, 0, 0, beginnings[tp], ends[tp], life=placed[tp.topic].life) for tp in tps}
        own = {tp: _of_this_topic(part, commits.get(tp)) for tp, part in parts.items()}
        for tp, part in parts.items():
            _set_end(part, own[tp])
        _note_places(parts, placed)
        await self._refuse_uncommitted(
            {tp: part for tp, part in parts.items() if own[tp] is None and part.problem is None}
        )
        checkable = [tp for tp, part in parts.items() if part.stop and part.problem is None]
        ledgers = await self._list_ledgers({tp: parts[tp] for tp in checkable}, commits)
        await self._set_beginnings({tp: parts[tp] for tp in checkable}, ledgers)
        return Scope({**parts, **missing}, ledgers)

    async def _places(self, topics: Collection[str]) -> dict[str, Placed]:
        """Where in the bucket each topic's objects are."""
        identities = await self._kafka.identities(topics)
        return {topic: await self._place(topic, identity) for topic, identity in identities.items()}

    def _topics(self) -> list[str]:
        """Those of STREAMS_TOPICS that were asked for: one that is gone costs only its own answer."""
        asked, names = self._asked.topics, self._kafka.names
        unknown = [topic for topic in asked if topic not in names]
        if unknown:
            raise ConfigurationError(f"--topic {unknown[0]}: {_why_unknown(unknown[0], names)}")
        return [name for name in names if name in asked or not asked]

    def _chosen(self, topics: dict[str, list[int]]) -> list[TopicPartition]:
        chosen = [
            TopicPartition(topic, partition)
            for topic, partitions in topics.items()
            for partition in partitions
            if partition in (self._asked.partitions or partitions)
        ]
        if not chosen and topics:
            raise ConfigurationError(f"--partition {self._asked.partitions[0]}: no topic has such a partition.")
        return chosen

    async def _refuse_uncommitted(self, parts: dict[TopicPartition, PartitionResult]) -> None:
        """Where nothing is committed nothing is claimed of the events that Kafka has had: nobody knows of them."""
        asked = self._asked
        begins: dict[TopicPartition, int | None] = dict.fromkeys(parts, asked.from_offset or 0)
        if asked.since is not None and parts:
            begins |= await self._kafka.offsets_at(list(parts), _milliseconds(asked.since))
        for tp, part in parts.items():
            begin = begins[tp]
            if begin is not None and begin < part.end:
                part.problem = (
                    f"the group {self._kafka.group} has committed nothing here, and Kafka has had events. Is "
                    "STREAMS_CONSUMER_GROUP right, and does a worker read it?"
                )
            else:
                part.notes.append("the group has committed nothing here, and Kafka has had no event in the range")

    async def _list_ledgers(
        self, parts: dict[TopicPartition, PartitionResult], commits: dict[TopicPartition, Committed]
    ) -> dict[TopicPartition, LedgerIndex]:
        ledgers = {tp: LedgerIndex(part.place) for tp, part in parts.items()}
        if not self._asked.ledger:
            return ledgers

        async def read(tp: TopicPartition) -> None:
            commit, place = commits[tp], parts[tp].place
            carried = decode_commit_metadata(*place, commit.offset, without_topic_id(commit.metadata)[1])
            ledgers[tp] = await self._ledgers.index(place, carried)
            ledgers[tp].life = parts[tp].life

        await run_in_parallel((partial(read, tp) for tp in parts), self._parallel)
        return ledgers

    async def _set_beginnings(
        self, parts: dict[TopicPartition, PartitionResult], ledgers: dict[TopicPartition, LedgerIndex]
    ) -> None:
        asked = self._asked
        if asked.from_offset is not None:
            for part in parts.values():
                part.start = asked.from_offset
        elif asked.since is not None:
            offsets = await self._kafka.offsets_at(list(parts), _milliseconds(asked.since))
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
        """The lowest offset that Kafka, a ledger or the bucket knows; nobody can say what became of those before it."""
        if not self._inventory.ordered:
            return  # everything is listed anyway, and only then the first one is known
        first = await self._inventory.first_offset(part.place)
        part.start = min(offset for offset in (part.earliest, ledger.first, first) if offset is not None)
        if 0 < part.start and part.start == ledger.first:
            part.notes.append(f"its ledger begins at offset {part.start:,}: that is where the archive begins")
        elif 0 < part.start:
            part.unverifiable.add_range(0, min(part.start, part.stop))
            part.notes.append(
                f"offsets below {part.start:,} are known to neither Kafka, a ledger nor the bucket: give --from "
                f"{part.start} if the archive is meant to begin there"
            )


def _not_there(problems: dict[str, str]) -> dict[TopicPartition, PartitionResult]:
    """A row for each topic whose partitions nobody knows."""
    return {
        TopicPartition(topic, WHOLE_TOPIC): PartitionResult(topic, WHOLE_TOPIC, 0, 0, problem=why)
        for topic, why in problems.items()
    }


def _why_unknown(name: str, topics: Collection[str]) -> str:
    topic, tag = parts_of_name(name)
    if tag and topic in topics:
        return (
            f"that is a name in the bucket, of a later life of {topic}. Give --topic {topic}: the topic that Kafka has "
            "now is looked for under its own names, whichever they are. Earlier lives are read by get and restore."
        )
    return f"not one of the topics of STREAMS_TOPICS ({', '.join(topics)})."


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _of_this_topic(part: PartitionResult, commit: Committed | None) -> Committed | None:
    """The commit, unless it says that it is another topic's of this name: its offset means nothing here then."""
    if commit is None:
        return None
    topic_id = without_topic_id(commit.metadata)[0]
    if None in (topic_id, part.life.topic_id) or topic_id == part.life.topic_id:
        return commit
    part.notes.append(
        f"the group's commit is of another topic of this name (id {topic_id}, Kafka's is {part.life.topic_id}), so it "
        "counts as none"
    )
    return None


def _note_places(parts: dict[TopicPartition, PartitionResult], placed: dict[str, Placed]) -> None:
    """Say what is to be said of a topic once, and why its partitions cannot be checked with each."""
    told = set()
    for part in parts.values():
        place = placed[part.topic]
        if place.problem is not None:
            part.problem, part.start, part.stop = place.problem, 0, 0
        if place.note is not None and part.topic not in told:
            part.notes.append(place.note)
        told.add(part.topic)


def _set_end(part: PartitionResult, commit: Committed | None) -> None:
    if commit is None:
        return
    if commit.offset > part.end:
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
