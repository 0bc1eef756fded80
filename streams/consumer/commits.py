"""What has been committed, what is on its way, and what is due: at most one request for a partition at a time.

An offset counts as committed when Kafka has said so, partition by partition. One partition's refusal holds up no
other's: a topic whose commits fail is asked for in a request of its own until one succeeds, since librdkafka reports a
deleted topic's error for every partition of a request, although the broker has taken the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final

from confluent_kafka import KafkaError

from streams.consumer.fatal_errors import is_fatal
from streams.consumer.poller import CommitPoint, CommitResult
from streams.kafka.identity import with_topic_id, without_topic_id
from streams.record import TopicPartition
from streams.stats import Conditions, Kind

logger = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 90.0
"""librdkafka answers every commit, after its session timeout at the latest; a request older than this is forgotten."""
REFRESH_SECONDS: Final = 60.0
"""An offset that does not change is committed again after so long: it shows that commits work, and it mends one that a
late request of an earlier owner has set back."""
LATE_SECONDS: Final = 15.0
"""Durable offsets that have waited for a commit for so long are a condition."""

PASSING: Final = frozenset(
    {
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError._DESTROY,
        KafkaError._REVOKE_PARTITIONS,
        KafkaError._NO_OFFSET,
    }
)
"""The group is being shared out again: whoever has the partition then commits."""
COORDINATOR: Final = frozenset(
    {
        KafkaError._WAIT_COORD,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._STATE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
COORDINATOR_REMEDY: Final = (
    "Nothing, if a broker is being replaced: it goes on by itself. If it lasts: are the brokers that hold "
    "__consumer_offsets up? `faust -A streams doctor` names the coordinator."
)
METADATA: Final = frozenset({KafkaError.OFFSET_METADATA_TOO_LARGE, KafkaError.INVALID_COMMIT_OFFSET_SIZE})


@dataclass(slots=True)
class _Asked:
    point: CommitPoint
    at: float


class Commits:
    """The offsets of the assigned partitions as Kafka has them."""

    def __init__(
        self,
        send: Callable[[Mapping[TopicPartition, CommitPoint]], None],
        accepted: Callable[[TopicPartition, int], None],
        conditions: Conditions,
    ) -> None:
        """`send` hands a request to the poller; `accepted` hears of each offset that Kafka has taken."""
        self._send = send
        self._accepted = accepted
        self._conditions = conditions
        self._committed: dict[TopicPartition, CommitPoint] = {}
        self._asked: dict[TopicPartition, _Asked] = {}
        self._said_at: dict[TopicPartition, float] = {}
        """When each was begun, or committed last (monotonic)."""
        self._apart: set[str] = set()
        """Topics that are asked for in a request of their own."""
        self._refused: dict[str, str] = {}
        self._without_ledger = False
        """The broker takes no notes of the ledger; the topic's id, which is short, goes with each commit still."""
        self._without_metadata = False
        self.due_since: float | None = None
        """Since when durable offsets wait for a commit that Kafka accepts."""
        self.last_accepted: float | None = None

    def begin(self, tp: TopicPartition, committed: int | None, metadata: str, epoch: int) -> None:
        """A partition is begun; what the group has committed for it."""
        self._asked.pop(tp, None)
        self._committed.pop(tp, None)
        self._said_at[tp] = monotonic()
        if committed is not None:
            self._committed[tp] = CommitPoint(committed, metadata, epoch)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """They are somebody else's; an answer that is still to come changes nothing."""
        for tp in partitions:
            self._committed.pop(tp, None)
            self._asked.pop(tp, None)
            self._said_at.pop(tp, None)
        left = {tp.topic for tp in self._committed}
        for topic in set(self._refused) - left:
            self._recovered(topic)

    def committed(self, tp: TopicPartition) -> int | None:
        """The offset that Kafka has, as far as this worker knows."""
        found = self._committed.get(tp)
        return None if found is None else found.offset

    def is_unanswered(self, partitions: Iterable[TopicPartition]) -> bool:
        """Whether a request for one of these is on its way."""
        return any(tp in self._asked for tp in partitions)

    def due(self, points: Mapping[TopicPartition, CommitPoint]) -> dict[TopicPartition, CommitPoint]:
        """Those that say something new, and never less than before."""
        found = {}
        for tp, point in points.items():
            point = self._sendable(point)
            known = self._committed.get(tp)
            if known is None or (point.offset >= known.offset and point != known and self._is_news(point, known)):
                found[tp] = point
        return found

    def _sendable(self, point: CommitPoint) -> CommitPoint:
        if self._without_metadata:
            return replace(point, metadata="")
        if self._without_ledger:
            return replace(point, metadata=with_topic_id("", without_topic_id(point.metadata)[0]))
        return point

    def _is_news(self, point: CommitPoint, known: CommitPoint) -> bool:
        return (point.offset, point.metadata) != (known.offset, known.metadata)

    def send_due(self, points: Mapping[TopicPartition, CommitPoint]) -> bool:
        """Ask Kafka to take what is due and not on its way; whether anything was sent."""
        now = monotonic()
        for tp in [tp for tp, asked in self._asked.items() if now - asked.at > ANSWER_SECONDS]:
            del self._asked[tp]
        due = self.due(points)
        self._note_due(bool(due), now)
        due |= self._to_refresh(points, now)
        unsent = {tp: point for tp, point in due.items() if tp not in self._asked}
        self._asked.update({tp: _Asked(point, now) for tp, point in unsent.items()})
        self._said_at.update(dict.fromkeys(unsent, now))
        for request in self._requests(unsent):
            self._send(request)
        return bool(unsent)

    def _to_refresh(
        self, points: Mapping[TopicPartition, CommitPoint], now: float
    ) -> dict[TopicPartition, CommitPoint]:
        """Those that have not changed for long, whatever others do."""
        old = {tp: point for tp, point in points.items() if now - self._said_at.get(tp, now) > REFRESH_SECONDS}
        return {
            tp: self._sendable(point)
            for tp, point in old.items()
            if tp in self._committed and point.offset >= self._committed[tp].offset
        }

    def _requests(self, points: Mapping[TopicPartition, CommitPoint]) -> list[dict[TopicPartition, CommitPoint]]:
        together = {tp: point for tp, point in points.items() if tp.topic not in self._apart}
        alone = [
            {tp: point for tp, point in points.items() if tp.topic == topic}
            for topic in sorted({tp.topic for tp in points} & self._apart)
        ]
        return [request for request in [together, *alone] if request]

    def _note_due(self, due: bool, now: float) -> None:
        if not due:
            self.due_since = None
            self._conditions.end(Kind.COMMITS_LATE)
            return
        self.due_since = now if self.due_since is None else self.due_since
        if now - self.due_since > LATE_SECONDS and (self.last_accepted or 0.0) < now - LATE_SECONDS:
            self._conditions.begin(
                Kind.COMMITS_LATE,
                f"Kafka has accepted no commit for {now - max(self.due_since, self.last_accepted or 0.0):.0f} s. "
                "Events are written all the same; after a restart those since then are written again.",
                "See what else is said about the brokers and the coordinator. If nothing is, restart this worker.",
            )

    def answered(self, results: Iterable[CommitResult]) -> None:
        """Take over what Kafka has said."""
        refused: dict[str, KafkaError] = {}
        too_large: set[str] = set()
        taken: set[str] = set()
        for result in results:
            asked = self._asked.get(result.tp)
            point = None
            if asked is not None and asked.point.offset == result.offset:
                point = self._asked.pop(result.tp).point
            if result.error is not None:
                refused[result.tp.topic] = result.error
                if point is not None and result.error.code() in METADATA:
                    too_large.add(point.metadata)
                continue
            taken.add(result.tp.topic)
            self.last_accepted = monotonic()
            if point is not None:
                self._committed[result.tp] = point
                self._accepted(result.tp, point.offset)
        for topic in taken - refused.keys():
            self._recovered(topic)
        if taken:
            self._conditions.end(Kind.COMMITS_REFUSED)
        if refused:
            self._shorten(too_large)
            self._note_refusals(refused)
        elif taken:
            self._conditions.end(Kind.COORDINATOR_AWAY)

    def _recovered(self, topic: str) -> None:
        self._apart.discard(topic)
        self._refused.pop(topic, None)
        self._conditions.end(Kind.COMMITS_REFUSED, topic)

    def _note_refusals(self, refused: Mapping[str, KafkaError]) -> None:
        codes = {error.code() for error in refused.values()}
        if codes <= PASSING:
            logger.info("a commit came while the group was shared out again; it goes with the next one")
            return
        if codes & METADATA:
            return
        if KafkaError.GROUP_AUTHORIZATION_FAILED in codes:
            self._conditions.begin(
                Kind.COMMITS_REFUSED,
                f"Kafka refuses all commits ({KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED).str()}).",
                "Add an ACL that allows READ on the group. `faust -A streams doctor` prints it.",
            )
            return
        if any(is_fatal(error) for error in refused.values()):
            logger.info("a commit came after Kafka's client had failed for good")
            return
        if codes <= COORDINATOR | PASSING:
            error = next(iter(refused.values()))
            self._conditions.begin(
                Kind.COORDINATOR_AWAY,
                f"The group's coordinator does not take commits ({error.name()}: {error.str()}).",
                COORDINATOR_REMEDY,
            )
            return
        self._apart |= refused.keys()
        if len(refused) > 1:
            return  # one of them is at fault for all: each is asked for alone now
        for topic, error in refused.items():
            self._refused[topic] = error.name()
            self._conditions.begin(
                Kind.COMMITS_REFUSED,
                f"Kafka refuses the commits of {topic} ({error.name()}: {error.str()}).",
                "Is the topic still there, and may this user READ it and the group? Other topics are committed.",
                subject=topic,
            )

    def _shorten(self, too_large: Iterable[str]) -> None:
        """Send less of the metadata from now on than what was refused; say once what that means."""
        for metadata in too_large:
            if not without_topic_id(metadata)[1]:
                self._without_metadata = True
            elif not self._without_ledger:
                self._without_ledger = True
                logger.warning(
                    "the broker refuses the ledger's notes in a commit (offset.metadata.max.bytes is below 4096, or "
                    "max.message.bytes of __consumer_offsets below 1 MB), so commits go without: where this worker "
                    "stops, the ledger has a hole of up to 10,000 events. Raise it, or set STREAMS_LEDGER_ENABLED=false"
                )
