"""The thread that speaks to Kafka: the only one that calls librdkafka's consumer.

confluent-kafka lets one thread at a time into a consumer, and a thread that polls in a loop keeps all others out; so
whatever the event loop wants of it is put into `_inbox` and done between two polls. Fetched records go into `handover`,
in the order of their offsets; the event loop is told that there is something.

Positions are looked up elsewhere (`consumer.begin`): a rebalance hands out partitions without waiting for anything, and
each is begun when its committed offset is known. A partition that cannot be had waits alone.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as _TopicPartition

from streams.consumer.room import Room
from streams.errors import KafkaReadError
from streams.kafka.header_names import HeaderReader, HeadersLaterError
from streams.kafka.logs import librdkafka_logger
from streams.kafka.records import record_of, size_of
from streams.record import UNKNOWN_LIFE, Headers, Life, Record, TopicPartition

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.05
"""Longest wait for an event; also the longest that a request of the event loop waits for its turn."""
MAX_RECORDS: Final = 1000
GATHER_SECONDS: Final = 0.1
"""Longest wait for a full room to become wide. Events taken one by one, as others are let go of, cost a fifth more."""
FULL_PAUSE_SECONDS: Final = 0.5
"""After so long without room the partitions are paused, so that polling serves rebalances and takes no events."""
REVOKE_GRACE_SECONDS: Final = 5.0
"""On top of the drain's own limit, before the partitions are given away without a last commit."""
HEADERS_SECONDS: Final = 0.5
"""The most that all events of a hand-over together wait for headers with names that are not UTF-8: polling goes on, and
SIGTERM is heard. What has not come by then is read again, and waited for again."""
CLOSE_SECONDS: Final = 1.0
"""What leaving the group may take; who cannot say goodbye is missed after the session timeout."""
MAX_COMMIT_BYTES: Final = 500_000
"""Half of what Kafka lets a batch have (`max.message.bytes`, 1 MB): all partitions of a request become one batch."""
COMMIT_OVERHEAD_BYTES: Final = 200
"""What a partition's offset takes in Kafka's log besides topic and metadata (the group's name among it), generously."""


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """What a commit says of a partition."""

    offset: int
    metadata: str
    epoch: int
    """Of the assignment that it belongs to: another one's is never sent."""


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What Kafka made of a partition's part in a commit; `error` is `None` where it was accepted."""

    tp: TopicPartition
    offset: int
    error: KafkaError | None


@dataclass(slots=True)
class Fetched:
    """Records of a partition in order, then, at the end of the partition, the position behind everything."""

    tp: TopicPartition
    token: int
    records: list[Record] = field(default_factory=list)
    sizes_bytes: list[int] = field(default_factory=list)
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Where an assigned partition is to be begun.

    `epoch` is that of its assignment; `token` comes back with everything that is read from here on.
    """

    epoch: int
    token: int
    offset: int
    life: Life = UNKNOWN_LIFE


class Listener(Protocol):
    """Who the poller tells; every call comes on the event loop."""

    def arrived(self) -> None:
        """Something is in the handover."""

    def partitions_assigned(self, partitions: set[TopicPartition], epoch: int) -> None:
        """The group has given these to this worker; nothing is read before `start`."""

    async def partitions_revoked(self, partitions: set[TopicPartition]) -> Mapping[TopicPartition, CommitPoint]:
        """These go to another member: finish what is in flight; what to commit before they go."""

    def partitions_gone(self, partitions: set[TopicPartition], *, lost: bool) -> None:
        """They are not this worker's any more."""

    def committed(self, results: list[CommitResult]) -> None:
        """Kafka's answer to a commit."""

    def partition_failed(self, tp: TopicPartition, token: int, error: KafkaError) -> None:
        """Nothing comes from this partition until somebody does something about it."""

    def failed(self, error: KafkaError) -> None:
        """Trouble that is no single partition's; librdkafka goes on by itself, unless it is fatal."""

    def poller_ended(self, error: BaseException) -> None:
        """The thread has ended by an error of the product."""


@dataclass(slots=True)
class _Reading:
    """A partition that is being read."""

    tp: TopicPartition
    start: Start


class Poller:
    """Owns the consumer. `ask_…` methods may be called from the event loop; all others are the thread's own."""

    def __init__(
        self,
        configuration: Mapping[str, Any],
        room: Room,
        listener: Listener,
        loop: asyncio.AbstractEventLoop,
        *,
        revoke_seconds: float,
    ) -> None:
        self.handover: deque[Fetched] = deque()
        self._configuration = dict(configuration)
        self._room = room
        self._listener = listener
        self._loop = loop
        self._revoke_seconds = revoke_seconds
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._told = False
        self._stopping = False
        self._closed = threading.Event()
        self._consumer: Any = None
        self._headers = HeaderReader(configuration)
        self._headers_until = 0.0
        self._topics: list[str] = []
        self._epoch = 0
        self._owned: dict[TopicPartition, int] = {}
        self._reading: dict[TopicPartition, _Reading] = {}
        self._paused: set[TopicPartition] = set()
        self._full_since: float | None = None
        self._full_paused = False
        self._thread = threading.Thread(target=self._run, name="kafka", daemon=True)

    # --- what the event loop asks for ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the consumer and begin to poll.

        Raises:
            KafkaException: the configuration is none that librdkafka takes.
        """
        self._consumer = self._new_consumer()
        self._thread.start()

    def _new_consumer(self) -> Any:
        return Consumer(
            {**self._configuration, "on_commit": self._on_commit, "error_cb": self._on_error},
            logger=librdkafka_logger(),
        )

    def ask_subscribe(self, topics: Iterable[str]) -> None:
        """Take part in sharing out these topics' partitions from now on."""
        self._ask(lambda: self._subscribe(sorted(topics)))

    def ask_start(self, starts: Mapping[TopicPartition, Start]) -> None:
        """Begin partitions of the current assignment."""
        self._ask(lambda: self._start(starts))

    def ask_stop(self, partitions: Iterable[TopicPartition]) -> asyncio.Future[None]:
        """Read nothing more of these, which stay assigned; `ask_start` begins them again.

        Once the future is done, the handover gets nothing more of what was being read.
        """
        stopped, done = list(partitions), self._loop.create_future()

        def stop() -> None:
            try:
                self._stop_reading(stopped)
            finally:
                self._tell(_settle, done)

        self._ask(stop)
        return done

    def ask_pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Take nothing from these until `ask_resume`; their positions stay where they are."""
        paused = set(partitions)
        self._ask(lambda: self._pause(paused))

    def ask_resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Go on with these."""
        resumed = set(partitions)
        self._ask(lambda: self._resume(resumed))

    def ask_commit(self, points: Mapping[TopicPartition, CommitPoint]) -> None:
        """Send a commit; the answer comes to `Listener.committed`."""
        self._ask(lambda: self._commit(points))

    def ask_new_consumer(self) -> None:
        """Leave the group and join it again with a consumer that remembers nothing of the topics as they were."""
        self._ask(self._replace_consumer)

    def made_room(self) -> None:
        """Something was let go of."""
        if self._full_since is not None and self._room.is_wide:
            self._wake.set()

    async def stop(self) -> bool:
        """Leave the group and end the thread; whether that was done in time."""
        self._stopping = True
        self._wake.set()
        if not self._thread.is_alive():
            return True
        return await asyncio.to_thread(self._closed.wait, CLOSE_SECONDS + POLL_SECONDS)

    def _ask(self, action: Callable[[], None]) -> None:
        self._inbox.append(action)
        self._wake.set()

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wake.clear()
                self._serve_inbox()
                self._take()
        except BaseException as error:
            logger.exception("the thread that reads from Kafka has failed")
            self._tell(self._listener.poller_ended, error)
        finally:
            self._close()

    def _serve_inbox(self) -> None:
        while self._inbox:
            action = self._inbox.popleft()
            try:
                action()
            except KafkaException as error:
                self._tell(self._listener.failed, error.args[0])

    def _take(self) -> None:
        free = self._room.free()
        if not free or self._is_gathering():
            self._wait_for_room()
            return
        self._leave_full()
        messages = self._consumer.consume(min(free, MAX_RECORDS), 0)
        if not messages:
            message = self._consumer.poll(0 if self._inbox else POLL_SECONDS)
            messages = () if message is None else (message,)
        if messages:
            self._hand_over(messages)

    def _is_gathering(self) -> bool:
        """Whether a room that was full is given time to become wide."""
        if self._full_since is None or self._room.is_wide:
            return False
        return monotonic() - self._full_since < GATHER_SECONDS

    def _wait_for_room(self) -> None:
        now = monotonic()
        if self._full_since is None:
            self._full_since = now
        if not self._full_paused and now - self._full_since < FULL_PAUSE_SECONDS:
            self._wake.wait(POLL_SECONDS)
            return
        if not self._full_paused:
            self._full_paused = True
            self._pause_now(self._reading)
        message = self._consumer.poll(POLL_SECONDS)
        if message is not None:
            self._hand_over((message,))

    def _leave_full(self) -> None:
        self._full_since = None
        if self._full_paused:
            self._full_paused = False
            self._resume_now(self._reading.keys() - self._paused)

    def _hand_over(self, messages: Iterable[Any]) -> None:
        """Give what was read to the event loop: whole, for whatever is in the handover may be taken at any moment."""
        batch: list[Fetched] = []
        again: dict[TopicPartition, int] = {}
        self._headers_until = monotonic() + HEADERS_SECONDS
        reading: _Reading | None = None
        for message in messages:
            error = message.error()
            if error is not None:
                if not self._is_read_again(message, again):
                    self._note_error(message, error, batch)
                reading = None
                continue
            partition, topic = message.partition(), message.topic()
            if reading is None or reading.tp.partition != partition or reading.tp.topic != topic:
                reading = self._reading.get(TopicPartition(topic, partition))
                if reading is not None and reading.tp not in again:
                    batch.append(Fetched(reading.tp, reading.start.token))
            if reading is None or reading.tp in again:
                continue  # it was given away, or stopped, while this was on its way
            try:
                record = record_of(message, reading.tp.topic, self._read_headers, reading.start.life)
            except HeadersLaterError:
                again[reading.tp] = message.offset()
                continue
            except KafkaReadError as error:
                logger.warning("%s: %s; it is read again", reading.tp, error)
                again[reading.tp] = message.offset()
                continue
            size_bytes = size_of(record)
            batch[-1].records.append(record)
            batch[-1].sizes_bytes.append(size_bytes)
            self._room.took(size_bytes)
        self.handover.extend(batch)
        self._tell_arrived()
        self._read_again(again)

    def _read_headers(self, tp: TopicPartition, offset: int) -> Headers:
        return self._headers.read(tp, offset, self._headers_until - monotonic())

    def _is_read_again(self, message: Any, again: Mapping[TopicPartition, int]) -> bool:
        """Whether this is behind an event that is: an end of its partition must not be counted before that event."""
        return bool(again) and TopicPartition(message.topic(), message.partition()) in again

    def _read_again(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Go back to events that could not be read whole: nothing behind them has been handed over."""
        starts = {tp: self._reading[tp].start for tp in offsets if tp in self._reading}
        self._read_from({tp: replace(start, offset=offsets[tp]) for tp, start in starts.items()})

    def _note_error(self, message: Any, error: KafkaError, batch: list[Fetched]) -> None:
        topic = message.topic()
        tp = None if topic is None else TopicPartition(topic, message.partition())
        reading = None if tp is None else self._reading.get(tp)
        if error.code() == KafkaError._PARTITION_EOF:
            if reading is not None:
                batch.append(Fetched(reading.tp, reading.start.token, position=message.offset()))
        elif reading is not None:
            self._tell(self._listener.partition_failed, reading.tp, reading.start.token, error)
        else:
            self._tell(self._listener.failed, error)

    def _tell_arrived(self) -> None:
        if self.handover and not self._told:
            self._told = True
            self._tell(self._arrived)

    def _arrived(self) -> None:
        self._told = False
        self._listener.arrived()

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:  # the event loop is closed: the process is on its way out
            self._stopping = True

    # --- partitions ---------------------------------------------------------------------------------------------------

    def _replace_consumer(self) -> None:
        self._leave()  # gives the partitions back first: `_on_revoke`
        left = set(self._owned)
        self._owned.clear()
        self._reading.clear()
        self._paused.clear()
        if left:
            self._tell(self._gone, left, False)
        self._full_since, self._full_paused = None, False
        self._headers.close()
        self._consumer = self._new_consumer()
        self._subscribe(self._topics)

    def _subscribe(self, topics: list[str]) -> None:
        self._topics = topics
        self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        # They are ours; reading begins with `ask_start`.
        self._changing_assignment(lambda: consumer.incremental_assign([]))
        self._epoch += 1
        new = set(_names(partitions))
        self._owned.update(dict.fromkeys(new, self._epoch))
        self._tell(self._listener.partitions_assigned, new, self._epoch)

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        revoked = set(_names(partitions))
        if not self._stopping:
            points = self._drain(revoked)
            if points:
                self._commit_now(points)
        self._give_away(revoked, lost=False)

    def _on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        self._give_away(set(_names(partitions)), lost=True)

    def _changing_assignment(self, change: Callable[[], None]) -> None:
        """In a callback: librdkafka may have taken the partitions back already, when it lost them; that is as good."""
        try:
            change()
        except KafkaException as error:
            logger.info("the assignment had changed already: %s", error.args[0].str())

    def _drain(self, revoked: set[TopicPartition]) -> Mapping[TopicPartition, CommitPoint]:
        """Let the event loop finish what is in flight. Nothing is delivered to anybody meanwhile, so it is bounded."""
        work, seconds = self._revoked(revoked), self._revoke_seconds + REVOKE_GRACE_SECONDS
        try:
            asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the event loop is closed
            work.close()
            self._stopping = True
            return {}
        try:
            return asked.result(seconds)
        except FutureTimeoutError:
            asked.cancel()  # the partitions go now; what is drained after that is nobody's
            logger.error("the event loop did not answer within %.0f s of a rebalance", seconds)
        except Exception:
            logger.exception("what was in flight could not be finished before a rebalance")
        return {}

    async def _revoked(self, revoked: set[TopicPartition]) -> Mapping[TopicPartition, CommitPoint]:
        return await self._listener.partitions_revoked(revoked)

    def _give_away(self, partitions: set[TopicPartition], *, lost: bool) -> None:
        self._headers.forget(partitions)
        stopped = [tp for tp in partitions if self._reading.pop(tp, None) is not None]
        # Called with nothing, too: where a callback calls it not, confluent-kafka gives all of them back by itself, and
        # fails at those that have not been begun.
        self._changing_assignment(lambda: self._consumer.incremental_unassign(_places(stopped)))
        self._paused -= partitions  # what was held is not when it comes again
        for tp in partitions:
            self._owned.pop(tp, None)
        self._tell(self._gone, partitions, lost)

    def _gone(self, partitions: set[TopicPartition], lost: bool) -> None:
        self._listener.partitions_gone(partitions, lost=lost)

    def _start(self, starts: Mapping[TopicPartition, Start]) -> None:
        wanted = {tp: start for tp, start in starts.items() if self._owned.get(tp) == start.epoch}
        self._headers.forget(wanted)  # it may be another topic
        self._read_from(wanted)

    def _read_from(self, wanted: Mapping[TopicPartition, Start]) -> None:
        self._stop_reading(wanted)
        if not wanted:
            return
        self._consumer.incremental_assign(
            [_TopicPartition(tp.topic, tp.partition, start.offset) for tp, start in wanted.items()]
        )
        self._reading.update({tp: _Reading(tp, start) for tp, start in wanted.items()})
        paused = wanted.keys() if self._full_paused else wanted.keys() & self._paused
        self._pause_now(paused)
        self._resume_now(wanted.keys() - paused)  # librdkafka remembers a pause from an earlier assignment

    def _stop_reading(self, partitions: Iterable[TopicPartition]) -> None:
        stopped = [tp for tp in partitions if self._reading.pop(tp, None) is not None]
        if stopped:
            self._consumer.incremental_unassign(_places(stopped))

    def _pause(self, partitions: set[TopicPartition]) -> None:
        self._paused |= partitions
        self._pause_now(partitions)

    def _resume(self, partitions: set[TopicPartition]) -> None:
        self._paused -= partitions
        if not self._full_paused:
            self._resume_now(partitions)

    def _pause_now(self, partitions: Iterable[TopicPartition]) -> None:
        places = _places(tp for tp in partitions if tp in self._reading)
        if places:
            self._consumer.pause(places)

    def _resume_now(self, partitions: Iterable[TopicPartition]) -> None:
        places = _places(tp for tp in partitions if tp in self._reading)
        if places:
            self._consumer.resume(places)

    # --- commits ------------------------------------------------------------------------------------------------------

    def _commit(self, points: Mapping[TopicPartition, CommitPoint]) -> None:
        for request in commit_requests(self._still_ours(points)):
            try:
                self._consumer.commit(offsets=_offsets(request), asynchronous=True)
            except KafkaException as error:
                self._tell(self._listener.committed, _results(request, error.args[0]))

    def _commit_now(self, points: Mapping[TopicPartition, CommitPoint]) -> None:
        """The last commit of partitions that go; topics one by one, since one that is gone fails the whole request."""
        for topic in sorted({tp.topic for tp in points}):
            ours = {tp: point for tp, point in self._still_ours(points).items() if tp.topic == topic}
            for request in commit_requests(ours):
                try:
                    answer = self._consumer.commit(offsets=_offsets(request), asynchronous=False)
                    results = [CommitResult(TopicPartition(o.topic, o.partition), o.offset, o.error) for o in answer]
                except KafkaException as error:
                    results = _results(request, error.args[0])
                self._tell(self._listener.committed, results)

    def _still_ours(self, points: Mapping[TopicPartition, CommitPoint]) -> dict[TopicPartition, CommitPoint]:
        return {tp: point for tp, point in points.items() if self._owned.get(tp) == point.epoch}

    def _on_commit(self, error: KafkaError | None, partitions: list[Any]) -> None:
        results = [CommitResult(TopicPartition(o.topic, o.partition), o.offset, o.error or error) for o in partitions]
        self._tell(self._listener.committed, results)

    def _on_error(self, error: KafkaError) -> None:
        self._tell(self._listener.failed, error)

    def _leave(self) -> None:
        try:
            self._consumer.close()
        except (KafkaException, RuntimeError) as error:
            logger.warning("leaving the group failed: %s", error)

    def _close(self) -> None:
        try:
            self._serve_inbox()
            self._leave()
        finally:
            self._closed.set()
            self._headers.close()  # may wait for a token endpoint, which leaving need not


def commit_requests(points: Mapping[TopicPartition, CommitPoint]) -> Iterator[dict[TopicPartition, CommitPoint]]:
    """A commit in parts, each of which Kafka can keep: all partitions of a request become one batch of its log."""
    part: dict[TopicPartition, CommitPoint] = {}
    size_bytes = 0
    for tp, point in points.items():
        one_bytes = COMMIT_OVERHEAD_BYTES + 2 * len(tp.topic) + len(point.metadata)
        if part and size_bytes + one_bytes > MAX_COMMIT_BYTES:
            yield part
            part, size_bytes = {}, 0
        part[tp] = point
        size_bytes += one_bytes
    if part:
        yield part


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _names(partitions: Iterable[Any]) -> Iterator[TopicPartition]:
    return (TopicPartition(one.topic, one.partition) for one in partitions)


def _places(partitions: Iterable[TopicPartition]) -> list[_TopicPartition]:
    return [_TopicPartition(tp.topic, tp.partition) for tp in partitions]


def _offsets(points: Mapping[TopicPartition, CommitPoint]) -> list[_TopicPartition]:
    return [
        _TopicPartition(tp.topic, tp.partition, point.offset, metadata=point.metadata) for tp, point in points.items()
    ]


def _results(points: Mapping[TopicPartition, CommitPoint], error: KafkaError) -> list[CommitResult]:
    return [CommitResult(tp, point.offset, error) for tp, point in points.items()]
