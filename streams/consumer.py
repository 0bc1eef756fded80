"""Faust's Kafka consumer, with the bookkeeping that loses nothing above concurrency 1.

Between Kafka and the agents: fetched records become events in the agents' queue, bounded in number and bytes;
acknowledged events move a low watermark for each partition; commits carry that watermark. `docs/delivery-guarantee.md`
lists what stock Faust does at each of these points. Only private methods that `tests/unit/test_faust_contract.py`
knows are overridden, and the versions of Faust, mode and aiokafka are pinned.

The rule that every method here keeps: *a record that aiokafka has handed out is either counted in the watermark's
table before anything later of its partition is, or its partition is sought back before more is taken.*
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, ClassVar, cast

import aiokafka
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    InvalidCommitOffsetSizeError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetMetadataTooLargeError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import OffsetAndMetadata
from faust.transport.conductor import Conductor as FaustConductor
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Transport, server_list
from faust.transport.drivers.aiokafka import Consumer as AIOKafkaConsumer
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode import Service

from streams.errors import ConfigurationError
from streams.header_names import accept_any_header_name
from streams.ledger import OpenLedger
from streams.ledger_writer import LedgerWriter
from streams.record import Record, timestamp_or_none
from streams.watermark import PartitionWatermark

logger = logging.getLogger(__name__)

RUN_EVENTS = 16
"""Records that travel as one Faust event: queue, stream and actor cost a sixteenth of what they would for each."""
RECORD_OVERHEAD_BYTES = 1_000
"""What an event costs in memory besides its key, value and headers (measured: Record, Message, Event, table entry)."""
MIN_FETCH_BYTES = 64 * 1024
NEVER_POLL_MS = 2**31 - 1
"""aiokafka leaves the group for good when nothing was polled for this long; an outage of S3 must not do that."""
COMMIT_TIMEOUT_SECONDS = 5.0
AGENT_START_TIMEOUT_SECONDS = 2.0
GROUP_CHECK_SECONDS = 1.0
MAX_COMMIT_BYTES = 500_000
"""Half of what Kafka lets a batch have (`max.message.bytes`, 1 MB)."""
COMMIT_OVERHEAD_BYTES = 200
"""What a partition's offset takes in Kafka's log besides topic and metadata (the group's name among it), generously."""
SHARE_OF_TIMEOUT_FOR_WRITES = 0.7
"""What a drain gives to the writes in flight; the rest is for the commit and for leaving the group."""


Commit = dict[Any, OffsetAndMetadata]
"""What to commit, by aiokafka's `TopicPartition`."""


@dataclass(slots=True)
class ConsumerOptions:
    """What the consumer needs from the settings; durations in seconds."""

    aiokafka: dict[str, Any]
    """Connection and security options for `AIOKafkaConsumer`."""
    max_buffered_events: int
    max_buffered_bytes: int
    fetch_max_bytes: int
    drain_timeout_seconds: float
    rebalance_drain_timeout_seconds: float
    drain: Callable[[float], Awaitable[bool]]
    """Waits until no write is in flight; false when the time was up."""
    abandon: Callable[[], Awaitable[int]]
    """Cancels the writes in flight; how many there were."""
    lost_to_retention: Callable[[str, int], None]
    ledger: LedgerWriter | None
    """Writes the ledger's segments; `None` where no ledger is kept."""
    fatal: Callable[[ConfigurationError], None]
    """Ends the process with a message."""


@dataclass(slots=True)
class Batch:
    """Records as aiokafka handed them out, and the position of each partition behind them."""

    records: Mapping[Any, list[Any]]
    positions: dict[Any, int]
    lost: dict[Any, int] = field(default_factory=dict)
    """Where partitions go on that retention has overtaken."""


@dataclass(slots=True)
class Sought:
    """Where a partition stood when its generation began: the last commit (`None`: none), and where it goes on."""

    committed: int | None
    metadata: str
    position: int


@dataclass(slots=True)
class Run:
    """Consecutive records of a partition, as the value of one Faust event; each is acknowledged by itself."""

    records: list[Record]
    watermark: PartitionWatermark
    consumer: WatermarkConsumer

    def acknowledge(self, record: Record) -> None:
        """Call when the record is durable, and not before."""
        self.consumer.acknowledge(self.watermark, record.offset)


class WatermarkConsumerThread(AIOKafkaConsumerThread):
    """The thread that talks to Kafka: fetches into `handover`, seeks, commits.

    Fetching and seeking are both atomic on this thread's loop: a batch is in `handover` before anything else can run,
    and a seek empties `handover` in the same step, so what is in there always follows on from the last seek.
    """

    consumer: WatermarkConsumer
    mundane_level = "debug"

    def __init__(self, consumer: WatermarkConsumer, **kwargs: Any) -> None:
        self.handover: deque[Batch] = deque()
        self._metadata_refused = False
        super().__init__(consumer, **kwargs)

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        self._assignor = RoundRobinPartitionAssignor
        options: dict[str, Any] = {
            "client_id": conf.broker_client_id,
            "group_id": conf.id,
            "group_instance_id": conf.consumer_group_instance_id,
            "bootstrap_servers": server_list(transport.url, transport.default_port),
            "partition_assignment_strategy": [RoundRobinPartitionAssignor],
            "enable_auto_commit": False,
            "auto_offset_reset": "none",  # every partition is sought; one that left its range is our business
            "isolation_level": "read_committed",
            "max_poll_records": conf.broker_max_poll_records,
            "max_poll_interval_ms": NEVER_POLL_MS,
            "max_partition_fetch_bytes": self.consumer.options.fetch_max_bytes,
            "request_timeout_ms": int(conf.broker_request_timeout * 1000),
            "session_timeout_ms": int(conf.broker_session_timeout * 1000),
            "rebalance_timeout_ms": int(conf.broker_rebalance_timeout * 1000),
            "heartbeat_interval_ms": int(conf.broker_heartbeat_interval * 1000),
            "metadata_max_age_ms": conf.consumer_metadata_max_age_ms,
        }
        accept_any_header_name()
        return aiokafka.AIOKafkaConsumer(**options | self.consumer.options.aiokafka)

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> dict[Any, list[Any]]:
        """Fetch once and leave the batch in `handover`: a cancelled caller must not lose it."""
        assignment = _assignment(consumer)
        try:
            records = await super()._fetch_records(
                consumer, active_partitions, timeout=timeout, max_records=max_records
            )
        except OffsetOutOfRangeError as error:
            await self._return_to_range(consumer, assignment, error)
            return {}
        except NoOffsetForPartitionError:
            return {}  # a new assignment: its partitions are sought before flow is on again
        assignment = _assignment(consumer)
        if assignment is not None:
            positions = {tp: assignment.state_value(tp)._position for tp in assignment.tps}
            known = {tp: position for tp, position in positions.items() if position is not None}
            self.handover.append(Batch(records, known))
        return {}

    async def _return_to_range(
        self, consumer: aiokafka.AIOKafkaConsumer, assignment: Any, error: OffsetOutOfRangeError
    ) -> None:
        """Retention has overtaken the position: say what is gone, go on with what is left.

        Raises:
            OffsetOutOfRangeError: the position lies behind the end, so the topic was truncated or made anew; a restart
                begins from what is there.
        """
        offsets: dict[Any, int] = error.args[0]
        beginnings = await consumer.beginning_offsets(list(offsets))
        if _assignment(consumer) is not assignment:
            return
        lost: dict[Any, int] = {}
        for tp, offset in offsets.items():
            if offset > beginnings[tp]:
                raise error
            self.consumer.report_lost_to_retention(tp, offset, beginnings[tp])
            consumer.seek(tp, beginnings[tp])
            lost[tp] = beginnings[tp]
        self.handover.append(Batch({}, {}, lost))

    async def check_group(self) -> None:
        """Raise what the group's coordinator has against this member (aiokafka keeps it until it is asked)."""

        async def check(consumer: aiokafka.AIOKafkaConsumer) -> None:
            consumer._coordinator.check_errors()

        await self.call_thread(check, self._ensure_consumer())

    async def seek_assigned(self) -> dict[TP, Sought]:
        """Put every assigned partition to its committed offset, or to its beginning where there is none."""
        sought: dict[TP, Sought] = await self.call_thread(self._seek_assigned, self._ensure_consumer())
        return sought

    async def _seek_assigned(self, consumer: aiokafka.AIOKafkaConsumer) -> dict[TP, Sought]:
        partitions = list(consumer.assignment())
        commits: Mapping[Any, OffsetAndMetadata] = await consumer._coordinator.fetch_committed_offsets(partitions)
        beginnings = await consumer.beginning_offsets(partitions) if partitions else {}
        ends = await consumer.end_offsets(partitions) if partitions else {}
        sought = {}
        for tp in partitions:  # no await from here on: nothing else can run
            commit, beginning = commits.get(tp), beginnings[tp]
            offset = None if commit is None else commit.offset
            if offset is not None and offset < beginning:
                self.consumer.report_lost_to_retention(tp, offset, beginning)
            elif offset is not None and offset > ends[tp]:
                self.consumer.report_truncated(tp, offset, ends[tp])
                offset = None
            position = beginning if offset is None else max(offset, beginning)
            consumer.seek(tp, position)
            sought[TP(tp.topic, tp.partition)] = Sought(offset, (commit and commit.metadata) or "", position)
        self.handover.clear()
        return sought

    async def seek_back(self, offsets: Mapping[TP, int]) -> None:
        """Take partitions back to records that were handed out but not delivered."""

        async def seek(consumer: aiokafka.AIOKafkaConsumer) -> None:
            for tp, offset in offsets.items():
                consumer.seek(aiokafka.TopicPartition(tp.topic, tp.partition), offset)

        await self.call_thread(seek, self._ensure_consumer())

    async def topic_names(self) -> set[str]:
        """The topics that this user may see."""
        names: set[str] = await self.call_thread(self._ensure_consumer().topics)
        return names

    def limit_fetch_bytes(self, per_partition_bytes: int) -> None:
        """Set the size of the next fetches (bytes per partition; Kafka sends at least one batch, KIP-74)."""
        self._ensure_consumer()._fetcher._max_partition_fetch_bytes = per_partition_bytes

    async def _commit(self, points: Mapping[TP, OffsetAndMetadata]) -> bool:
        """Commit; a refusal is logged and tried again with the next commit, it never ends the worker."""
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        payload = {
            aiokafka.TopicPartition(tp.topic, tp.partition): point for tp, point in points.items() if tp in assigned
        }
        try:
            for request in commit_requests(payload):
                await self._send_commit(consumer, request)
        except (KafkaError, IllegalStateError) as error:
            logger.warning("commit refused (%s); the offsets go with the next one, or the events come again", error)
            return False
        return True

    async def _send_commit(self, consumer: aiokafka.AIOKafkaConsumer, request: Commit) -> None:
        try:
            await consumer.commit(request)
        except (OffsetMetadataTooLargeError, InvalidCommitOffsetSizeError):
            self._note_refused_metadata()
            await consumer.commit({tp: OffsetAndMetadata(point.offset, "") for tp, point in request.items()})

    def _note_refused_metadata(self) -> None:
        """Say once what it means that the broker takes less metadata than Kafka's default."""
        if not self._metadata_refused:
            self._metadata_refused = True
            logger.warning(
                "the broker refuses the ledger's notes in a commit (offset.metadata.max.bytes is below 4096, or "
                "max.message.bytes of __consumer_offsets below 1 MB), so such commits go without: where this worker "
                "stops, the ledger has a hole of up to 10,000 events. Raise it, or set STREAMS_LEDGER_ENABLED=false"
            )


def commit_requests(points: Commit) -> Iterator[Commit]:
    """A commit in parts, each of which Kafka can keep: all partitions of a request become one batch of its log."""
    part: Commit = {}
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


def _assignment(consumer: aiokafka.AIOKafkaConsumer) -> Any:
    subscription = consumer._subscription.subscription
    return subscription and subscription.assignment


class WatermarkConsumer(AIOKafkaConsumer):
    """Consumer whose committed offsets never pass an event that is not durable."""

    _thread: WatermarkConsumerThread
    mundane_level = "debug"
    consumer_stopped_errors: ClassVar[tuple[type[BaseException], ...]] = (ConsumerStoppedError,)

    def __init__(self, transport: WatermarkTransport, *args: Any, **kwargs: Any) -> None:
        self.options = transport.options
        self.watermarks: dict[TP, PartitionWatermark] = {}
        self.buffered_bytes = 0
        self.buffered_events = 0
        self.held: set[TP] = set()
        self.paused: set[str] = set()
        """Topics that nothing is taken from at the moment; a rebalance changes nothing about it."""
        self.drained = True
        """Whether the last drain wrote and committed everything that was in flight."""
        self.rebalancing_since: float | None = None
        self.last_acknowledged = monotonic()
        self._room = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        self._stop_drained = False
        self._flow = 0
        super().__init__(transport, *args, **kwargs)

    def _new_consumer_thread(self) -> WatermarkConsumerThread:
        return WatermarkConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def topic_names(self) -> set[str]:
        """The topics that this user may see now."""
        return await self._thread.topic_names()

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group, unless an agent acknowledges by itself: the watermark would never see those events."""
        await self._refuse_auto_ack()
        await super().subscribe(topics)

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

    @Service.task
    async def _watch_group(self) -> None:
        """Say why a member cannot join its group, which would otherwise wait in silence."""
        while not self.should_stop:
            await self.sleep(GROUP_CHECK_SECONDS)
            try:
                await self._thread.check_group()
            except GroupAuthorizationFailedError:
                self.options.fatal(
                    ConfigurationError(
                        f"this user may not use the consumer group {self.app.conf.id} (STREAMS_CONSUMER_GROUP). "
                        "Add an ACL that allows READ on the group."
                    )
                )
            except KafkaError as error:
                logger.warning("the consumer group has a problem: %s: %s", type(error).__name__, error)

    # --- taking events in -------------------------------------------------------------------------------------

    async def _drain_messages(self, fetcher: Any) -> None:
        """Move fetched records into the agents' queue for as long as flow is on (called by Faust's Fetcher)."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                if self.flow_active:
                    await self._take_batch()
                else:
                    await self.wait(self.can_resume_flow.wait())
        except TopicAuthorizationFailedError as error:
            self.options.fatal(
                ConfigurationError(
                    f"this user may not read the topic {error.args[0]} (STREAMS_TOPICS). "
                    "Add an ACL that allows READ on it."
                )
            )
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not (self.app.should_stop and fetcher.should_stop):
                raise  # Faust's Fetcher would take it for a crash where a SIGTERM comes just behind a rebalance

    async def _take_batch(self) -> None:
        flow = self._flow
        active = {tp for tp in self._get_active_partitions() if tp not in self.held and tp.topic not in self.paused}
        if not active:
            await self.sleep(0.1)
            return
        if not self._thread.handover:
            await self._thread.getmany(active, timeout=1.0)
        while self._thread.handover and flow == self._flow:
            await self._deliver(self._thread.handover.popleft(), flow)

    async def _deliver(self, batch: Batch, flow: int) -> None:
        """Put a batch into the agents' queue; stops when flow stops (a seek follows before it is on again).

        No record that was taken waits in `run` across an await: when flow is off, its queue may be gone.
        """
        for tp, position in batch.lost.items():
            overtaken = self.watermarks.get(TP(tp.topic, tp.partition))
            if overtaken is not None and tp not in self.held:
                overtaken.lost(position)
        for tp, fetched in batch.records.items():
            partition = TP(tp.topic, tp.partition)
            watermark = self.watermarks.get(partition)
            if watermark is None:
                continue  # a spare worker's first partition, fetched before it was told: the seek is still to come
            run: list[Record] = []
            for entry in fetched:
                if self._is_full:
                    self._put(run, partition, watermark)
                    run = []
                    await self._wait_for_room(flow)
                if flow != self._flow:
                    return
                if partition in self.held:
                    self._put(run, partition, watermark)
                    run = []
                    await self._thread.seek_back({partition: entry.offset})
                    break
                run.append(self._take(entry, watermark))
                if len(run) == RUN_EVENTS:
                    self._put(run, partition, watermark)
                    run = []
                    await asyncio.sleep(0)
            self._put(run, partition, watermark)
        self._advance(batch.positions, flow)

    def _take(self, fetched: Any, watermark: PartitionWatermark) -> Record:
        """Count an event in the partition's table; from here on it is pending."""
        key, value, headers, timestamp = fetched.key, fetched.value, fetched.headers, fetched.timestamp
        size_bytes = RECORD_OVERHEAD_BYTES + (len(key) if key else 0) + (len(value) if value else 0)
        if headers:
            size_bytes += sum(len(name) + (len(content) if content else 0) for name, content in headers)
        watermark.delivered(fetched.offset, size_bytes)
        self.buffered_bytes += size_bytes
        self.buffered_events += 1
        return Record(
            fetched.topic,
            fetched.partition,
            fetched.offset,
            timestamp_or_none(timestamp),
            fetched.timestamp_type,
            key,
            value,
            headers,
        )

    def _put(self, records: list[Record], partition: TP, watermark: PartitionWatermark) -> None:
        """Hand a run to the agent that reads the partition: one Faust event for all its records."""
        if not records:
            return
        first = records[0]
        message = ConsumerMessage(
            topic=partition.topic,
            partition=partition.partition,
            offset=first.offset,
            timestamp=(first.timestamp_ms or 0) / 1000,
            timestamp_type=first.timestamp_type or 0,
            headers=None,
            key=None,
            value=None,
            checksum=None,
            tp=partition,
            generation_id=watermark.generation,
        )
        message.refcount = 1
        message.tracked = True  # the watermark tracks its records; Faust's own set of weak references is not needed
        if first.timestamp_ms is not None:
            watermark.note_timestamp(first.offset, first.timestamp_ms)
        (channel,) = cast(Conductor, self.app.topics)._tp_index[partition]
        channel.queue.put_nowait(self.app.create_event(None, Run(records, watermark, self), None, message))

    def _advance(self, positions: Mapping[Any, int], flow: int) -> None:
        """Take over positions that moved past control records; everything before them has been delivered."""
        if flow != self._flow:
            return
        for tp, position in positions.items():
            watermark = self.watermarks.get(TP(tp.topic, tp.partition))
            if watermark is not None and tp not in self.held:
                watermark.advance(position)

    @property
    def _is_full(self) -> bool:
        options = self.options
        return self.buffered_events >= options.max_buffered_events or self.buffered_bytes >= options.max_buffered_bytes

    async def _wait_for_room(self, flow: int) -> None:
        while self._is_full and flow == self._flow and not self.should_stop:
            self._room.clear()
            await self._room.wait()

    def stop_flow(self) -> None:
        """Stop taking events in; whatever was fetched and not delivered yet is fetched again after the next seek."""
        super().stop_flow()
        self._flow += 1
        self._room.set()

    def hold(self, partition: TP) -> None:
        """Stop taking events from a partition until the worker restarts or the partition moves."""
        self.held.add(partition)

    def pause(self, topic: str) -> None:
        """Take no further events from a topic until `resume`; those that were taken are finished.

        Its partitions are left out of the fetches. aiokafka then hands out nothing of them, keeps what it has fetched
        ahead, and leaves their positions where they are, so there is nothing to seek back: events are dropped only
        where they are taken out of aiokafka first and thrown away then, as Faust's `pause_partitions` does.
        """
        self.paused.add(topic)

    def resume(self, topic: str) -> None:
        """Go on with the next event of the topic that was not taken."""
        self.paused.discard(topic)
        self.last_acknowledged = monotonic()  # the pause was no stall

    # --- acknowledging and committing -------------------------------------------------------------------------

    def ack(self, message: Any) -> bool:
        """Faust's acknowledgement of a whole message: does nothing, for a run is acknowledged record by record."""
        return False

    def acknowledge(self, watermark: PartitionWatermark, offset: int) -> None:
        """Count an event as durable; one of an older generation changes nothing."""
        size_bytes = watermark.durable(offset)
        if size_bytes is None or watermark.retired:
            return
        self.buffered_bytes -= size_bytes
        self.buffered_events -= 1
        self.last_acknowledged = monotonic()
        if not self._room.is_set():
            self._room.set()

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self.watermarks) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        point = self._commit_point(tp)
        return None if point is None else point.offset

    def _commit_point(self, tp: TP) -> OffsetAndMetadata | None:
        """What a commit may carry now: the low watermark, with what is not in the ledger's objects yet."""
        watermark = self.watermarks.get(tp)
        if watermark is None or watermark.generation != self.app.consumer_generation_id:
            return None
        committable, ledger = watermark.committable, watermark.ledger
        if committable is None:
            return None
        if ledger is None:
            return OffsetAndMetadata(committable, "")
        if ledger.given_up is not None:
            _report_given_up(ledger)
        return OffsetAndMetadata(*ledger.commit_point(committable))

    def _goes_back(self, tp: TP, offset: int) -> bool:
        committed = self._committed_offset[tp]
        return committed is not None and offset < committed

    def _should_commit(self, tp: TP, offset: int) -> bool:
        committed = self._committed_offset[tp]
        return committed is None or offset > committed

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps in the offsets need no bookkeeping: see `PartitionWatermark`."""

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """Commit what is durable of these partitions by now, and remember only what Kafka has accepted."""
        async with self._commit_lock:
            assigned = self.assignment()
            found = {tp: self._commit_point(tp) for tp in offsets if tp in assigned}
            points = {tp: point for tp, point in found.items() if point and not self._goes_back(tp, point.offset)}
            watermarks = {tp: self.watermarks[tp] for tp in points}
            if not points or not await self._thread.commit(points):
                return False
            for tp, point in points.items():
                if self.watermarks.get(tp) is watermarks[tp]:
                    self._note_commit(tp, point.offset)
            self.app.monitor.on_tp_commit({tp: point.offset for tp, point in points.items()})
            return True

    def _note_commit(self, tp: TP, offset: int) -> None:
        self._committed_offset[tp] = offset
        ledger, writer = self.watermarks[tp].ledger, self.options.ledger
        if ledger is not None and writer is not None:
            writer.offer(ledger, offset)

    def committed_offset(self, tp: TP) -> int | None:
        """The offset of the last commit that Kafka accepted (or answered at the start)."""
        return self._committed_offset[tp]

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's livelock detection only logs, from figures that are not kept here; `health` judges instead."""

    # --- moving and stopping ----------------------------------------------------------------------------------

    async def perform_seek(self) -> None:
        """Begin a generation: every assigned partition at its committed offset, with an empty table."""
        generation = self.app.consumer_generation_id
        sought = await self._thread.seek_assigned()
        self._forget(list(self.watermarks))
        for tp, found in sought.items():
            self.watermarks[tp] = PartitionWatermark(generation, found.position, self._resume_ledger(tp, found))
            self._committed_offset[tp] = found.committed
        if sought:
            share = self.options.max_buffered_bytes // len(sought)
            self._thread.limit_fetch_bytes(max(MIN_FETCH_BYTES, min(self.options.fetch_max_bytes, share)))
        self.rebalancing_since = None

    def _resume_ledger(self, tp: TP, found: Sought) -> OpenLedger | None:
        if self.options.ledger is None:
            return None
        ledger = OpenLedger.resume(tp.topic, tp.partition, found.committed, found.metadata, found.position)
        if found.committed is not None:
            # Whoever was here before may have left a commit that holds as much as it can: the next one waits for this.
            self.options.ledger.offer(ledger, found.committed)
        return ledger

    def report_lost_to_retention(self, tp: Any, committed: int, beginning: int) -> None:
        """Say that Kafka has dropped events that this group had not written (called from the consumer's thread)."""
        count = beginning - committed
        logger.error(
            "%s/%s: up to %d events (offsets %d to %d) left Kafka's retention before they were written. "
            "Raise the topic's retention.ms or retention.bytes, and let the worker keep up",
            tp.topic,
            tp.partition,
            count,
            committed,
            beginning - 1,
        )
        self.options.lost_to_retention(tp.topic, count)

    def report_truncated(self, tp: Any, committed: int, end: int) -> None:
        """Say that a partition ends before what was committed (called from the consumer's thread)."""
        logger.error(
            "%s/%s: the committed offset %d lies behind the end %d, so the topic was made anew or lost its end. "
            "Starting from its beginning: objects of the old offsets are overwritten unless STREAMS_S3_PREFIX changes, "
            "and so is their ledger unless STREAMS_LEDGER_PREFIX does",
            tp.topic,
            tp.partition,
            committed,
            end,
        )

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit what is in flight (Faust calls `wait_empty`), then forget the partitions."""
        self.rebalancing_since = monotonic()
        try:
            await super().on_partitions_revoked(revoked)
        finally:
            self._forget(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """A rebalance ends with `perform_seek`; Faust leaves that out where nothing was assigned (a spare worker).

        Such a worker has nothing to be revoked, so Faust leaves flow on when it is given its first partitions: what is
        fetched between their seek and their table would be taken without either.
        """
        if assigned:
            self.stop_flow()
        await super().on_partitions_assigned(assigned, generation_id)
        if not assigned:
            self.rebalancing_since = None

    def _forget(self, partitions: Iterable[TP]) -> None:
        for tp in partitions:
            watermark = self.watermarks.pop(tp, None)
            self._committed_offset.pop(tp, None)
            self.held.discard(tp)
            if watermark is not None:
                watermark.retired = True
                if watermark.ledger is not None and self.options.ledger is not None:
                    self.options.ledger.forget(watermark.ledger)
                self.buffered_bytes -= watermark.pending_bytes
                self.buffered_events -= len(watermark.pending)
        self._room.set()

    async def wait_empty(self) -> None:
        """Let the writes in flight finish and commit them, in bounded time; the rest will be delivered again."""
        options = self.options
        stopping = bool(self.app.should_stop)
        if stopping and self._stop_drained:
            return  # Faust asks twice on its way out
        self._stop_drained = stopping
        timeout = options.drain_timeout_seconds if stopping else options.rebalance_drain_timeout_seconds
        deadline = monotonic() + timeout
        finished = await options.drain(timeout * SHARE_OF_TIMEOUT_FOR_WRITES)
        if not finished:
            logger.warning(
                "%d writes did not finish within %.0f s and were given up; their events will be delivered again",
                await options.abandon(),
                timeout * SHARE_OF_TIMEOUT_FOR_WRITES,
            )
        left = (deadline - monotonic()) * SHARE_OF_TIMEOUT_FOR_WRITES
        committed = await self._commit_within(min(COMMIT_TIMEOUT_SECONDS, max(0.5, left)))
        self.drained = finished and committed

    async def _commit_within(self, timeout_seconds: float) -> bool:
        """Commit what is durable; false when Kafka did not take it in time."""
        due = dict(self._filter_committable_offsets(self._filter_tps_with_pending_acks()))
        if not due:
            return True
        try:
            return await asyncio.wait_for(self._commit_offsets(due), timeout_seconds)
        except TimeoutError:
            logger.warning("Kafka did not take the last commit within %.1f s; its events come again", timeout_seconds)
            return False


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


class Conductor(FaustConductor):
    """Faust's map from topics to agents, which here can take in topics that were made while it ran."""

    _resubscribe_sleep_lock_seconds = 1.0

    def subscribe_again(self) -> None:
        """Subscribe to the topics that the channels name now (a rebalance)."""
        self._flag_changes()


class WatermarkTransport(Transport):
    """Makes Faust use `WatermarkConsumer`; set it as `app.transport` before the agents are declared."""

    Consumer: ClassVar[type[WatermarkConsumer]] = WatermarkConsumer
    Conductor: ClassVar[type[Conductor]] = Conductor

    def __init__(self, url: Any, app: Any, options: ConsumerOptions) -> None:
        self.options = options
        super().__init__(url, app)
