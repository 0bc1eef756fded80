"""The wiring: settings → sink → delivery → Faust app with its transport, agent, pages and timers. No logic of its own.

Not named `app.py`: Faust's `-A streams` looks for the attribute `app` of the package and would find the module.
"""

from __future__ import annotations

import logging
import re
import socket
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, cast

import faust
import mode.loop
from confluent_kafka import KafkaException
from faust.app.base import BootStrategy
from faust.types import TP
from mode.utils.objects import cached_property
from mode.utils.queues import FlowControlEvent

from streams import __version__
from streams.administration import Administration
from streams.consumer import ConsumerOptions, KeptFlow, Run, RunSchema, WatermarkConsumer, WatermarkTransport
from streams.consumer.configuration import consumer_configuration
from streams.consumer.lives import IdentityStore, TopicLives
from streams.consumer.monitor import CountingMonitor
from streams.costs import CostMeter, Prices
from streams.dashboard.history import History
from streams.delivery import Delivery
from streams.errors import ConfigurationError
from streams.kafka.admin import KafkaAdmin
from streams.kafka.explanations import explain
from streams.kafka.retention import Retention, topic_retentions
from streams.ledger_writer import LedgerWriter
from streams.logs import logging_config
from streams.metrics import Metrics
from streams.preflight import check_kafka, check_web_port, matching_topics
from streams.retention_watch import RetentionWatch
from streams.settings import Settings, load_settings
from streams.sinks import LedgerSink, Sink, make_sink, usage_of
from streams.stats import Stats
from streams.status import Identity, Status
from streams.web import add_pages
from streams.worker import StreamsWorker, leave_out_banner, refuse

logger = logging.getLogger(__name__)

AGENT_CONCURRENCY = 16
"""Actors of the agent. Each begins many writes, so this is not the number of writes in flight; 16 actors share the cost
of an event loop pass between as many events (docs/performance.md)."""
REBALANCE_DRAIN_SECONDS = 20.0
"""The most that a rebalance waits for the writes of partitions that move; nothing else waits for it."""
REQUEST_TIMEOUT_SECONDS = 60.0
MAX_POLL_RECORDS = 1000
TOPIC_REFRESH_SECONDS = 60.0
TICK_SECONDS = 1.0
RETENTION_SECONDS = 5.0
"""How often it is looked whether a topic's retention is still to be asked for."""


class ConsumerOnly(BootStrategy):
    """Streams only reads from Kafka: no producer is started, so none needs an ACL."""

    enable_kafka_producer = False


class StreamsApp(faust.App):
    """The Faust app, together with the parts that it is made of."""

    BootStrategy = ConsumerOnly
    mundane_level = "debug"
    logger = logging.getLogger("faust.app")
    """Of Faust's own lines about the app ("[^-StreamsApp]: Flush producer buffer..."): as quiet as the rest of them."""

    event_topic: Any
    """The topics that the agent reads, as one Faust channel (`_add_agent` makes it)."""

    def __init__(self, settings: Settings, sink: Sink, **options: Any) -> None:
        self.settings = settings
        self.stats = Stats()
        self.admin = KafkaAdmin(settings)
        self.delivery = Delivery(
            sink,
            self.stats,
            max_in_flight=settings.max_in_flight,
            retry_base_seconds=settings.retry_base_seconds,
            retry_max_seconds=settings.retry_max_seconds,
            dead_letters=settings.on_reject == "dead-letter",
            hold_partition=lambda record: self.watermark_consumer.hold(record),
        )
        self.ledger = _ledger_writer(settings, sink, self.stats)
        costs = CostMeter(Prices.of(settings), partial(usage_of, sink, self.stats))
        self.status = Status(
            self.stats,
            self.delivery,
            _retention_watch(settings, self.admin),
            costs,
            _identity(settings),
            self._administration(),
        )
        self.history = History(self.status)
        super().__init__(settings.consumer_group, **options)
        if not settings.web_enabled:
            self.boot_strategy.enable_web = (
                False  # `faust worker` overwrites the setting: its --with-web is on by default
            )

    @cached_property
    def flow_control(self) -> FlowControlEvent:
        """Holds events back from the agents' queue until partitions are assigned."""
        return KeptFlow(loop=self.loop)

    def _administration(self) -> Administration | None:
        if self.settings.admin_token is None:
            return None
        return Administration(
            self.settings, self.delivery, lambda: self.attached_consumer, lambda: self.event_topic.topics
        )

    async def preflight(self) -> None:
        """Check what consuming needs, learn the topics that a pattern means, open the sink.

        Raises:
            ConfigurationError: the worker cannot work as configured.
        """
        if self.settings.web_enabled:
            check_web_port(self.settings)
        self.event_topic.topics = await check_kafka(self.settings, self.admin)
        await self.delivery.sink.start()

    @property
    def drained(self) -> bool:
        """Whether everything that was in flight at the last stop or rebalance was written and committed."""
        return self.attached_consumer is None or self.attached_consumer.drained

    @property
    def attached_consumer(self) -> WatermarkConsumer | None:
        """The consumer once the worker has started."""
        return cast("WatermarkConsumer | None", self.status.consumer)

    @property
    def watermark_consumer(self) -> WatermarkConsumer:
        """Faust's consumer, as what it is here."""
        return cast(WatermarkConsumer, self.consumer)

    def begin_drain(self) -> None:
        """From here on `drained` is false until the drain has said otherwise."""
        if self.attached_consumer is not None:
            self.attached_consumer.drained = False

    async def archive_run(self, run: Run) -> None:
        """Begin the write of each event of a run."""
        if not run.begin():
            return  # the partition is being given away: its new owner writes this
        try:
            for record in run.records:
                await self.delivery.start(record, run.acknowledge, run.is_wanted)
        finally:
            run.finish()

    async def on_start(self) -> None:
        """Show the consumer to the pages before any event can arrive."""
        settings = self.settings
        logger.info(
            "streams %s: topics %s as group %s to %s with at most %d writes in flight",
            __version__,
            ", ".join(self.event_topic.topics),
            settings.consumer_group,
            _destination(settings),
            settings.max_in_flight,
        )
        self.status.attach(self.watermark_consumer)
        await super().on_start()

    async def on_shutdown(self) -> None:
        """Close the sink once nothing writes any more."""
        await super().on_shutdown()
        await self.delivery.abandon()
        if self.ledger is not None:
            await self.ledger.close()
        await self.delivery.sink.close()


def create_app(settings: Settings | None = None, sink: Sink | None = None) -> StreamsApp:
    """Build the app from the environment (or from what is given).

    Raises:
        ConfigurationError: the settings are wrong; the message lists every mistake.
    """
    settings = settings or load_settings()
    if settings.uvloop:
        mode.loop.use("uvloop")
    if settings.log_format == "json":
        leave_out_banner()
    app = StreamsApp(settings, sink or make_sink(settings), **_faust_options(settings))
    app.finalize()  # with F_STRICT Faust lets nobody read `conf` before
    app.transport = WatermarkTransport(app.conf.broker_consumer, app, _consumer_options(app))
    _add_agent(app)
    _add_tasks(app)
    add_pages(app, app.status, Metrics(app.status), app.history)
    return app


def _destination(settings: Settings) -> str:
    if settings.sink == "sqs":
        return f"queue {settings.sqs_queue_url}, {settings.sqs_batch_events} messages to a request,"
    return f"bucket {settings.s3_bucket}, prefix {settings.s3_prefix!r}, {settings.s3_client}"


def _identity(settings: Settings) -> Identity:
    return {
        "host": socket.gethostname(),
        "client_id": settings.kafka_client_id,
        "group": settings.consumer_group,
        "group_instance_id": settings.kafka_group_instance_id,
        "destination": f"queue {settings.sqs_queue_url}" if settings.sink == "sqs" else f"bucket {settings.s3_bucket}",
        "version": __version__,
    }


def _faust_options(settings: Settings) -> dict[str, Any]:
    """Faust's settings, all of them ours: `env={}` keeps variables such as Kubernetes' `WEB_PORT=tcp://…` out."""
    return {
        "env": {},
        "autodiscover": False,
        "broker": [f"kafka://{server.strip()}" for server in settings.kafka_bootstrap_servers.split(",")],
        "broker_client_id": settings.kafka_client_id,
        "broker_commit_interval": settings.commit_interval_seconds,
        "broker_commit_livelock_soft_timeout": 86_400.0,
        "broker_heartbeat_interval": settings.kafka_session_timeout_seconds / 15,
        "broker_max_poll_records": MAX_POLL_RECORDS,
        "broker_request_timeout": max(REQUEST_TIMEOUT_SECONDS, settings.kafka_session_timeout_seconds),
        "broker_session_timeout": settings.kafka_session_timeout_seconds,
        "consumer_group_instance_id": settings.kafka_group_instance_id,
        "consumer_auto_offset_reset": "earliest",
        "datadir": settings.data_dir or Path(tempfile.gettempdir()) / "streams",
        "logging_config": logging_config(settings.log_format, settings.log_level),
        "store": "memory://",
        "stream_buffer_maxsize": _max_buffered_events(settings) + AGENT_CONCURRENCY,
        "stream_processing_timeout": 86_400.0,
        "stream_wait_empty": True,
        "table_standby_replicas": 0,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "version": 1,
        "web_bind": settings.web_bind,
        "web_enabled": settings.web_enabled,
        "web_host": settings.web_bind,
        "web_port": settings.web_port,
        "web_router_enabled": False,
        "web_tables_enabled": False,
        "worker_redirect_stdouts": False,
        "Monitor": CountingMonitor,
        "Worker": StreamsWorker,
    }


def _max_buffered_events(settings: Settings) -> int:
    """Events in memory, those in flight among them: enough to keep all places busy until the next fetch is there."""
    return 2 * settings.max_in_flight + MAX_POLL_RECORDS


def _consumer_options(app: StreamsApp) -> ConsumerOptions:
    settings, sink, admin = app.settings, app.delivery.sink, app.admin
    store = sink if isinstance(sink, IdentityStore) else None
    return ConsumerOptions(
        client=consumer_configuration(settings),
        group=settings.consumer_group,
        admin=admin,
        explain=partial(explain, settings=settings),
        lives=TopicLives(admin, store, app.stats.conditions, settings.on_new_topic),
        stats=app.stats,
        writes=app.delivery,
        archive=app.archive_run,
        ledgers=app.ledger,
        max_buffered_events=_max_buffered_events(settings),
        max_buffered_bytes=settings.max_in_flight_bytes,
        commit_interval_seconds=settings.commit_interval_seconds,
        drain_timeout_seconds=settings.drain_timeout_seconds,
        rebalance_drain_timeout_seconds=min(settings.drain_timeout_seconds, REBALANCE_DRAIN_SECONDS),
        fatal=refuse,
    )


def _ledger_writer(settings: Settings, sink: Sink, stats: Stats) -> LedgerWriter | None:
    if not settings.ledger_enabled or not isinstance(sink, LedgerSink):
        return None
    return LedgerWriter(
        sink, stats, retry_base_seconds=settings.retry_base_seconds, retry_max_seconds=settings.retry_max_seconds
    )


def _retention_watch(settings: Settings, admin: KafkaAdmin) -> RetentionWatch:
    seconds = settings.kafka_retention_seconds
    return RetentionWatch(partial(topic_retentions, admin), Retention(seconds) if seconds else None)


def _add_agent(app: StreamsApp) -> None:
    app.event_topic = app.topic(*app.settings.topic_names, schema=RunSchema())

    # Several actors take a partition's runs in turn and so begin its events in no particular order.
    concurrency = 1 if app.settings.keeps_order else AGENT_CONCURRENCY

    @app.agent(app.event_topic, name="archive", concurrency=concurrency)
    async def archive(stream: Any) -> None:
        """Begin the write of each event; it is acknowledged when it is durable, and not before."""
        async for event in stream.noack().events():
            await app.archive_run(event.value)


def _add_tasks(app: StreamsApp) -> None:
    settings, status = app.settings, app.status

    @app.on_partitions_assigned.connect
    async def note_assignment(*arguments: Any, **kwargs: Any) -> None:
        assigned: set[TP] = arguments[1]
        status.assigned = True
        app.stats.rebalances += 1
        logger.info("assigned: %s", ", ".join(f"{tp.topic}/{tp.partition}" for tp in sorted(assigned)) or "nothing")

    _every(app, TICK_SECONDS, lambda: _tick(status, app.history, app.ledger))
    _every(app, RETENTION_SECONDS, status.refresh_retention)
    if settings.summary_interval_seconds:
        _every(app, settings.summary_interval_seconds, lambda: _log_summary(status))
    if pattern := settings.topic_pattern:
        _every(app, TOPIC_REFRESH_SECONDS, lambda: _subscribe_to_new_topics(app, pattern))


def _every(app: StreamsApp, interval_seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    @app.task
    async def repeat() -> None:
        while not app.should_stop:
            await work()
            await app.sleep(interval_seconds)


async def _tick(status: Status, history: History, ledger: LedgerWriter | None) -> None:
    now = monotonic()
    status.tick(now)
    history.tick(now)
    if ledger is not None:
        ledger.tick(now)


async def _log_summary(status: Status) -> None:
    logger.info("%s", status.summary())


async def _subscribe_to_new_topics(app: StreamsApp, pattern: re.Pattern[str]) -> None:
    """A pattern also means topics that are made later, and not those that are gone; Faust only knows fixed names."""
    consumer = app.attached_consumer
    if consumer is None:
        return
    try:
        found = matching_topics(pattern, (await app.admin.cluster()).topics)
    except (KafkaException, ConfigurationError) as error:  # brokers that are away; topics that were deleted
        logger.warning("could not look for new topics, trying again in %.0f s: %s", TOPIC_REFRESH_SECONDS, error)
        return
    if found == sorted(app.event_topic.topics):
        return
    new = [name for name in found if name not in app.event_topic.topics]
    if new:
        logger.info("new topics match %s: %s", pattern.pattern, ", ".join(new))
    app.event_topic.topics[:] = found
    await consumer.subscribe(found)


__all__ = ["ConfigurationError", "StreamsApp", "create_app"]
