"""Where an assigned partition is begun: its committed offset, or its first event where there is none.

Asked beside the rebalance, not within it. A coordinator that is away or loading, or a partition without leader, is
waited for; it is never taken for "nothing committed", which would rewind the group to the beginning.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from streams.consumer.lives import TopicLives
from streams.kafka.admin import Committed, KafkaAdmin
from streams.kafka.group_offsets import GroupOffsets
from streams.kafka.identity import without_topic_id
from streams.record import Life, TopicPartition
from streams.stats import Conditions, Kind

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.2
MAX_PAUSE_SECONDS: Final = 3.0
TELL_AFTER_TRIES: Final = 3


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

    def __init__(self, admin: KafkaAdmin, offsets: GroupOffsets, conditions: Conditions, lives: TopicLives) -> None:
        self._admin = admin
        self._offsets = offsets
        self._conditions = conditions
        self._lives = lives

    async def look_up(
        self,
        partitions: Iterable[TopicPartition],
        is_ours: Callable[[TopicPartition], bool],
        begin: Callable[[Mapping[TopicPartition, Begun]], None],
    ) -> None:
        """Call `begin` with partitions as their positions become known, until none is left that `is_ours`."""
        left, pause, tries = set(partitions), FIRST_PAUSE_SECONDS, 0
        while left:
            tries += 1
            found, why = await self._try(left)
            left = {tp for tp in left if is_ours(tp)}
            ready = {tp: begun for tp, begun in found.items() if tp in left}
            for tp in ready:
                self._conditions.end(Kind.POSITION_UNKNOWN, str(tp))
            if ready:
                begin(ready)
            left -= ready.keys()
            if left:
                self._tell(left, why, tries)
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
    ) -> tuple[dict[TopicPartition, Begun], dict[TopicPartition, str]]:
        """Those that can be begun now, and why the others cannot."""
        why: dict[TopicPartition, str] = {}
        try:
            committed = await self._offsets.committed(partitions)
        except KafkaException as error:
            return {}, dict.fromkeys(
                partitions, f"the group's coordinator did not say what is committed: {_said(error)}"
            )
        lives = await self._lives.of({tp.topic for tp in partitions})
        known: dict[TopicPartition, tuple[Committed | None, Life]] = {}
        for tp in partitions:
            answer, life = committed[tp], lives[tp.topic]
            if isinstance(answer, KafkaError):
                why[tp] = f"the group's coordinator did not say what is committed: {answer.name()}"
            elif isinstance(life, str):
                why[tp] = life
            else:
                known[tp] = (_of_this_life(answer, life), life)
        starts = await self._first_offsets([tp for tp, (commit, _) in known.items() if commit is None], why)
        found = {}
        for tp, (commit, life) in known.items():
            if commit is not None:
                found[tp] = Begun(commit.offset, commit.metadata, commit.offset, life)
            elif tp in starts:
                found[tp] = Begun(None, "", starts[tp], life)
        return found, why

    async def _first_offsets(
        self, partitions: list[TopicPartition], why: dict[TopicPartition, str]
    ) -> dict[TopicPartition, int]:
        """The earliest offset of each, in partitions that nothing was committed for."""
        try:
            answers = await self._admin.beginnings(partitions)
        except KafkaException as error:
            why.update(dict.fromkeys(partitions, f"its first offset could not be read: {_said(error)}"))
            return {}
        failed = {tp: answer for tp, answer in answers.items() if isinstance(answer, KafkaError)}
        why.update({tp: f"its first offset could not be read: {error.name()}" for tp, error in failed.items()})
        return {tp: answer for tp, answer in answers.items() if isinstance(answer, int)}

    def _tell(self, partitions: set[TopicPartition], why: Mapping[TopicPartition, str], tries: int) -> None:
        if tries < TELL_AFTER_TRIES:
            return
        for tp in partitions:
            if self._lives.is_held(tp.topic):
                continue  # said already, with what to do
            self._conditions.begin(
                Kind.POSITION_UNKNOWN,
                f"{tp} cannot be read yet: {why.get(tp, 'it is not known where')}.",
                "Nothing, if a broker is being replaced or S3 is away for a moment: it goes on by itself. If it lasts, "
                "`faust -A streams doctor` says which of them does not answer: leader, coordinator or bucket.",
                subject=str(tp),
            )

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
