"""Faust's consumer on top of the poller: assignments, events in, acknowledgements, drains.

The rule that every method keeps: *a record that was taken from the handover is counted in its partition's watermark
before anything later of that partition is.* A partition lives here from `assigned` (the group has given it to us) over
`_begin` (its committed offset is known: it has a watermark) to `gone`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import Any, ClassVar, Final, cast

from confluent_kafka import KafkaError, KafkaException
from faust.transport.consumer import Consumer
from faust.types import TP
from mode import Service

from streams.consumer.begin import Beginnings, Begun
from streams.consumer.commits import Commits
from streams.consumer.fatal_errors import cause_of, is_fatal, says_why
from streams.consumer.options import ConsumerOptions
from streams.consumer.poller import CommitPoint, CommitResult, Fetched, Poller, Start
from streams.consumer.room import Room
from streams.consumer.runs import RUN_EVENTS, Run, message_of
from streams.consumer.watch import KafkaWatch
from streams.consumer.watermark import PartitionWatermark
from streams.errors import ConfigurationError, KafkaClientError
from streams.kafka.admin import KafkaAdmin
from streams.kafka.group_offsets import GroupOffsets
from streams.kafka.identity import with_topic_id
from streams.ledger import OpenLedger
from streams.record import Record, TopicPartition, name_in_bucket
from streams.stats import Kind

logger = logging.getLogger(__name__)

AGENT_START_TIMEOUT_SECONDS: Final = 2.0
COMMIT_SECONDS: Final = 5.0
COMMIT_WITHOUT_KAFKA_SECONDS: Final = 1.0
"""... where it is known already that nobody takes it: no broker or coordinator answers, or the group refuses."""
JOIN_AGAIN_SECONDS: Final = 5.0
"""Between two attempts to join while another member has this worker's instance id."""
SHARE_OF_TIMEOUT_FOR_WRITES: Final = 0.7
"""What a drain gives to the writes in flight; the rest is for the commit and for leaving the group."""
YIELD_EVERY_EVENTS: Final = 256
DRAIN_POLL_SECONDS: Final = 0.01


@dataclass(slots=True)
class _Former:
    """What was read of a topic before another took its name: Kafka has it no more, so only this worker can write it."""

    tp: TopicPartition
    watermark: PartitionWatermark
    stopped: asyncio.Future[None]
    """Done when the handover gets nothing more of it."""
    moved: bool = False
    """Whether Faust, which takes events of assigned partitions only, may know nothing of the partition any more."""


class WatermarkConsumer(Consumer):
    """Consumer whose committed offsets never pass an event that is not durable."""

    mundane_level = "debug"
    consumer_stopped_errors: ClassVar[tuple[type[BaseException], ...]] = ()

    def __init__(self, transport: Any, *args: Any, **kwargs: Any) -> None:
        options: ConsumerOptions = transport.options
        self.options = options
        self.room = Room(options.max_buffered_events, options.max_buffered_bytes)
        self.watermarks: dict[TopicPartition, PartitionWatermark] = {}
        """The partitions that are begun."""
        self._finishing: dict[int, _Former] = {}
        """By token. It is written wherever the partition goes, and never committed."""
        self._interrupted: list[tuple[TopicPartition, PartitionWatermark, list[Record]]] = []
        """What was counted and not queued when Faust stopped taking events in."""
        self.assigned_epochs: dict[TopicPartition, int] = {}
        """All that the group has given to this worker, begun or not, each with the epoch of its assignment."""
        self.held: set[TopicPartition] = set()
        self.paused: set[str] = set()
        """Topics that nothing is taken from at the moment; a rebalance changes nothing about it."""
        self.drained = True
        """Whether the last drain wrote and committed everything that was in flight."""
        self.rebalancing_since: float | None = None
        self.joined = False
        """Whether the group has given this worker its share (which may be none)."""
        self.last_acknowledged = monotonic()
        self.admin: KafkaAdmin | None = None
        self._poller: Poller | None = None
        self._beginnings: Beginnings | None = None
        self.watch: KafkaWatch | None = None
        self.commits = Commits(self._send_commit, self._commit_accepted, options.stats.conditions)
        self._arrived = asyncio.Event()
        self._answered = asyncio.Event()
        self._telling = asyncio.Lock()
        self._tokens = count(1)
        self._stop_drained = False
        self._is_dead = False
        """Whether librdkafka's consumer has met a fatal error: it takes no commits, and never joins the group again."""
        self._rebalances: set[asyncio.Task[None]] = set()
        super().__init__(transport, *args, **kwargs)

    # --- life ---------------------------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Make the clients; the group is joined with the first subscription."""
        options, loop = self.options, asyncio.get_running_loop()
        self.admin = options.admin
        self._beginnings = Beginnings(self.admin, GroupOffsets(options.client), options.stats, options.lives)
        self.watch = KafkaWatch(self.admin, self, options.stats.conditions, options.lives, options.explain)
        options.lives.changed = self._topic_changed
        options.lives.begin_again = self._topic_belongs_elsewhere
        self._poller = Poller(
            options.client, self.room, self, loop, revoke_seconds=options.rebalance_drain_timeout_seconds
        )
        self.watch.stuck = self._poller.ask_new_consumer
        self._poller.start()
        await super().on_start()

    async def on_stop(self) -> None:
        """Finish what is in flight, leave the group, in bounded time."""
        await self.wait_empty()
        for task in list(self._rebalances):
            task.cancel()
        if self._poller is not None and not await self._poller.stop():
            logger.warning("the group could not be left in time; it misses this worker after the session timeout")

    @Service.task
    async def _watch_kafka(self) -> None:
        while not self.should_stop and self.watch is not None:
            await self.watch.look()
            await self.sleep(self.watch.pause_seconds)

    @Service.task
    async def _ask_identities_again(self) -> None:
        while not self.should_stop:
            await self.options.lives.ask_again()
            await self.sleep(self.options.lives.ask_again_seconds)

    @property
    def poller(self) -> Poller:
        """The thread that reads; there from the start on."""
        if self._poller is None:
            raise RuntimeError("the consumer has not been started")
        return self._poller

    # --- the group ----------------------------------------------------------------------------------------------------

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group, unless an agent acknowledges by itself: the watermark would never see those events."""
        await self._refuse_auto_ack()
        self.poller.ask_subscribe(topics)
        if self.watch is not None:
            self.watch.subscribed(topics)

    async def _refuse_auto_ack(self) -> None:
        deadline = monotonic() + AGENT_START_TIMEOUT_SECONDS
        while names := _auto_acknowledging(self.app):
            if monotonic() > deadline:
                self.options.fatal(
                    ConfigurationError(
                        f"the agents {', '.join(names)} acknowledge events by themselves, before they are durable. "
                        "Iterate over stream.noack().events() and call run.acknowledge(record) once a record is."
                    )
                )
            await asyncio.sleep(0.05)

    def partitions_assigned(self, partitions: set[TopicPartition], epoch: int) -> None:
        """Take over partitions: Faust is told, their positions are looked up, then they are read."""
        self.joined = True
        self.options.stats.conditions.end(Kind.NOT_JOINED)
        self.assigned_epochs.update(dict.fromkeys(partitions, epoch))
        self._in_background(self._take_over(partitions, epoch))

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._rebalances.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        """Work that has failed would leave partitions that nobody reads: the worker ends, and a restart helps."""
        self._rebalances.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.should_stop:
            logger.error("work on the assignment has failed", exc_info=error)
            self.add_future(self.crash(error))

    async def _take_over(self, partitions: set[TopicPartition], epoch: int) -> None:
        await self._tell_faust()
        if partitions and self._beginnings is not None:
            await self._beginnings.look_up(partitions, lambda tp: self.assigned_epochs.get(tp) == epoch, self._begin)

    async def _tell_faust(self) -> None:
        """Let Faust's app know the whole assignment; it resumes the flow of events with the first one."""
        async with self._telling:
            self.app.on_rebalance_start()
            everything = {TP(*tp) for tp in self.assigned_epochs}
            await self.on_partitions_assigned(everything, self.app.consumer_generation_id)
            self.rebalancing_since = None

    def _begin(self, begun: Mapping[TopicPartition, Begun]) -> None:
        """Positions are known: from here on events of these partitions are counted, and may come."""
        starts = {}
        for tp, found in begun.items():
            epoch = self.assigned_epochs[tp]
            token = next(self._tokens)
            self.watermarks[tp] = PartitionWatermark(token, found.position, self._resume_ledger(tp, found), found.life)
            self.commits.begin(tp, found.committed, found.metadata, epoch)
            starts[tp] = Start(epoch, token, found.position, found.life)
            if tp.topic in self.paused:
                self.poller.ask_pause([tp])
        self.poller.ask_start(starts)

    def _resume_ledger(self, tp: TopicPartition, found: Begun) -> OpenLedger | None:
        ledgers = self.options.ledgers
        if ledgers is None:
            return None
        ledger = OpenLedger.resume(
            name_in_bucket(tp.topic, found.life),
            tp.partition,
            found.committed,
            found.metadata,
            found.position,
            found.life,
        )
        if found.committed is not None:
            # Whoever was here before may have left a commit that holds as much as it can: the next one waits for this.
            ledgers.offer(ledger, found.committed)
        return ledger

    async def partitions_revoked(self, partitions: set[TopicPartition]) -> Mapping[TopicPartition, CommitPoint]:
        """Finish the writes of partitions that move; those that stay go on meanwhile."""
        self.rebalancing_since = monotonic()
        await self.app.on_partitions_revoked.send({TP(*tp) for tp in partitions})
        await self._drain(partitions, self.options.rebalance_drain_timeout_seconds, even_if_failing=False)
        return self.commits.due(self._points(partitions))

    def partitions_gone(self, partitions: set[TopicPartition], *, lost: bool) -> None:
        """Forget partitions; of those that were lost, what is in flight will be written again by whoever has them."""
        if lost and partitions:
            logger.warning(
                "%d partitions are not this worker's any more: its session with the group has timed out",
                len(partitions),
            )
            self.joined = False
            if self.watch is not None:
                self.watch.lost()
        for tp in partitions:
            self.assigned_epochs.pop(tp, None)
        for _, watermark in self._forget(partitions):
            self._retire(watermark)
        for former in self._finishing.values():
            former.moved = former.moved or former.tp in partitions

    def _forget(self, partitions: set[TopicPartition]) -> list[tuple[TopicPartition, PartitionWatermark]]:
        """Take partitions out of the books; their watermarks, for whoever finishes or retires them."""
        self.commits.forget(partitions)
        self.held -= partitions
        taken = [(tp, self.watermarks.pop(tp)) for tp in partitions & self.watermarks.keys()]
        for _, watermark in taken:
            if watermark.ledger is not None and self.options.ledgers is not None:
                self.options.ledgers.forget(watermark.ledger)
        if self.watch is not None:
            self.watch.forget(partitions, stopping=self._stop_drained)
        return taken

    def _retire(self, watermark: PartitionWatermark) -> None:
        """Nothing of it is begun any more, nor counted."""
        watermark.closing = watermark.retired = True
        self._let_go(len(watermark.pending), watermark.pending_bytes)

    # --- events in ----------------------------------------------------------------------------------------------------

    def arrived(self) -> None:
        """The poller has put something into the handover."""
        self._arrived.set()
        if self.watch is not None:
            self.watch.heard()

    async def take_in(self, is_over: Any) -> None:
        """Move events from the handover into the agents' queue until `is_over()` (Faust's fetcher runs it)."""
        handover: deque[Fetched] = self.poller.handover
        while not is_over():
            self._arrived.clear()
            if not handover:
                await self.wait(self._arrived.wait())
                continue
            await self._deliver(handover.popleft())

    async def _deliver(self, fetched: Fetched) -> None:
        """Count and queue what was fetched; events of an assignment that is over are dropped, others write them."""
        watermark, former = self.watermarks.get(fetched.tp), self._finishing.get(fetched.token)
        if watermark is None or watermark.token != fetched.token:
            watermark = None if former is None else former.watermark
        if watermark is None or watermark.closing:
            self._let_go(len(fetched.records), sum(fetched.sizes_bytes))
            return
        if fetched.position is not None:
            watermark.advance(fetched.position)
            return
        for record, size_bytes in zip(fetched.records, fetched.sizes_bytes, strict=True):
            watermark.delivered(record.offset, size_bytes)
        if former is not None and (former.moved or self._stop_drained):
            self._in_background(self._write(watermark, fetched.records))
        else:
            await self._queue(fetched, watermark)

    async def _write(self, watermark: PartitionWatermark, records: list[Record]) -> None:
        """Begin the writes of events without Faust."""
        for start in range(0, len(records), RUN_EVENTS):
            await self.options.archive(Run(records[start : start + RUN_EVENTS], watermark, self.mark_durable))

    async def _queue(self, fetched: Fetched, watermark: PartitionWatermark) -> None:
        records = fetched.records
        generation = self.app.consumer_generation_id
        for start in range(0, len(records), RUN_EVENTS):
            run = Run(records[start : start + RUN_EVENTS], watermark, self.mark_durable)
            first = run.records[0]
            if first.timestamp_ms is not None:
                watermark.note_timestamp(first.offset, first.timestamp_ms)
            try:
                await self.callback(message_of(run, fetched.tp, generation))
            except asyncio.CancelledError:
                self._interrupted.append((fetched.tp, watermark, records[start:]))
                raise
            if start % YIELD_EVERY_EVENTS == 0:
                await asyncio.sleep(0)

    def partition_failed(self, tp: TopicPartition, token: int, error: KafkaError) -> None:
        """Kafka has nothing for us at our position, or does not let us read."""
        watermark = self.watermarks.get(tp)
        if watermark is None or watermark.token != token:
            return
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            self.options.fatal(
                ConfigurationError(
                    f"this user may not read the topic {tp.topic} (STREAMS_TOPICS). Add an ACL that allows READ on it."
                )
            )
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._in_background(self._return_to_range(tp, watermark))
        elif self.watch is not None:
            self.watch.partition_failed(tp, error)

    async def _return_to_range(self, tp: TopicPartition, watermark: PartitionWatermark) -> None:
        """The position is not one that Kafka has: retention has overtaken it, or this is another topic."""
        if self._beginnings is None:
            return

        def is_ours() -> bool:
            return self.watermarks.get(tp) is watermark

        await self.poller.ask_stop([tp])
        while any(fetched.tp == tp for fetched in tuple(self.poller.handover)):
            await self.sleep(DRAIN_POLL_SECONDS)  # what came before it counts before the position is known
        if not is_ours():
            return
        found = await self._beginnings.return_to_range(
            tp, watermark.position, watermark.life, is_ours, was_read=watermark.position != watermark.began
        )
        if not is_ours():
            return
        if found is None:
            self._begin_again({tp})
            return
        if found > watermark.position:
            self.report_lost_to_retention(tp, watermark.position, found)
            watermark.lost(found)
        self.poller.ask_start({tp: Start(self.assigned_epochs[tp], watermark.token, found, watermark.life)})

    def _topic_changed(self, topic: str, topic_id: str) -> None:
        """Another topic has taken the name: partitions in which the old one was read begin again."""
        known = {tp: watermark.life for tp, watermark in self.watermarks.items() if tp.topic == topic}
        self._begin_again({tp for tp, life in known.items() if life.topic_id != topic_id})

    def _topic_belongs_elsewhere(self, topic: str) -> None:
        """It was trusted, and its events must not be written where they were: all its partitions begin again."""
        self._begin_again({tp for tp in self.watermarks if tp.topic == topic})

    def _begin_again(self, partitions: set[TopicPartition]) -> None:
        """What was read of another topic is finished, and these are begun as what they are now.

        Nothing more is committed for the old topic; Kafka has forgotten its offsets with it. One that is being given
        away is begun by whoever has it next.
        """
        closing = {tp for tp, watermark in self.watermarks.items() if watermark.closing}
        epochs = {tp: self.assigned_epochs[tp] for tp in partitions & self.assigned_epochs.keys() - closing}
        stopped = self.poller.ask_stop(epochs)
        self.poller.ask_resume(epochs)  # what was held is not any more
        for tp, watermark in self._forget(set(epochs)):
            self._finishing[watermark.token] = _Former(tp, watermark, stopped)
            for offset in sorted(watermark.refused):
                logger.error(
                    "event %s/%d/%d was refused and is never written: its topic (id %s) is gone, and nothing is held",
                    *tp,
                    offset,
                    watermark.life.topic_id,
                )
                self.mark_durable(watermark, offset)  # nobody waits for it
                self.options.stats.holds.pop(tp, None)
        for epoch in set(epochs.values()):
            self._in_background(self._take_over({tp for tp in epochs if epochs[tp] == epoch}, epoch))

    def report_lost_to_retention(self, tp: TopicPartition, position: int, beginning: int) -> None:
        """Say that Kafka has dropped events that this group had not written."""
        count = beginning - position
        logger.error(
            "%s/%s: up to %d events (offsets %d to %d) left Kafka's retention before they were written. "
            "Raise the topic's retention.ms or retention.bytes, and let the worker keep up",
            tp.topic,
            tp.partition,
            count,
            position,
            beginning - 1,
        )
        self.options.stats.lost(tp.topic, count)

    def failed(self, error: KafkaError) -> None:
        """librdkafka is in trouble; what cannot end by itself ends the worker, the rest is a condition."""
        if is_fatal(error):
            self._failed_for_good(error)
        elif self.watch is not None:
            self.watch.client_failed(error)

    def _failed_for_good(self, error: KafkaError) -> None:
        """The consumer is dead. Whoever stops already goes on with that."""
        if self._is_dead or not says_why(error):
            return
        self._is_dead = True
        cause, instance = cause_of(error), self.options.client.get("group.instance.id")
        if self._stop_drained:
            logger.info("Kafka's client has failed on the way out: %s", error.str())
        elif cause == KafkaError.GROUP_AUTHORIZATION_FAILED:
            self.options.fatal(
                ConfigurationError(
                    f"this user may not use the consumer group {self.options.group} (STREAMS_CONSUMER_GROUP). "
                    "Add an ACL that allows READ on the group."
                )
            )
        elif cause == KafkaError.UNRELEASED_INSTANCE_ID:
            self._not_joined(
                f"its instance id {instance} (STREAMS_KAFKA_GROUP_INSTANCE_ID) is still another member's: a worker "
                "that was killed and is missed after the session timeout (45 s, if the brokers do not say otherwise: "
                "group.consumer.session.timeout.ms), or one that runs",
                "Nothing, if a worker was killed: this one tries again every few seconds, and joins when the other is "
                "missed. If it lasts, two workers have the same STREAMS_KAFKA_GROUP_INSTANCE_ID: give each its own.",
            )
            self._in_background(self._join_again())
        elif cause == KafkaError.FENCED_INSTANCE_ID:
            self._not_joined(
                f"it is fenced, for another worker has joined with its instance id {instance}",
                "Two workers have the same STREAMS_KAFKA_GROUP_INSTANCE_ID: give each its own. This one ends with exit "
                "code 1.",
            )
            self._end_for(f"fenced: another worker has the same STREAMS_KAFKA_GROUP_INSTANCE_ID, {instance}")
        else:
            self._end_for(error.str())

    def _not_joined(self, why: str, remedy: str) -> None:
        if self.watch is not None:
            self.watch.not_joined(why, remedy)

    async def _join_again(self) -> None:
        await self.sleep(JOIN_AGAIN_SECONDS)
        if not self.should_stop and not self._stop_drained:
            self._is_dead = False
            self.poller.ask_new_consumer()

    def _end_for(self, why: str) -> None:
        logger.error("Kafka's client has ended for good (%s), so this worker ends with exit code 1", why)
        self.add_future(self.crash(KafkaClientError(why)))

    def poller_ended(self, error: BaseException) -> None:
        """The poller is dead: the worker cannot go on, and a restart helps."""
        self.add_future(self.crash(error))

    # --- holding and pausing ------------------------------------------------------------------------------------------

    def hold(self, record: Record) -> str | None:
        """Stop taking events from the record's partition until the worker restarts or the partition moves.

        Returns why there is nothing to hold where the event is not of what is being read of the partition now.
        """
        tp = TopicPartition(record.topic, record.partition)
        watermark = self.watermarks.get(tp)
        if watermark is not None and watermark.life == record.life:
            watermark.refused.add(record.offset)
            self.held.add(tp)
            self.poller.ask_pause([tp])
            return None
        for former in self._finishing.values():
            if (former.tp, former.watermark.life) == (tp, record.life):
                self.mark_durable(former.watermark, record.offset)  # nobody waits for it
                return (
                    f"its topic (id {record.life.topic_id}) was deleted, so Kafka does not have it any more. Only a "
                    "copy from elsewhere can be archived once the cause is mended"
                )
        return "it is not this worker's any more. Whoever has it reads the event again, and holds it there"

    def pause(self, topic: str) -> None:
        """Take no further events from a topic until `resume`; those that were taken are finished."""
        self.paused.add(topic)
        self.poller.ask_pause([tp for tp in self.assigned_epochs if tp.topic == topic])

    def resume(self, topic: str) -> None:
        """Go on with the next event of the topic that was not taken."""
        self.paused.discard(topic)
        self.poller.ask_resume([tp for tp in self.assigned_epochs if tp.topic == topic and tp not in self.held])
        self.last_acknowledged = monotonic()  # the pause was no stall

    def is_taking(self, tp: TopicPartition) -> bool:
        """Whether the partition's events are wanted now, or as soon as there is room: neither held nor paused."""
        return tp not in self.held and tp.topic not in self.paused

    # --- acknowledging and committing ---------------------------------------------------------------------------------

    def ack(self, message: Any) -> bool:
        """Faust's acknowledgement of a whole message: does nothing, for a run is acknowledged record by record."""
        return False

    def mark_durable(self, watermark: PartitionWatermark, offset: int) -> None:
        """Count an event as durable; one of an earlier assignment changes nothing."""
        if watermark.retired:
            return
        size_bytes = watermark.mark_durable(offset)
        if size_bytes is None:
            return
        self.last_acknowledged = monotonic()
        self._let_go(1, size_bytes)

    def _let_go(self, events: int, size_bytes: int) -> None:
        self.room.let_go(events, size_bytes)
        if self._poller is not None:
            self._poller.made_room()

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Ask Kafka to take what is durable by now (Faust calls it regularly); the answer comes later."""
        self._finishing = {token: one for token, one in self._finishing.items() if self._is_unfinished(one)}
        return self.commits.send_due(self._points(self.watermarks))

    def _points(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, CommitPoint]:
        """What a commit may carry now: the low watermarks, with what is not in the ledger's objects yet."""
        found = {}
        for tp in partitions:
            watermark = self.watermarks.get(tp)
            if watermark is not None:
                found[tp] = _commit_point(watermark, self.assigned_epochs[tp])
        return found

    def _send_commit(self, points: Mapping[TopicPartition, CommitPoint]) -> None:
        self.poller.ask_commit(points)

    def committed(self, results: list[CommitResult]) -> None:
        """Kafka's answer."""
        self.commits.answered(results)
        self._answered.set()
        fatal = next((one.error for one in results if one.error is not None and is_fatal(one.error)), None)
        if fatal is not None:
            self._failed_for_good(fatal)
        if self.watch is not None and any(result.error is None for result in results):
            self.watch.heard()

    def _commit_accepted(self, tp: TopicPartition, offset: int) -> None:
        self.app.monitor.on_tp_commit({TP(*tp): offset})
        watermark = self.watermarks.get(tp)
        if watermark is not None and watermark.ledger is not None and self.options.ledgers is not None:
            self.options.ledgers.offer(watermark.ledger, offset)

    def committed_offset(self, tp: TopicPartition) -> int | None:
        """The offset of the last commit that Kafka accepted (or answered at the start)."""
        return self.commits.committed(tp)

    # --- drains -------------------------------------------------------------------------------------------------------

    async def wait_empty(self) -> None:
        """The worker stops: let the writes in flight finish and commit them, in bounded time; the rest comes again."""
        if self._stop_drained:
            return  # Faust asks twice on its way out
        self._stop_drained = True
        began, timeout = monotonic(), self.options.drain_timeout_seconds
        finishing = asyncio.create_task(self._finish(began + timeout * SHARE_OF_TIMEOUT_FOR_WRITES))
        finished = await self._drain(self.assigned, timeout, even_if_failing=True)
        left = (began + timeout - monotonic()) * SHARE_OF_TIMEOUT_FOR_WRITES
        committed = await self._commit_within(max(0.5, min(self._commit_seconds, left)))
        self.drained = await finishing and committed and finished

    async def _finish(self, deadline: float) -> bool:
        """Write what Kafka does not have any more, all of it, queued or not; say what there is no time for."""
        if not self._finishing:
            return True
        stopped = [former.stopped for former in self._finishing.values()]
        await asyncio.wait(stopped, timeout=max(0.0, deadline - monotonic()))
        for _, watermark, records in self._interrupted:
            if watermark.token in self._finishing:
                self._in_background(self._write(watermark, records))
        for fetched in [one for one in tuple(self.poller.handover) if one.token in self._finishing]:
            await self._deliver(fetched)
        left = [former for former in self._finishing.values() if former.watermark.pending]
        while left and monotonic() < deadline:
            await asyncio.sleep(DRAIN_POLL_SECONDS)
            left = [former for former in left if former.watermark.pending]
        for former in left:
            former.watermark.closing = former.watermark.retired = True
            await self.options.writes.abandon({former.tp: former.watermark.life})
            _report_lost_with_topic(former)
        return not left

    def _is_unfinished(self, former: _Former) -> bool:
        if former.watermark.pending or not former.stopped.done():
            return True
        return any(fetched.token == former.watermark.token for fetched in tuple(self.poller.handover))

    @property
    def _commit_seconds(self) -> float:
        conditions = self.options.stats.conditions
        kinds = (Kind.BROKERS_DOWN, Kind.COORDINATOR_AWAY, Kind.COMMITS_REFUSED)  # no topic's: the whole group's
        nobody = self._is_dead or any(conditions.get(kind) for kind in kinds)
        return COMMIT_WITHOUT_KAFKA_SECONDS if nobody else COMMIT_SECONDS

    async def _drain(self, partitions: set[TopicPartition], timeout_seconds: float, *, even_if_failing: bool) -> bool:
        """Take no more of these partitions in hand, wait for what is, give up the rest: Kafka delivers it again.

        What Kafka does not have any more (`_finishing`) goes on beside it.
        """
        watermarks = [self.watermarks[tp] for tp in partitions & self.watermarks.keys()]
        for watermark in watermarks:
            watermark.closing = True
        lives = {tp: self.watermarks[tp].life for tp in partitions & self.watermarks.keys()}
        writes, limit = self.options.writes, timeout_seconds * SHARE_OF_TIMEOUT_FOR_WRITES
        deadline = monotonic() + limit
        while (left := deadline - monotonic()) > 0:
            if not await writes.wait_idle(left, partitions=lives, even_if_failing=even_if_failing):
                break
            if not any(watermark.runs_in_hand for watermark in watermarks):
                return True
            await asyncio.sleep(DRAIN_POLL_SECONDS)  # what is in hand waits for a place among the writes in flight
        for watermark in watermarks:
            watermark.retired = True  # the commit still reads it: what was given up stays pending
        logger.warning(
            "%d writes did not finish within %.0f s and were given up; their events will be delivered again",
            await writes.abandon(lives),
            limit,
        )
        return False

    async def _commit_within(self, timeout_seconds: float) -> bool:
        """Commit what is durable; false when Kafka did not take it in time."""
        deadline = monotonic() + timeout_seconds
        while self.commits.due(points := self._points(self.watermarks)):
            left = deadline - monotonic()
            if left <= 0:
                logger.warning(
                    "Kafka did not take the last commit within %.1f s; its events come again", timeout_seconds
                )
                return False
            self._answered.clear()
            self.commits.send_due(points)
            try:
                await asyncio.wait_for(self._answered.wait(), min(left, 0.25))
            except TimeoutError:
                continue
        return True

    # --- what the pages ask -------------------------------------------------------------------------------------------

    @property
    def assigned(self) -> set[TopicPartition]:
        """All that the group has given to this worker, begun or not."""
        return set(self.assigned_epochs)

    @property
    def ends(self) -> Mapping[TopicPartition, tuple[int, float]]:
        """The end of each partition that is begun, and when the broker has said so (monotonic)."""
        return {} if self.watch is None else self.watch.ends

    @property
    def log_starts(self) -> Mapping[TopicPartition, int]:
        """The first offset of those in `want_log_starts`."""
        return {} if self.watch is None else self.watch.log_starts

    def want_log_starts(self, partitions: Iterable[TopicPartition]) -> None:
        """Keep the first offsets of these fresh, and of no others."""
        if self.watch is not None:
            self.watch.log_starts_wanted = set(partitions)

    @property
    def brokers_answered(self) -> float | None:
        """When a broker has answered last (monotonic)."""
        return None if self.watch is None else self.watch.brokers_answered

    @property
    def refused_since(self) -> float | None:
        """Since when brokers have only refused this worker's login or TLS (monotonic); `None`: they do not."""
        return None if self.watch is None else self.watch.refused_since

    @property
    def commit_due_since(self) -> float | None:
        """Since when durable offsets wait for a commit that Kafka accepts (monotonic)."""
        return self.commits.due_since

    @property
    def last_committed(self) -> float | None:
        """When Kafka has accepted a commit last (monotonic)."""
        return self.commits.last_accepted

    @property
    def buffered_events(self) -> int:
        """Events in memory, those in flight among them."""
        return self.room.events

    @property
    def buffered_bytes(self) -> int:
        """What they take in memory."""
        return self.room.bytes

    # --- what Faust asks a consumer ---------------------------------------------------------------------------------

    def assignment(self) -> set[TP]:
        """All that the group has given to this worker, and what it has left to finish: Faust stops with a drain."""
        return {TP(*tp) for tp in self.assigned_epochs} | {TP(*former.tp) for former in self._finishing.values()}

    async def perform_seek(self) -> None:
        """Nothing to seek: each partition is read from where it was begun."""

    async def position(self, tp: TP) -> int | None:
        """The next offset that will be taken."""
        found = self.watermarks.get(cast(TopicPartition, tp))
        return None if found is None else found.position

    def highwater(self, tp: TP) -> int:
        """The end of the partition as far as is known."""
        found = None if self.watch is None else self.watch.ends.get(cast(TopicPartition, tp))
        return 0 if found is None else found[0]

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """The same for several."""
        return {tp: self.highwater(tp) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Where Kafka's log begins."""
        if self.admin is None:
            return {}
        found = await self.admin.beginnings(TopicPartition(*tp) for tp in partitions)
        return {TP(*tp): offset for tp, offset in found.items() if isinstance(offset, int)}

    def topic_partitions(self, topic: str) -> int | None:
        """Not needed: nothing is produced."""
        return None

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's livelock detection only logs, from figures that are not kept here; `health` judges instead."""

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """Not needed: nothing is produced."""
        return partition

    # --- abstract in Faust, called by nothing that is left of it: each says where it is done instead ------------------

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Abstract in Faust; nothing calls it."""
        raise NotImplementedError("`commit` and the drains commit, through `Commits` and the poller")

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Abstract in Faust; nothing calls it."""
        raise NotImplementedError("`Beginnings` looks up where partitions begin, and `_begin` begins them there")

    async def _seek(self, partition: TP, offset: int) -> None:
        """Abstract in Faust; nothing calls it."""
        raise NotImplementedError("`Poller.ask_start` moves a position, together with its watermark")

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Abstract in Faust; nothing calls it."""
        raise NotImplementedError("`Poller.ask_start` moves a position, together with its watermark")

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:
        """Abstract in Faust; nothing calls it."""
        raise NotImplementedError("`take_in` carries events from the poller's handover to the agents")

    def _to_message(self, tp: TP, record: Any) -> Any:
        """Abstract in Faust; nothing calls it."""
        raise NotImplementedError("`runs.message_of` makes Faust's messages, of many records each")

    async def create_topic(self, topic: str, partitions: int, replication: int, **options: Any) -> None:
        """Abstract in Faust; nothing calls it."""
        raise NotImplementedError("topics are made by whoever owns them; `preflight` tells of one that is missing")


def _commit_point(watermark: PartitionWatermark, epoch: int) -> CommitPoint:
    ledger, topic_id = watermark.ledger, watermark.life.topic_id
    if ledger is None:
        return CommitPoint(watermark.committable, with_topic_id("", topic_id), epoch)
    if ledger.given_up is not None:
        _report_given_up(ledger)
    offset, notes = ledger.commit_point(watermark.committable)
    return CommitPoint(offset, with_topic_id(notes, topic_id), epoch)


def _report_lost_with_topic(former: _Former) -> None:
    """Name the events that nobody has any more."""
    ranges: list[list[int]] = []
    for offset in former.watermark.pending:
        if ranges and ranges[-1][1] == offset - 1:
            ranges[-1][1] = offset
        else:
            ranges.append([offset, offset])
    logger.error(
        "%d events of %s/%d are lost: they were read before the topic (id %s) was deleted, so Kafka does not have them "
        "any more, and they were not written within STREAMS_DRAIN_TIMEOUT_SECONDS. Their offsets: %s",
        len(former.watermark.pending),
        *former.tp,
        former.watermark.life.topic_id,
        ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges),
    )


def _report_given_up(ledger: OpenLedger) -> None:
    """Say that the ledger has a hole, once for each."""
    if ledger.given_up is not None:
        start, stop = ledger.given_up
        ledger.given_up = None
        logger.error(
            "%s/%d: the ledger could not be written for too long, so it holds nothing of the offsets %d to %d: verify "
            "them before Kafka forgets them. Events are not affected",
            ledger.topic,
            ledger.partition,
            start,
            stop - 1,
        )


def _auto_acknowledging(app: Any) -> list[str]:
    return sorted(
        name
        for name, agent in app.agents.items()
        if any(actor.stream.get_active_stream().enable_acks for actor in agent._actors)
    )


__all__ = ["KafkaException", "WatermarkConsumer"]
