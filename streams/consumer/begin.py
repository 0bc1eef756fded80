"""Where an assigned partition is begun: its committed offset, or its first event where there is none.

Asked beside the rebalance, not within it. A coordinator that is away or loading, or a partition without leader, is
waited for; it is never taken for "nothing committed", which would rewind the group to the beginning.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from streams.consumer.commits import COORDINATOR, COORDINATOR_REMEDY
from streams.consumer.lives import TopicLives, Wait
from streams.kafka.admin import Committed, KafkaAdmin
from streams.kafka.group_offsets import GroupOffsets
from streams.kafka.identity import without_topic_id
from streams.record import Life, TopicPartition
from streams.stats import Kind, Stats

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.2
MAX_PAUSE_SECONDS: Final = 3.0
TELL_AFTER_TRIES: Final = 3
UNKNOWN: Final = Wait(Kind.POSITION_UNKNOWN, "it is not known where")


@dataclass(frozen=True, slots=True)
class Begun:
    """What is known of a partition when it is begun; `committed` is `None` where the group has no commit.

    `metadata` is the ledger's part of the commit's.
    """

    committed: int | None
    metadata: str
    position: int
    life: Life


class Beginnings:
    """Looks positions up until every partition has one, or is somebody else's."""

    def __init__(self, admin: KafkaAdmin, offsets: GroupOffsets, stats: Stats, lives: TopicLives) -> None:
        self._admin = admin
        self._offsets = offsets
        self._stats = stats
        self._conditions = stats.conditions
        self._lives = lives
        self._numbers = count(1)
        self._waits: dict[int, Mapping[TopicPartition, Wait]] = {}
        """By number of the look-up, what its partitions have waited for long enough to be told."""
        self._coordinator_told = False

    async def look_up(
        self,
        partitions: Iterable[TopicPartition],
        is_ours: Callable[[TopicPartition], bool],
        begin: Callable[[Mapping[TopicPartition, Begun]], None],
    ) -> None:
        """Call `begin` with partitions as their positions become known, until none is left that `is_ours`."""
        left, pause, tries, number = set(partitions), FIRST_PAUSE_SECONDS, 0, next(self._numbers)
        while left:
            tries += 1
            found, waits = await self._try(left)
            left = {tp for tp in left if is_ours(tp)}
            ready = {tp: begun for tp, begun in found.items() if tp in left}
            for tp in ready:
                self._conditions.end(Kind.POSITION_UNKNOWN, str(tp))
            if ready:
                begin(ready)
            left -= ready.keys()
            self._tell(number, {tp: waits.get(tp, UNKNOWN) for tp in left} if tries >= TELL_AFTER_TRIES else {})
            if left:
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
        self._end_those_of_others(partitions, is_ours)

    def _end_those_of_others(
        self, partitions: Iterable[TopicPartition], is_ours: Callable[[TopicPartition], bool]
    ) -> None:
        for tp in partitions:
            if not is_ours(tp):
                self._conditions.end(Kind.POSITION_UNKNOWN, str(tp))

    async def _try(
        self, partitions: set[TopicPartition]
    ) -> tuple[dict[TopicPartition, Begun], dict[TopicPartition, Wait]]:
        """Those that can be begun now, and what the others wait for."""
        waits: dict[TopicPartition, Wait] = {}
        try:
            committed = await self._offsets.committed(partitions)
        except KafkaException as error:
            return {}, dict.fromkeys(partitions, Wait(Kind.COORDINATOR_AWAY, _said(error)))
        lives = await self._lives.of({tp.topic for tp in partitions})
        known: dict[TopicPartition, tuple[Committed | None, Life]] = {}
        for tp in partitions:
            answer, life = committed[tp], lives[tp.topic]
            if isinstance(answer, KafkaError):
                waits[tp] = _uncommitted(answer)
            elif isinstance(life, Wait):
                waits[tp] = life
            else:
                known[tp] = (_of_this_life(answer, life), life)
        starts = await self._first_offsets([tp for tp, (commit, _) in known.items() if commit is None], waits)
        found = {}
        for tp, (commit, life) in known.items():
            if commit is not None:
                found[tp] = Begun(commit.offset, commit.metadata, commit.offset, life)
            elif tp in starts:
                found[tp] = Begun(None, "", starts[tp], life)
        return found, waits

    async def _first_offsets(
        self, partitions: list[TopicPartition], waits: dict[TopicPartition, Wait]
    ) -> dict[TopicPartition, int]:
        """The earliest offset of each, in partitions that nothing was committed for."""
        try:
            answers = await self._admin.beginnings(partitions)
        except KafkaException as error:
            waits.update(dict.fromkeys(partitions, _no_start(_said(error))))
            return {}
        failed = {tp: answer for tp, answer in answers.items() if isinstance(answer, KafkaError)}
        waits.update({tp: _no_start(error.name()) for tp, error in failed.items()})
        return {tp: answer for tp, answer in answers.items() if isinstance(answer, int)}

    def _tell(self, number: int, waits: Mapping[TopicPartition, Wait]) -> None:
        """What is the bucket's or the coordinator's fault is told once for all; the rest for each partition."""
        if waits:
            self._waits[number] = waits
        else:
            self._waits.pop(number, None)
        for tp, wait in waits.items():
            if wait.kind is Kind.POSITION_UNKNOWN and not self._is_explained(tp):
                self._conditions.begin(
                    Kind.POSITION_UNKNOWN,
                    f"{tp} cannot be read yet: {wait.detail}.",
                    "Nothing, if a broker is being replaced: it goes on by itself. If it lasts, "
                    "`faust -A streams doctor` says whether the partition's leader answers.",
                    subject=str(tp),
                )
            else:
                self._conditions.end(Kind.POSITION_UNKNOWN, str(tp))
        self._tell_of_coordinator([*self._all_that_wait(Kind.COORDINATOR_AWAY)])
        self._tell_of_bucket([*self._all_that_wait(Kind.SINK_FAILING)])

    def _is_explained(self, tp: TopicPartition) -> bool:
        """Whether another condition says it already: the partition's own, the topic's, or that of all brokers."""
        away = self._conditions.get(Kind.BROKERS_DOWN) or self._conditions.get(Kind.NO_LEADER, str(tp))
        return away is not None or self._lives.is_held(tp.topic)

    def _all_that_wait(self, kind: Kind) -> Iterator[Wait]:
        return (wait for waits in self._waits.values() for wait in waits.values() if wait.kind is kind)

    def _tell_of_coordinator(self, waits: list[Wait]) -> None:
        if waits and self._conditions.get(Kind.BROKERS_DOWN) is None:
            self._coordinator_told = True
            self._conditions.begin(
                Kind.COORDINATOR_AWAY,
                f"The group's coordinator does not say what is committed ({waits[0].detail}), so {_partitions(waits)}.",
                COORDINATOR_REMEDY,
            )
        elif not waits and self._coordinator_told:
            self._coordinator_told = False
            self._conditions.end(Kind.COORDINATOR_AWAY)

    def _tell_of_bucket(self, waits: list[Wait]) -> None:
        """The watch of the sink tells it, with what it knows of the writes."""
        if waits:
            self._stats.bucket_silent(waits[0].reason, waits[0].detail, len(waits))
        else:
            self._stats.silent_bucket = None

    async def return_to_range(
        self, tp: TopicPartition, position: int, life: Life, is_ours: Callable[[], bool], *, was_read: bool = True
    ) -> int | None:
        """Where a partition goes on that Kafka does not have the position of; `life` is the one that was read.

        `None`: the name belongs to another topic now, or the partition is not ours any more. It asks until Kafka
        answers, and holds a partition that ends before the position. `was_read`: anything since it was begun.
        """
        pause = FIRST_PAUSE_SECONDS
        while is_ours():
            bounds, same = await self._bounds(tp), await self._lives.is_same(tp.topic, life)
            if same is False:
                return None
            if bounds is not None and same:
                beginning, end = bounds
                if position <= end:
                    self._lives.let_go(tp.topic)
                    return max(position, beginning)
                self._lives.hold_truncated(tp, position, end, was_read=was_read)
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
        return None

    async def _bounds(self, tp: TopicPartition) -> tuple[int, int] | None:
        try:
            beginnings, ends = await self._admin.beginnings([tp]), await self._admin.ends([tp])
        except KafkaException:
            return None
        beginning, end = beginnings[tp], ends[tp]
        return (beginning, end) if isinstance(beginning, int) and isinstance(end, int) else None


def _of_this_life(commit: Committed | None, life: Life) -> Committed | None:
    """The commit, unless it says that it is another topic's of this name: its offset means nothing here then."""
    if commit is None:
        return None
    topic_id, ledger = without_topic_id(commit.metadata)
    if topic_id is not None and life.topic_id is not None and topic_id != life.topic_id:
        return None
    return Committed(commit.offset, ledger)


def _said(error: KafkaException) -> str:
    found = error.args[0]
    return f"{found.name()}: {found.str()}" if isinstance(found, KafkaError) else str(error)


def _uncommitted(error: KafkaError) -> Wait:
    if error.code() in COORDINATOR:
        return Wait(Kind.COORDINATOR_AWAY, error.name())
    return Wait(Kind.POSITION_UNKNOWN, f"what is committed for it could not be read: {error.name()}")


def _no_start(said: str) -> Wait:
    return Wait(Kind.POSITION_UNKNOWN, f"its first offset could not be read: {said}")


def _partitions(waits: list[Wait]) -> str:
    return "1 partition is not begun yet" if len(waits) == 1 else f"{len(waits):,} partitions are not begun yet"
