"""What `doctor` finds about Kafka: connections, advertised listeners, topics, retention, the group and its lag."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from aiokafka import TopicPartition as TP
from aiokafka.errors import KafkaError, NoError

from streams.doctor.cluster import EARLIEST, LATEST, Cluster, Fetched, Metadata, Topic, ask_metadata
from streams.doctor.connection import FAILURES, Address, Connected, Problem, bootstrap_addresses, connect
from streams.doctor.costs import DAY_MS, DayOfEvents, cost_finding, day_of_events, storage_class_finding
from streams.doctor.findings import Finding, ok, unchecked, wrong
from streams.doctor.kafka_findings import (
    TOPIC_SETTINGS,
    advertised_finding,
    connection_findings,
    coordinator_finding,
    group_facts,
    group_read_finding,
    merged,
    read_finding,
    retention_finding,
    topic_finding,
)
from streams.doctor.offsets import PartitionOffsets, Risk, lag, lost, time_to_loss_finding
from streams.doctor.remedies import KafkaAcls
from streams.errors import ConfigurationError
from streams.kafka_security import aiokafka_security_options
from streams.preflight import matching_topics
from streams.retention import Retention, retention_of, time_to_loss
from streams.settings import Settings


async def examine_kafka(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Findings about Kafka, each part as far as those before it allow."""
    with _quiet_aiokafka():
        try:
            security = aiokafka_security_options(settings)
        except ConfigurationError as error:
            yield wrong("kafka", str(error), "Correct the file or the setting that the message names.")
            return
        examination = _Examination(settings, security)
        async for finding in examination.findings():
            yield finding
        for finding in examination.cost_findings():
            yield finding


@contextmanager
def _quiet_aiokafka() -> Iterator[None]:
    """What aiokafka would log is in the findings."""
    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Examination:
    """One run; what a check has learnt and later ones need is kept here."""

    def __init__(self, settings: Settings, security: dict[str, Any]) -> None:
        self._settings = settings
        self._security = security
        self._acls = KafkaAcls(settings)
        self._group = settings.consumer_group
        self._metadata: Metadata | None = None
        self._unreachable: dict[Address, Problem] = {}
        self._topics: list[Topic] = []
        self._configurations: dict[str, dict[str, str]] = {}
        self._mean_bytes: dict[str, float] = {}
        self._day: DayOfEvents | None = None

    async def findings(self) -> AsyncGenerator[Finding, None]:
        """All of them, in order."""
        async for finding in self._brokers():
            yield finding
        if self._metadata is None:
            yield unchecked("kafka topics, group, lag", "no broker could be used")
            return
        for finding in self._topic_findings(self._metadata):
            yield finding
        if len(self._unreachable) == len(self._metadata.brokers):
            yield unchecked("kafka reading, group, lag", "no broker can be reached where it says that it is")
            return
        try:
            async with Cluster(self._settings, self._security) as cluster:
                async for finding in self._cluster_findings(cluster):
                    yield finding
        except (KafkaError, TimeoutError, OSError) as error:
            yield wrong(
                "kafka",
                f"the brokers stopped answering: {type(error).__name__}: {error}; what is missing was not checked",
                "Are the addresses that the brokers advertise reachable, and the brokers up? Then run it again.",
            )

    # -- brokers ------------------------------------------------------------------------------------------------------

    async def _brokers(self) -> AsyncGenerator[Finding, None]:
        addresses = bootstrap_addresses(self._settings)
        results = await self._connect_all(addresses)
        for address, result in zip(addresses, results, strict=True):
            for finding in connection_findings(address, result, self._settings):
                yield finding
        connected = [one for one in results if isinstance(one, Connected)]
        try:
            if connected:
                self._metadata = await ask_metadata(connected[0].connection, self._wanted_topics())
        except FAILURES as error:
            yield wrong("kafka brokers", f"no metadata: {type(error).__name__}: {error}", "Is the broker up?")
        finally:
            for one in connected:
                one.connection.close()
        if self._metadata is not None:
            tried = dict(zip(addresses, results, strict=True))
            self._unreachable = await self._unreachable_brokers(self._metadata, tried)
            yield advertised_finding(self._metadata.brokers, self._unreachable)

    def _wanted_topics(self) -> list[str] | None:
        return None if self._settings.topic_pattern else list(self._settings.topic_names)

    async def _connect_all(self, addresses: Sequence[Address]) -> list[Connected | Problem]:
        attempts = (connect(address, self._settings, self._security) for address in addresses)
        return list(await asyncio.gather(*attempts))

    async def _unreachable_brokers(
        self, metadata: Metadata, tried: Mapping[Address, Connected | Problem]
    ) -> dict[Address, Problem]:
        """Brokers are talked to where they say that they are, not where STREAMS_KAFKA_BOOTSTRAP_SERVERS says."""
        others = [address for address in metadata.brokers.values() if address not in tried]
        results = await self._connect_all(others)
        for one in results:
            if isinstance(one, Connected):
                one.connection.close()
        known = {**tried, **dict(zip(others, results, strict=True))}
        return {
            address: result for address in metadata.brokers.values() if isinstance(result := known[address], Problem)
        }

    # -- topics -------------------------------------------------------------------------------------------------------

    def _topic_findings(self, metadata: Metadata) -> list[Finding]:
        self._topics = list(metadata.topics)
        pattern = self._settings.topic_pattern
        if pattern is not None:
            try:
                names = matching_topics(pattern, [topic.name for topic in metadata.topics])
            except ConfigurationError as error:
                self._topics = []
                return [wrong("kafka topics", str(error), "Correct STREAMS_TOPICS, or allow DESCRIBE on the topics.")]
            self._topics = [topic for topic in metadata.topics if topic.name in names]
        findings = [topic_finding(topic, self._acls, self._settings) for topic in self._topics]
        self._topics = [topic for topic in self._topics if topic.partitions]
        return merged("kafka topics", findings)

    async def _cluster_findings(self, cluster: Cluster) -> AsyncGenerator[Finding, None]:
        begins, ends = await self._bounds(cluster)
        for finding in await self._read(cluster, begins):
            yield finding
        for finding in await self._retention(cluster):
            yield finding
        await self._count_day(cluster, begins, ends)
        try:
            coordinator = await cluster.coordinator(self._group)
        except KafkaError as error:
            yield coordinator_finding(self._group, error, self._acls)
            yield unchecked("kafka lag, time to loss", "the group's coordinator could not be asked")
            return
        yield await self._group_state(cluster, coordinator)
        yield group_read_finding(self._group, await cluster.try_group_read(coordinator, self._group), self._acls)
        async for finding in self._offsets(cluster, coordinator, begins, ends):
            yield finding

    def _leaders(self) -> dict[TP, int]:
        return {
            TP(topic.name, one.number): one.leader
            for topic in self._topics
            for one in topic.partitions
            if one.leader >= 0
        }

    async def _bounds(self, cluster: Cluster) -> tuple[dict[TP, int], dict[TP, int]]:
        """First and last stable offsets, of the partitions that tell them."""
        leaders = self._leaders()
        begins = await cluster.offsets(leaders, EARLIEST)
        ends = await cluster.offsets(leaders, LATEST)
        return (
            {tp: offset for tp, offset in begins.items() if isinstance(offset, int)},
            {tp: offset for tp, offset in ends.items() if isinstance(offset, int)},
        )

    async def _read(self, cluster: Cluster, begins: Mapping[TP, int]) -> list[Finding]:
        """Fetch one record of each topic."""
        findings = []
        leaders = self._leaders()
        for topic in self._topics:
            tp = next((tp for tp in leaders if tp.topic == topic.name), None)
            if tp is None:
                findings.append(unchecked(f"kafka topic {topic.name}: READ", "no partition has a leader"))
                continue
            fetched = await cluster.fetch(tp, leaders[tp], begins.get(tp, 0))
            findings.append(read_finding(topic.name, tp, fetched, self._acls))
            if fetched.mean_bytes is not None:
                self._mean_bytes[topic.name] = fetched.mean_bytes
        return merged("kafka topics: READ", findings)

    async def _retention(self, cluster: Cluster) -> list[Finding]:
        names = [topic.name for topic in self._topics]
        if not names:
            return []
        found = await cluster.configurations(names, TOPIC_SETTINGS)
        self._configurations = {name: values for name, values in found.items() if isinstance(values, dict)}
        return merged(
            "kafka topics: retention", [retention_finding(name, found.get(name), self._acls) for name in names]
        )

    # -- what it costs ------------------------------------------------------------------------------------------------

    async def _count_day(self, cluster: Cluster, begins: Mapping[TP, int], ends: Mapping[TP, int]) -> None:
        """How many events came within a day, by their timestamps."""
        if not ends:
            return
        a_day_ago = int(datetime.now(UTC).timestamp() * 1000) - DAY_MS
        found = await cluster.offsets(self._leaders(), a_day_ago)
        since = {tp: offset for tp, offset in found.items() if isinstance(offset, int)}
        if not since:
            return
        self._day = day_of_events(begins, since, ends, self._mean_value_bytes())

    def _mean_value_bytes(self) -> float | None:
        sizes = self._mean_bytes.values()
        return sum(sizes) / len(sizes) if sizes else None

    def cost_findings(self) -> Iterator[Finding]:
        """What the events cost that the topics have had in a day."""
        yield cost_finding(self._day, self._settings)
        finding = storage_class_finding(self._settings, self._mean_value_bytes())
        if finding is not None:
            yield finding

    # -- the group ----------------------------------------------------------------------------------------------------

    async def _group_state(self, cluster: Cluster, coordinator: int) -> Finding:
        check = f"kafka group {self._group}"
        try:
            state, members = await cluster.describe_group(coordinator, self._group)
        except KafkaError as error:
            return unchecked(
                check,
                f"the broker does not describe it ({type(error).__name__})",
                self._acls.group(self._group, "Describe"),
            )
        return ok(check, f"coordinator is broker {coordinator}; {group_facts(state, members)}")

    async def _offsets(
        self, cluster: Cluster, coordinator: int, begins: Mapping[TP, int], ends: Mapping[TP, int]
    ) -> AsyncGenerator[Finding, None]:
        partitions = sorted(begins.keys() & ends.keys())
        if not partitions:
            yield unchecked("kafka lag, time to loss", "the offsets of no partition could be read")
            return
        try:
            committed = await cluster.committed(coordinator, self._group, partitions)
        except KafkaError as error:
            yield unchecked(
                "kafka lag, time to loss",
                f"the committed offsets are not told ({type(error).__name__})",
                self._acls.group(self._group, "Read"),
            )
            return
        offsets = [PartitionOffsets(tp, begins[tp], ends[tp], committed.get(tp)) for tp in partitions]
        yield lag(self._group, offsets)
        if (finding := lost(offsets, self._settings.kafka_bootstrap_servers)) is not None:
            yield finding
        yield await self._time_to_loss(cluster, offsets)

    async def _time_to_loss(self, cluster: Cluster, offsets: Sequence[PartitionOffsets]) -> Finding:
        """Read the oldest event that is not durable in each partition, for its timestamp."""
        behind = [one for one in offsets if one.lag]
        leaders = self._leaders()
        fetched = await asyncio.gather(*(cluster.fetch(one.tp, leaders[one.tp], one.position) for one in behind))
        risks, unknown = [], {}
        now = datetime.now(UTC).timestamp()
        for one, answer in zip(behind, fetched, strict=True):
            risk = self._risk(one, answer, now)
            if isinstance(risk, str):
                unknown[one.name] = risk
            elif risk is not None:
                risks.append(risk)
        return time_to_loss_finding(risks, len(behind), unknown, self._settings.kafka_bootstrap_servers)

    def _risk(self, one: PartitionOffsets, fetched: Fetched, now: float) -> Risk | str | None:
        """When its oldest event is dropped; `None` for never, text for why that is not known."""
        topic = one.tp.topic
        retention = self._retention_of(topic)
        if retention is None:
            return "its retention may not be read"
        if retention.unlimited:
            return None
        if retention.seconds is None:
            return "limited by retention.bytes alone, which says nothing about time"
        if fetched.error is not NoError:
            return f"its event could not be read: {fetched.error.__name__}"
        if fetched.timestamp_ms is None or fetched.offset is None:
            return "nothing to read at its offset"
        # The size is left out: a log that is not full yet would look as if it lost its first event at any moment.
        seconds_left = time_to_loss(
            Retention(retention.seconds),
            now_seconds=now,
            oldest_timestamp_ms=fetched.timestamp_ms,
            watermark=fetched.offset,
        )
        return Risk(one.name, fetched.offset, topic, seconds_left or 0.0, retention.seconds)

    def _retention_of(self, topic: str) -> Retention | None:
        values = self._configurations.get(topic)
        if values is not None:
            return retention_of(values)
        fallback_seconds = self._settings.kafka_retention_seconds
        return None if fallback_seconds is None else Retention(fallback_seconds)
