"""Looks at Kafka every few seconds and says what is wrong with it: brokers, leaders, ends, topics, the group.

librdkafka repairs by itself what can be repaired; what it cannot is silent unless somebody asks. The answers also are
where lag and time to loss come from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final, NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException

from streams.consumer.configuration import MAX_QUEUE_EVENTS
from streams.consumer.lives import TopicLives
from streams.consumer.room import Room
from streams.consumer.watermark import PartitionWatermark
from streams.kafka.admin import KafkaAdmin, Topic
from streams.kafka.explanations import Problem, is_refusal, plain_words
from streams.record import TopicPartition
from streams.stats import Conditions, Kind

logger = logging.getLogger(__name__)

ENDS_SECONDS: Final = 5.0
TOPICS_SECONDS: Final = 2.0
"""How soon a topic that is deleted or recreated is noticed ..."""
TOPICS_A_SECOND: Final = 100
"""... and the most that are asked about in a second, on average."""
END_OLD_SECONDS: Final = 30.0
UNREADABLE_SECONDS: Final = 3.0
"""A read that fails at one position for so long is a condition."""
SILENT_SECONDS: Final = 10.0
"""So long may a partition of a recreated topic give nothing of what it has, while there is room for it ..."""
PASSED_EVENTS: Final = 2 * MAX_QUEUE_EVENTS
PASSED_ROOMS: Final = 4
"""... or, where others fill the room, until so many of their events, or bytes for so many rooms, have passed it: more
than may have been in librdkafka's queue before it."""
HEARD_SECONDS: Final = 5.0
"""A broker that was heard within this time is asked before it is said that none is there: librdkafka may be late."""
CAUSE_SECONDS: Final = 90.0
"""A failed connection is the cause for so long: librdkafka tries, and tells it, again and again."""
JOIN_PATIENCE_SECONDS: Final = 30.0
"""A group takes this long to wait for a member that has died, so nothing is said before."""
JOIN_REMEDY: Final = (
    "If the brokers answer: another member may be dying (it is missed after its session timeout), or speak another "
    "protocol: members of a release on aiokafka must be stopped first, or STREAMS_KAFKA_GROUP_PROTOCOL differs between "
    "workers."
)

CAUSES: Final = frozenset({KafkaError._RESOLVE, KafkaError._SSL, KafkaError._AUTHENTICATION})
"""Errors that say why no broker can be used."""
RESTART: Final = (
    "Was the password rotated? Restart with the new one. Was a certificate renewed? A restart reads the files again: "
    "both are read at the start, so it goes on by itself only if the brokers' side is mended."
)
DOWN: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._NOENT,
        KafkaError._RESOLVE,
        KafkaError._SSL,
        KafkaError._AUTHENTICATION,
    }
)
"""Errors behind which there may be no broker at all. `_NOENT` is what ListOffsets says of partitions whose leaders were
known before ("No leaders found")."""
NO_TOPIC: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_ID})


class Watched(Protocol):
    """What the watch looks at."""

    assigned_epochs: dict[TopicPartition, int]
    watermarks: dict[TopicPartition, PartitionWatermark]
    joined: bool
    room: Room

    def is_taking(self, tp: TopicPartition) -> bool:
        """Whether the partition's events are wanted now, or as soon as there is room."""


class _Silence(NamedTuple):
    """Since when (monotonic) a partition gives nothing, its position, and what had been taken of all by then."""

    position: int
    since: float
    events: int
    size_bytes: int


class KafkaWatch:
    """Keeps what is known of the cluster fresh, and the conditions about it true."""

    def __init__(
        self,
        admin: KafkaAdmin,
        watched: Watched,
        conditions: Conditions,
        lives: TopicLives,
        explain: Callable[[KafkaError], Problem],
    ) -> None:
        self._admin = admin
        self._watched = watched
        self._conditions = conditions
        self._lives = lives
        self._explain = explain
        self.ends: dict[TopicPartition, tuple[int, float]] = {}
        """The end of each partition, and when the broker has said so (monotonic)."""
        self.log_starts: dict[TopicPartition, int] = {}
        self.brokers_answered: float | None = None
        """Monotonic; when a broker has answered last."""
        self.log_starts_wanted: set[TopicPartition] = set()
        """Partitions whose first offset somebody needs (the retention watch)."""
        self._unreadable: dict[TopicPartition, tuple[int, float]] = {}
        """Position and moment (monotonic) at which reading a partition failed first."""
        self.stuck: Callable[[], None] = lambda: None
        """Told when partitions are only read again by a new consumer."""
        self._topic_ids: dict[str, str] = {}
        """The first that was seen of each topic since the consumer was made, read or not."""
        self._recreated: set[str] = set()
        """Topics that have had another id since."""
        self._silent: dict[TopicPartition, _Silence] = {}
        """Partitions of theirs that give nothing, although they have events."""
        self._wide_since: float | None = None
        """Monotonic; since when every look has found room for events."""
        self._topics: set[str] = set()
        self._topics_at = 0.0
        self._ends_at = 0.0
        self._subscribed_at: float | None = None
        self._join_problem: str | None = None
        self._join_remedy = JOIN_REMEDY
        self._reachable_since = 0.0
        """Monotonic; since when brokers answer without an outage that was told."""
        self._cause: tuple[KafkaError, float] | None = None
        """Why a broker could not be used last, where that is known, and when (monotonic)."""
        self._refused_since: float | None = None
        """Monotonic; when the refusals began that `_cause` is the last of."""
        self._doubted: KafkaError | None = None
        """What says that all brokers are away, although one was heard a moment ago."""

    @property
    def pause_seconds(self) -> float:
        """Until the next look."""
        missing = self._watched.watermarks.keys() - self.ends.keys()
        return 1.0 if missing or self._is_outage else TOPICS_SECONDS

    def subscribed(self, topics: Iterable[str]) -> None:
        """These are read from now on."""
        self._topics = set(topics)
        self._subscribed_at = monotonic()
        self._conditions.end_all_but(Kind.TOPIC_GONE, self._topics)

    def forget(self, partitions: Iterable[TopicPartition], *, stopping: bool = False) -> None:
        """They are not this worker's any more. While it stops nothing is over because of that, and nothing is said."""
        partitions = set(partitions)
        end = self._conditions.drop if stopping else self._conditions.end
        kept = {tp.topic for tp in self._watched.assigned_epochs}
        for topic in {tp.topic for tp in partitions} - kept:
            for kind in (Kind.TOPIC_RECREATED, Kind.IDENTITY_UNKNOWN):
                end(kind, topic)  # whoever has its partitions now says it
        for tp in partitions:
            self.ends.pop(tp, None)
            self.log_starts.pop(tp, None)
            self.log_starts_wanted.discard(tp)
            self._unreadable.pop(tp, None)
            self._silent.pop(tp, None)
            for kind in (Kind.NO_LEADER, Kind.POSITION_UNKNOWN, Kind.UNREADABLE, Kind.END_OFFSETS_OLD):
                end(kind, str(tp))

    async def look(self) -> None:
        """Ask once for whatever is due. Raises nothing that Kafka can cause."""
        self._look_at_group()
        self._look_at_unreadable()
        await self._look_at_doubted()
        try:
            if monotonic() - self._ends_at >= ENDS_SECONDS or self._watched.watermarks.keys() - self.ends.keys():
                await self._look_at_ends()
                self._ends_at = monotonic()
            if monotonic() - self._topics_at >= self._topics_seconds:
                await self._look_at_topics()
                self._topics_at = monotonic()
        except KafkaException as error:
            await self._judge(error.args[0])
        self._note_old_ends()
        self._look_at_silent()

    @property
    def _topics_seconds(self) -> float:
        return max(TOPICS_SECONDS, len(self._topics) / TOPICS_A_SECOND)

    # --- what it asks -------------------------------------------------------------------------------------------------

    async def _look_at_ends(self) -> None:
        begun = list(self._watched.watermarks)
        if not begun:
            return
        answers = await self._admin.ends(begun)
        errors = [answer for answer in answers.values() if isinstance(answer, KafkaError)]
        if len(errors) == len(answers) and {error.code() for error in errors} <= DOWN:
            raise KafkaException(errors[0])
        self._answered()
        now = monotonic()
        for tp, answer in answers.items():
            if isinstance(answer, int) and tp in self._watched.watermarks:
                self.ends[tp] = (answer, now)
        wanted = [tp for tp in self.log_starts_wanted if tp in self._watched.watermarks]
        starts = await self._admin.beginnings(wanted)
        self.log_starts = {tp: answer for tp, answer in starts.items() if isinstance(answer, int)}

    async def _look_at_topics(self) -> None:
        names = self._topics | {tp.topic for tp in self._watched.assigned_epochs}
        if not names:
            return
        found = await self._admin.topics(names)
        self._answered()
        for name, topic in found.items():
            if isinstance(topic, Topic):
                self._conditions.end(Kind.TOPIC_GONE, name)
                self._look_at_leaders(topic)
                self._look_at_id(topic)
            elif topic.code() in NO_TOPIC:
                self._topic_gone(name)
        read = {(tp.topic, watermark.life.topic_id) for tp, watermark in self._watched.watermarks.items()}
        self._lives.look({name: topic for name, topic in found.items() if isinstance(topic, Topic)}, read)

    def _look_at_id(self, topic: Topic) -> None:
        if topic.identity is not None and topic.identity != self._topic_ids.setdefault(topic.name, topic.identity):
            self._recreated.add(topic.name)

    def _look_at_leaders(self, topic: Topic) -> None:
        for partition in topic.partitions:
            tp = TopicPartition(topic.name, partition.number)
            if tp not in self._watched.assigned_epochs or partition.leader is not None:
                self._conditions.end(Kind.NO_LEADER, str(tp))
                continue
            self._conditions.begin(
                Kind.NO_LEADER,
                f"{tp} has no leader, so nothing can be read from it. All other partitions go on.",
                "Bring back the broker that holds its replicas; it goes on by itself then.",
                subject=str(tp),
            )

    def _topic_gone(self, name: str) -> None:
        self._conditions.begin(
            Kind.TOPIC_GONE,
            f"The topic {name} is not there any more (or this user may not see it). What was read of it is written.",
            "If it was deleted on purpose, take it out of STREAMS_TOPICS. Else create it again, or allow DESCRIBE on "
            "it. All other topics go on.",
            subject=name,
        )

    def _look_at_group(self) -> None:
        if self._watched.joined or self._subscribed_at is None or self._is_outage:
            return
        waited = monotonic() - max(self._subscribed_at, self._reachable_since)
        if waited > JOIN_PATIENCE_SECONDS or self._join_problem is not None:
            why = self._join_problem or "the group has not given it any share yet"
            self._conditions.begin(
                Kind.NOT_JOINED,
                f"This worker is no member of its group: {why}.",
                self._join_remedy,
                blocks_readiness=True,
            )

    def _look_at_silent(self) -> None:
        """Find partitions of recreated topics that librdkafka does not read.

        It takes no news of a partition's leader with an epoch below one that it has seen, of whichever topic
        (`rd_kafka_toppar_leader_update`, 2.16), and a recreated topic's epochs begin at 0. Where it was not reading
        while the topic was away, it asks the former leader, or with the former epoch, for ever and without an error.
        """
        now, room = monotonic(), self._watched.room
        self._wide_since = (self._wide_since or now) if room.is_wide else None
        for tp, watermark in self._watched.watermarks.items():
            if not self._has_more(tp, watermark, now):
                self._silent.pop(tp, None)
                continue
            silence = self._silent.get(tp)
            if silence is None or silence.position != watermark.position:
                self._silent[tp] = _Silence(watermark.position, now, room.taken_events, room.taken_bytes)
            elif self._is_stuck(silence, now):
                self._tell_stuck(tp, silence.position)
                return

    def _is_stuck(self, silence: _Silence, now: float) -> bool:
        """Whether what librdkafka has of the partition would have been taken by now: it comes in its turn."""
        if now - silence.since < SILENT_SECONDS:
            return False
        if self._wide_since is not None and now - self._wide_since >= SILENT_SECONDS:
            return True
        room = self._watched.room
        passed_bytes = room.taken_bytes - silence.size_bytes
        return room.taken_events - silence.events >= PASSED_EVENTS or passed_bytes >= PASSED_ROOMS * room.max_bytes

    def _has_more(self, tp: TopicPartition, watermark: PartitionWatermark, now: float) -> bool:
        """Whether a partition of a recreated topic has events that should be coming."""
        if tp.topic not in self._recreated or tp not in self.ends or not self._watched.is_taking(tp):
            return False
        end, known_at = self.ends[tp]
        return watermark.position < end and now - known_at < END_OLD_SECONDS

    def _tell_stuck(self, tp: TopicPartition, position: int) -> None:
        logger.warning(
            "%s: nothing has come from offset %d on since the topic was recreated, so the group is left and joined "
            "again with a new consumer",
            tp,
            position,
        )
        self._topic_ids.clear()
        self._recreated.clear()
        self._silent.clear()
        self.stuck()

    # --- what others notice -------------------------------------------------------------------------------------------

    def partition_failed(self, tp: TopicPartition, error: KafkaError) -> None:
        """Reading from a partition has failed; librdkafka tries again, several times a second."""
        watermark = self._watched.watermarks.get(tp)
        if error.code() in NO_TOPIC:
            self._topic_gone(tp.topic)
        elif watermark is not None:
            now = monotonic()
            position, since = self._unreadable.setdefault(tp, (watermark.position, now))
            if position != watermark.position:
                self._unreadable[tp] = watermark.position, now
            elif now - since >= UNREADABLE_SECONDS:
                self._tell_unreadable(tp, position, error)

    def _tell_unreadable(self, tp: TopicPartition, position: int, error: KafkaError) -> None:
        self._conditions.begin(
            Kind.UNREADABLE,
            f"Nothing can be read of {tp} from offset {position} on ({error.name()}: {error.str()}). Nothing behind it "
            "is written until it can; all other partitions go on.",
            "If brokers are being replaced, nothing: it goes on by itself. If it lasts, the batch there cannot be "
            "unpacked (damaged, or larger than 1 GB), and retention will delete it and what is behind it: read it with "
            "another client, then move the group's offset past it: docs/runbooks/partition-without-leader.md.",
            subject=str(tp),
        )

    def _look_at_unreadable(self) -> None:
        for tp, (position, _) in list(self._unreadable.items()):
            watermark = self._watched.watermarks.get(tp)
            if watermark is None or watermark.position > position:
                del self._unreadable[tp]
                self._conditions.end(Kind.UNREADABLE, str(tp))

    def client_failed(self, error: KafkaError) -> None:
        """librdkafka reports trouble of its own."""
        if error.code() in (KafkaError.INCONSISTENT_GROUP_PROTOCOL, KafkaError.UNSUPPORTED_VERSION):
            self._join_problem, self._join_remedy = f"{error.name()}: {error.str()}", JOIN_REMEDY
            self._watched.joined = False
        elif error.code() in NO_TOPIC:
            self._topics_at = 0.0
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            if self._heard_within(HEARD_SECONDS):
                self._doubted = error  # the next look asks
            else:
                self._unreachable(error)  # the next look ends it where one is back already
        elif is_refusal(error) or error.code() in CAUSES:
            self._note_cause(error)
        else:
            logger.debug("librdkafka: %s: %s", error.name(), plain_words(error.str()))

    def not_joined(self, why: str, remedy: str) -> None:
        """This worker is no member of its group, for a reason that is known; it is over when it has joined."""
        self._join_problem, self._join_remedy = why, remedy
        self._watched.joined = False
        self._look_at_group()

    def lost(self) -> None:
        """The group has dropped this worker, which joins again by itself."""
        self._subscribed_at = monotonic()

    def heard(self) -> None:
        """A broker has sent something."""
        self.brokers_answered = monotonic()

    def _heard_within(self, seconds: float) -> bool:
        return self.brokers_answered is not None and monotonic() - self.brokers_answered < seconds

    def _note_cause(self, error: KafkaError) -> None:
        """Remember it, refusals before all else: nothing that a worker waits for ends them."""
        now, known = monotonic(), self._current_cause()
        if self._cause is None or now - self._cause[1] > CAUSE_SECONDS:
            problem = self._explain(error)
            logger.warning("a Kafka broker cannot be used: %s. %s", problem.finding, problem.remedy)
        if is_refusal(error):
            goes_on = known is not None and is_refusal(known)
            self._refused_since = self._refused_since if goes_on else now
        elif known is not None and is_refusal(known):
            return
        self._cause = error, now

    def _current_cause(self) -> KafkaError | None:
        """`None` where it is long ago, or a broker has answered since."""
        if self._cause is None or monotonic() - self._cause[1] > CAUSE_SECONDS:
            return None
        error, at = self._cause
        return error if at > (self.brokers_answered or 0.0) else None

    @property
    def refused_since(self) -> float | None:
        """Since when brokers have only refused this worker's login or TLS (monotonic); `None`: they do not."""
        cause = self._current_cause()
        return None if cause is None or not is_refusal(cause) else self._refused_since

    def _answered(self) -> None:
        self.heard()
        if self._watched.joined:
            self._join_problem, self._join_remedy = None, JOIN_REMEDY
        if self._is_outage:
            self._reachable_since = monotonic()
            self._conditions.end(Kind.BROKERS_DOWN)

    @property
    def _is_outage(self) -> bool:
        """Whether it is told already that no broker answers: nothing that follows from it is told beside it."""
        return self._conditions.get(Kind.BROKERS_DOWN) is not None

    async def _judge(self, error: KafkaError) -> None:
        """A question has failed: nobody may be there, or only the one who should have answered it (the controller)."""
        if error.code() in DOWN and not await self._is_anybody_there():
            self._unreachable(error)
        else:
            logger.info("Kafka could not be asked: %s: %s", error.name(), error.str())

    async def _is_anybody_there(self) -> bool:
        try:
            await self._admin.cluster(sorted(self._topics)[:1])
        except KafkaException:
            return False
        self._answered()
        return True

    async def _look_at_doubted(self) -> None:
        error, self._doubted = self._doubted, None
        if error is not None and not await self._is_anybody_there():
            self._unreachable(error)

    def _unreachable(self, error: KafkaError) -> None:
        what, remedy = self._outage(error)
        self._conditions.begin(
            Kind.BROKERS_DOWN,
            f"{what}. Events that were read are still written; none comes, and nothing is committed.",
            f"{remedy} `faust -A streams doctor` says which step fails.",
            blocks_readiness=True,
        )

    def _outage(self, error: KafkaError) -> tuple[str, str]:
        """What is wrong, and what to do, by what brokers have said of late, if anything."""
        cause = self._current_cause()
        if cause is None:
            return (
                f"No broker answers ({error.name()}: {plain_words(error.str())})",
                "Are the brokers up, and can this machine reach them? It goes on by itself when they answer.",
            )
        problem = self._explain(cause)
        after = RESTART if is_refusal(cause) else "It goes on by itself once that is mended."
        return f"No broker can be used: {problem.finding}", f"{problem.remedy} {after}"

    def _note_old_ends(self) -> None:
        """Unless another condition says why: the outage, the leader that is missing, the topic that is gone."""
        if self._is_outage:
            return
        now = monotonic()
        for tp in self._watched.watermarks:
            known = self.ends.get(tp)
            since = None if known is None else max(known[1], self._reachable_since)
            if since is not None and now - since > END_OLD_SECONDS and not self._is_explained(tp):
                self._conditions.begin(
                    Kind.END_OFFSETS_OLD,
                    f"The end of {tp} has not been read for {now - self.ends[tp][1]:.0f} s, so its lag is unknown.",
                    "Is the broker that leads it up, and may this user DESCRIBE the topic? `faust -A streams doctor` "
                    "says which is not.",
                    subject=str(tp),
                )
            else:
                self._conditions.end(Kind.END_OFFSETS_OLD, str(tp))

    def _is_explained(self, tp: TopicPartition) -> bool:
        no_leader = self._conditions.get(Kind.NO_LEADER, str(tp))
        return no_leader is not None or self._conditions.get(Kind.TOPIC_GONE, tp.topic) is not None


__all__ = ["KafkaWatch", "Watched"]
