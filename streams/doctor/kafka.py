"""What `doctor` finds about Kafka: connections, advertised listeners, topics, retention, the group and its lag."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import OffsetSpec

from streams.doctor.connection import Address, Connected, Problem, bootstrap_addresses, connect
from streams.doctor.costs import DAY_MS, DayOfEvents, cost_finding, day_of_events, storage_class_finding
from streams.doctor.findings import Finding, unchecked, wrong
from streams.doctor.kafka_findings import (
    advertised_finding,
    connection_findings,
    group_findings,
    merged,
    read_finding,
    retention_finding,
    topic_finding,
)
from streams.doctor.offsets import PartitionOffsets, Risk, lag, lost, time_to_loss_finding
from streams.doctor.remedies import KafkaAcls
from streams.errors import ConfigurationError, KafkaReadError
from streams.kafka.admin import Cluster, KafkaAdmin, Topic, once_coordinated
from streams.kafka.connection import client_options
from streams.kafka.fetching import Fetcher, First
from streams.kafka.group_offsets import committed_offsets
from streams.kafka.retention import Retention, retention_of, time_to_loss
from streams.preflight import matching_topics
from streams.record import TopicPartition as TP
from streams.settings import Settings

COORDINATOR_LIMIT_SECONDS: Final = 10.0


async def examine_kafka(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Findings about Kafka, each part as far as those before it allow."""
    try:
        client_options(settings)
    except ConfigurationError as error:
        yield wrong("kafka", str(error), "Correct the file or the setting that the message names.")
        return
    examination = _Examination(settings)
    async with aclosing(examination.findings()) as findings:
        async for finding in findings:
            yield finding
    for finding in examination.cost_findings():
        yield finding


class _Examination:
    """One run; what a check has learnt and later ones need is kept here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._acls = KafkaAcls(settings)
        self._group = settings.consumer_group
        self._cluster: Cluster | None = None
        self._unreachable: dict[Address, Problem] = {}
        self._topics: list[Topic] = []
        self._configurations: dict[str, Mapping[str, str]] = {}
        self._mean_bytes: dict[str, float] = {}
        self._day: DayOfEvents | None = None

    async def findings(self) -> AsyncGenerator[Finding, None]:
        """All of them, in order."""
        async for finding in self._brokers():
            yield finding
        if self._cluster is None:
            yield unchecked("kafka topics, group, lag", "no broker could be used")
            return
        for finding in self._topic_findings(self._cluster):
            yield finding
        if len(self._unreachable) == len(self._cluster.brokers):
            yield unchecked("kafka reading, group, lag", "no broker can be reached where it says that it is")
            return
        try:
            async with Fetcher(self._settings) as fetcher:
                async for finding in self._cluster_findings(KafkaAdmin(self._settings), fetcher):
                    yield finding
        except (KafkaException, KafkaReadError) as error:
            yield wrong(
                "kafka",
                f"the brokers stopped answering: {error}; what is missing was not checked",
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
        if not connected:
            return
        try:
            self._cluster = await KafkaAdmin(self._settings).cluster(self._wanted_topics())
        except KafkaException as error:
            yield wrong("kafka brokers", f"no metadata: {error}", "Is the broker up?")
            return
        tried = dict(zip(addresses, results, strict=True))
        brokers = {one.id: Address(one.host, one.port) for one in self._cluster.brokers}
        self._unreachable = await self._unreachable_brokers(brokers, tried)
        yield advertised_finding(brokers, self._unreachable)

    def _wanted_topics(self) -> list[str] | None:
        return None if self._settings.topic_pattern else list(self._settings.topic_names)

    async def _connect_all(self, addresses: Sequence[Address]) -> list[Connected | Problem]:
        attempts = (connect(address, self._settings) for address in addresses)
        return list(await asyncio.gather(*attempts))

    async def _unreachable_brokers(
        self, brokers: Mapping[int, Address], tried: Mapping[Address, Connected | Problem]
    ) -> dict[Address, Problem]:
        """Brokers are talked to where they say that they are, not where STREAMS_KAFKA_BOOTSTRAP_SERVERS says."""
        others = [address for address in brokers.values() if address not in tried]
        results = await self._connect_all(others)
        known = {**tried, **dict(zip(others, results, strict=True))}
        return {address: result for address in brokers.values() if isinstance(result := known[address], Problem)}

    # -- topics -------------------------------------------------------------------------------------------------------

    def _topic_findings(self, cluster: Cluster) -> list[Finding]:
        topics, pattern = cluster.topics, self._settings.topic_pattern
        if pattern is not None:
            try:
                names = matching_topics(pattern, topics)
            except ConfigurationError as error:
                return [wrong("kafka topics", str(error), "Correct STREAMS_TOPICS, or allow DESCRIBE on the topics.")]
            topics = {name: topics[name] for name in names}
        findings = [topic_finding(name, topic, self._acls, self._settings) for name, topic in topics.items()]
        self._topics = [topic for topic in topics.values() if isinstance(topic, Topic)]
        return merged("kafka topics", findings)

    async def _cluster_findings(self, admin: KafkaAdmin, fetcher: Fetcher) -> AsyncGenerator[Finding, None]:
        begins, ends = await self._bounds(admin)
        for finding in await self._read(fetcher, begins):
            yield finding
        for finding in await self._retention(admin):
            yield finding
        await self._count_day(admin, begins, ends)
        try:
            # First: librdkafka's admin client ends the process where it asks a coordinator that is going away (4605).
            await self._committed(self._led()[:1])
            group = await once_coordinated(lambda: admin.group(self._group), COORDINATOR_LIMIT_SECONDS)
        except KafkaException as error:
            for finding in group_findings(self._group, error.args[0], self._acls):
                yield finding
            yield unchecked("kafka lag, time to loss", "the group's coordinator could not be asked")
            return
        for finding in group_findings(self._group, group, self._acls):
            yield finding
        async for finding in self._offsets(admin, fetcher, begins, ends):
            yield finding

    def _led(self) -> list[TP]:
        """The partitions that have a leader."""
        return [
            TP(topic.name, one.number) for topic in self._topics for one in topic.partitions if one.leader is not None
        ]

    async def _bounds(self, admin: KafkaAdmin) -> tuple[dict[TP, int], dict[TP, int]]:
        """First and last stable offsets, of the partitions that tell them."""
        led = self._led()
        return _told(await admin.beginnings(led)), _told(await admin.ends(led))

    async def _read(self, fetcher: Fetcher, begins: Mapping[TP, int]) -> list[Finding]:
        """Fetch one record of each topic."""
        tried = {tp.topic: tp for tp in reversed(self._led())}
        found = await fetcher.first({tp: begins.get(tp, 0) for tp in tried.values()})
        findings = []
        for topic in self._topics:
            tp = tried.get(topic.name)
            if tp is None:
                findings.append(unchecked(f"kafka topic {topic.name}: READ", "no partition has a leader"))
                continue
            first = found[tp]
            findings.append(read_finding(topic.name, tp, first, self._acls))
            if isinstance(first, First):
                self._mean_bytes[topic.name] = first.mean_bytes
        return merged("kafka topics: READ", findings)

    async def _retention(self, admin: KafkaAdmin) -> list[Finding]:
        names = [topic.name for topic in self._topics]
        found = await admin.configurations(names)
        self._configurations = {name: values for name, values in found.items() if not isinstance(values, KafkaError)}
        return merged(
            "kafka topics: retention", [retention_finding(name, found.get(name), self._acls) for name in names]
        )

    # -- what it costs ------------------------------------------------------------------------------------------------

    async def _count_day(self, admin: KafkaAdmin, begins: Mapping[TP, int], ends: Mapping[TP, int]) -> None:
        """How many events came within a day, by their timestamps."""
        if not ends:
            return
        a_day_ago = int(datetime.now(UTC).timestamp() * 1000) - DAY_MS
        since = _told(await admin.offsets(self._led(), OffsetSpec.for_timestamp(a_day_ago)))
        if since:
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

    async def _offsets(
        self, admin: KafkaAdmin, fetcher: Fetcher, begins: Mapping[TP, int], ends: Mapping[TP, int]
    ) -> AsyncGenerator[Finding, None]:
        partitions = sorted(begins.keys() & ends.keys())
        if not partitions:
            yield unchecked("kafka lag, time to loss", "the offsets of no partition could be read")
            return
        try:
            committed = await self._committed(partitions)
        except KafkaException as error:
            yield unchecked(
                "kafka lag, time to loss",
                f"the committed offsets are not told ({error.args[0].name()})",
                self._acls.group(self._group, "Read"),
            )
            return
        offsets = [PartitionOffsets(tp, begins[tp], ends[tp], committed.get(tp)) for tp in partitions]
        yield lag(self._group, offsets)
        if (finding := lost(offsets, self._settings.kafka_bootstrap_servers)) is not None:
            yield finding
        yield await self._time_to_loss(fetcher, offsets)

    async def _committed(self, partitions: Sequence[TP]) -> dict[TP, int]:
        """The committed offsets; partitions without a commit are left out. Raises the first refusal."""
        options = client_options(self._settings)
        answers = await committed_offsets(options, self._group, partitions, COORDINATOR_LIMIT_SECONDS)
        found = {}
        for tp, answer in answers.items():
            if isinstance(answer, KafkaError):
                raise KafkaException(answer)
            if answer is not None:
                found[tp] = answer.offset
        return found

    async def _time_to_loss(self, fetcher: Fetcher, offsets: Sequence[PartitionOffsets]) -> Finding:
        """Read the oldest event that is not durable in each partition, for its timestamp."""
        behind = [one for one in offsets if one.lag]
        found = await fetcher.first({one.tp: one.position for one in behind})
        risks, unknown = [], {}
        now = datetime.now(UTC).timestamp()
        for one in behind:
            risk = self._risk(one, found[one.tp], now)
            if isinstance(risk, str):
                unknown[one.name] = risk
            elif risk is not None:
                risks.append(risk)
        return time_to_loss_finding(risks, len(behind), unknown, self._settings.kafka_bootstrap_servers)

    def _risk(self, one: PartitionOffsets, first: First | KafkaError | None, now: float) -> Risk | str | None:
        """When its oldest event is dropped; `None` for never, text for why that is not known."""
        topic = one.tp.topic
        retention = self._retention_of(topic)
        if retention is None:
            return "its retention may not be read"
        if retention.unlimited:
            return None
        if retention.seconds is None:
            return "limited by retention.bytes alone, which says nothing about time"
        if isinstance(first, KafkaError):
            return f"its event could not be read: {first.name()}"
        if first is None or first.timestamp_ms is None:
            return "nothing to read at its offset"
        # The size is left out: a log that is not full yet would look as if it lost its first event at any moment.
        seconds_left = time_to_loss(
            Retention(retention.seconds),
            now_seconds=now,
            oldest_timestamp_ms=first.timestamp_ms,
            watermark=first.offset,
        )
        return Risk(one.name, first.offset, topic, seconds_left or 0.0, retention.seconds)

    def _retention_of(self, topic: str) -> Retention | None:
        values = self._configurations.get(topic)
        if values is not None:
            return retention_of(values)
        fallback_seconds = self._settings.kafka_retention_seconds
        return None if fallback_seconds is None else Retention(fallback_seconds)


def _told(offsets: Mapping[TP, int | KafkaError]) -> dict[TP, int]:
    return {tp: offset for tp, offset in offsets.items() if not isinstance(offset, KafkaError)}
