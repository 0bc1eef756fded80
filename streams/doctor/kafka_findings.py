"""What the answers of brokers to `doctor` mean, and what to do about them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from aiokafka import TopicPartition as TP
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    KafkaError,
    NoError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    TopicAuthorizationFailedError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)

from streams.doctor.cluster import Fetched, Topic
from streams.doctor.connection import Address, Connected, Problem, TlsFacts, login_name
from streams.doctor.findings import Finding, Status, ok, unchecked, warning, wrong
from streams.doctor.offsets import counted, duration
from streams.doctor.remedies import KafkaAcls
from streams.retention import retention_of
from streams.settings import Settings

CERTIFICATE_WARNING_DAYS: Final = 30
LINES_PER_CHECK: Final = 10
NAMES_SHOWN: Final = 5
TOPIC_SETTINGS: Final = ("cleanup.policy", "retention.ms", "retention.bytes", "message.timestamp.type")

_ANSWERS: Final = (NoError, UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError)
"""What a coordinator says to the heartbeat of nobody once the right to READ the group is there."""


def connection_findings(address: Address, result: Connected | Problem, settings: Settings) -> Iterator[Finding]:
    """One server of STREAMS_KAFKA_BOOTSTRAP_SERVERS."""
    check = f"kafka broker {address}"
    if isinstance(result, Problem):
        yield wrong(check, *result)
        return
    facts = ["reached"]
    if result.tls is not None:
        facts.append(f"{result.tls.version} with {result.tls.cipher}")
    if settings.uses_sasl:
        facts.append(f"login by {settings.kafka_sasl_mechanism} as {login_name(settings)} accepted")
    if settings.kafka_security_protocol == "SASL_PLAINTEXT" and settings.kafka_sasl_mechanism == "PLAIN":
        yield warning(
            check,
            f"{', '.join(facts)}, but the password travels unencrypted",
            "Use a TLS listener of the broker and STREAMS_KAFKA_SECURITY_PROTOCOL=SASL_SSL.",
        )
    else:
        yield ok(check, ", ".join(facts))
    if result.tls is not None:
        yield certificate_finding(address, result.tls, datetime.now(UTC))


def certificate_finding(address: Address, tls: TlsFacts, now: datetime) -> Finding:
    """The broker's certificate, and whether it will expire soon."""
    check = f"kafka certificate {address}"
    days = (tls.expires_at - now).total_seconds() / 86400
    facts = f"{tls.subject}, issued by {tls.issuer}, expires {tls.expires_at:%Y-%m-%d} (in {days:.0f} days)"
    if days < CERTIFICATE_WARNING_DAYS:
        return warning(
            check, facts, "Renew the broker's certificate before then: connections fail once it has expired."
        )
    return ok(check, facts)


def advertised_finding(brokers: Mapping[int, Address], failed: Mapping[Address, Problem]) -> Finding:
    """The addresses that the brokers give to clients."""
    check = "kafka advertised listeners"
    if not failed:
        shown = _some([f"{address}" for address in brokers.values()])
        return ok(check, f"{counted(len(brokers), 'broker')}, reachable where advertised: {shown}")
    shown = "; ".join(
        f"broker {node} at {address}: {failed[address].finding}"
        for node, address in brokers.items()
        if address in failed
    )
    return wrong(
        check,
        f"{len(failed)} of {len(brokers)} brokers cannot be reached where they say that they are: {shown}",
        "The worker must reach every broker at its advertised address. Correct advertised.listeners in the brokers' "
        f"configuration, or open the way to {_some([str(address) for address in failed])} (DNS, firewall, security "
        f"group).\n{next(iter(failed.values())).remedy}",
    )


def topic_finding(topic: Topic, acls: KafkaAcls, settings: Settings) -> Finding:
    """Whether the topic is there, with partitions that can be read."""
    check = f"kafka topic {topic.name}"
    servers = settings.kafka_bootstrap_servers
    admin = f"kafka-topics --bootstrap-server {servers} --command-config admin.properties"
    if topic.error is UnknownTopicOrPartitionError:
        return wrong(
            check,
            "does not exist (or this user may not see it)",
            f"Correct STREAMS_TOPICS, create it: {admin} --create --topic {topic.name} --partitions 12\n"
            f"or allow to see it: {acls.topic(topic.name, 'Read', 'Describe')}",
        )
    if topic.error is TopicAuthorizationFailedError:
        return wrong(check, "this user may not see it", acls.topic(topic.name, "Read", "Describe"))
    if topic.error is not NoError:
        return wrong(check, f"the broker answers {topic.error.__name__}", f"{admin} --describe --topic {topic.name}")
    return _partitions_finding(check, topic, f"{admin} --describe --topic {topic.name}")


def _partitions_finding(check: str, topic: Topic, describe: str) -> Finding:
    headless = [str(one.number) for one in topic.partitions if one.leader < 0]
    behind = [str(one.number) for one in topic.partitions if one.in_sync < one.replicas]
    replicas = min((one.replicas for one in topic.partitions), default=0)
    facts = f"{counted(len(topic.partitions), 'partition')}, {counted(replicas, 'replica')} each"
    if headless:
        return wrong(
            check,
            f"{facts}; without a leader, so not readable: partition {_some(headless)}",
            f"Bring the brokers back that hold them. See: {describe}",
        )
    if behind:
        return warning(
            check,
            f"{facts}; under-replicated: partition {_some(behind)}",
            f"A broker is down or cannot keep up; one more failure may lose events. See: {describe}",
        )
    return ok(check, f"{facts}, all in sync")


def read_finding(topic: str, tp: TP, fetched: Fetched, acls: KafkaAcls) -> Finding:
    """Whether an event could be fetched, which needs READ on the topic."""
    check = f"kafka topic {topic}: READ"
    if fetched.error is TopicAuthorizationFailedError:
        return wrong(check, "this user may not read the topic", acls.topic(topic, "Read"))
    if fetched.error not in (NoError, OffsetOutOfRangeError):
        return wrong(
            check,
            f"a fetch from {tp.topic}/{tp.partition} ended with {fetched.error.__name__}",
            "Look at that partition's leader: is it up and reachable? If it is being moved, run this again.",
        )
    if fetched.offset is None:
        return ok(check, "allowed (nothing to read yet)")
    return ok(check, f"allowed; read {tp.topic}/{tp.partition}/{fetched.offset}")


def retention_finding(topic: str, values: dict[str, str] | type[KafkaError] | None, acls: KafkaAcls) -> Finding:
    """How long the topic keeps its events."""
    check = f"kafka topic {topic}: retention"
    if not isinstance(values, dict):
        answer = "the broker does not tell" if values is None else values.__name__
        return unchecked(
            check,
            f"the topic's configuration may not be read ({answer}; optional)",
            f"{acls.topic(topic, 'DescribeConfigs')}\n"
            "or set STREAMS_KAFKA_RETENTION_SECONDS, so that the time to loss is known.",
        )
    policy = values.get("cleanup.policy", "delete")
    shown = ", ".join(f"{name}={values[name]}" for name in TOPIC_SETTINGS if name in values)
    seconds = retention_of(values).seconds
    facts = f"{shown} ({'no limit in time' if seconds is None else duration(seconds)})"
    if "compact" in policy:
        facts += "; compaction takes away events that a later one of the same key replaces, written or not"
    return ok(check, facts)


def coordinator_finding(group: str, error: KafkaError, acls: KafkaAcls) -> Finding:
    """Why the group's coordinator is not known."""
    check = f"kafka group {group}"
    if isinstance(error, GroupAuthorizationFailedError):
        return wrong(check, "this user may not use the consumer group", acls.group(group, "Read"))
    return wrong(
        check,
        f"no coordinator for the group: {type(error).__name__}",
        "Are the partitions of __consumer_offsets available? kafka-topics --describe --topic __consumer_offsets",
    )


def group_facts(state: str, members: Sequence[str]) -> str:
    """State and members, in words."""
    if state == "Dead":
        return "the group does not exist yet; the first worker makes it"
    if not members:
        return f"state {state}, no worker is running"
    return f"state {state}, {counted(len(members), 'member')}: {_some(sorted(members))}"


def group_read_finding(group: str, answer: type[KafkaError], acls: KafkaAcls) -> Finding:
    """Whether the worker may join the group and commit, which needs READ on it."""
    check = f"kafka group {group}: READ"
    if answer in _ANSWERS:
        return ok(check, "allowed to join and commit (asked without joining)")
    if answer is GroupAuthorizationFailedError:
        return wrong(check, "this user may not join the group or commit", acls.group(group, "Read"))
    return unchecked(check, f"the coordinator answered {answer.__name__}; run it again")


def merged(check: str, findings: Sequence[Finding]) -> list[Finding]:
    """Findings of one kind; where there are many, those that are well share one line."""
    well = [one for one in findings if one.status == Status.OK]
    if len(well) <= LINES_PER_CHECK:
        return list(findings)
    names = _some([one.check.removeprefix("kafka topic ").partition(":")[0] for one in well])
    return [ok(check, f"all well in {len(well)} topics: {names}"), *(one for one in findings if one not in well)]


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
