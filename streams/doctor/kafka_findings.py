"""What the answers of brokers to `doctor` mean, and what to do about them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import KafkaError

from streams.doctor.connection import Address, Connected, Problem, TlsFacts, login_name
from streams.doctor.findings import Finding, Status, ok, unchecked, warning, wrong
from streams.doctor.offsets import counted, duration
from streams.doctor.remedies import KafkaAcls
from streams.kafka.admin import Group, Topic
from streams.kafka.fetching import First
from streams.kafka.retention import retention_of
from streams.record import TopicPartition
from streams.settings import Settings

CERTIFICATE_WARNING_DAYS: Final = 30
LINES_PER_CHECK: Final = 10
NAMES_SHOWN: Final = 5
TOPIC_SETTINGS: Final = ("cleanup.policy", "retention.ms", "retention.bytes", "message.timestamp.type")


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
        shown = some_of([f"{address}" for address in brokers.values()])
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
        f"configuration, or open the way to {some_of([str(address) for address in failed])} (DNS, firewall, security "
        f"group).\n{next(iter(failed.values())).remedy}",
    )


def topic_finding(name: str, topic: Topic | KafkaError, acls: KafkaAcls, settings: Settings) -> Finding:
    """Whether the topic is there, with partitions that can be read."""
    check = f"kafka topic {name}"
    servers = settings.kafka_bootstrap_servers
    admin = f"kafka-topics --bootstrap-server {servers} --command-config admin.properties"
    if not isinstance(topic, KafkaError):
        return _partitions_finding(check, topic, f"{admin} --describe --topic {name}")
    if topic.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return wrong(
            check,
            "does not exist (or this user may not see it)",
            f"Correct STREAMS_TOPICS, create it: {admin} --create --topic {name} --partitions 12\n"
            f"or allow to see it: {acls.topic(name, 'Read', 'Describe')}",
        )
    if topic.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return wrong(check, "this user may not see it", acls.topic(name, "Read", "Describe"))
    return wrong(check, f"the broker answers {topic.name()}", f"{admin} --describe --topic {name}")


def _partitions_finding(check: str, topic: Topic, describe: str) -> Finding:
    headless = [str(one.number) for one in topic.partitions if one.leader is None]
    behind = [str(one.number) for one in topic.partitions if one.in_sync < one.replicas]
    replicas = min((one.replicas for one in topic.partitions), default=0)
    facts = f"{counted(len(topic.partitions), 'partition')}, {counted(replicas, 'replica')} each"
    if headless:
        return wrong(
            check,
            f"{facts}; without a leader, so not readable: partition {some_of(headless)}",
            f"Bring the brokers back that hold them. See: {describe}",
        )
    if behind:
        return warning(
            check,
            f"{facts}; under-replicated: partition {some_of(behind)}",
            f"A broker is down or cannot keep up; one more failure may lose events. See: {describe}",
        )
    return ok(check, f"{facts}, all in sync")


def read_finding(topic: str, tp: TopicPartition, first: First | KafkaError | None, acls: KafkaAcls) -> Finding:
    """Whether an event could be fetched, which needs READ on the topic."""
    check = f"kafka topic {topic}: READ"
    if isinstance(first, First):
        return ok(check, f"allowed; read {tp}/{first.offset}")
    if first is None or first.code() == KafkaError._AUTO_OFFSET_RESET:
        return ok(check, "allowed (nothing to read yet)")
    if first.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return wrong(check, "this user may not read the topic", acls.topic(topic, "Read"))
    return wrong(
        check,
        f"a fetch from {tp} ended with {first.name()}: {first.str()}",
        "Look at that partition's leader: is it up and reachable? If it is being moved, run this again.",
    )


def retention_finding(topic: str, values: Mapping[str, str] | KafkaError | None, acls: KafkaAcls) -> Finding:
    """How long the topic keeps its events."""
    check = f"kafka topic {topic}: retention"
    if values is None or isinstance(values, KafkaError):
        answer = "the broker does not tell" if values is None else values.name()
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


def group_findings(name: str, group: Group | KafkaError, acls: KafkaAcls) -> list[Finding]:
    """The group as its coordinator sees it, and whether the worker may join it and commit."""
    check = f"kafka group {name}"
    if not isinstance(group, KafkaError):
        facts = f"coordinator is broker {group.coordinator}; {group_facts(group.state, group.members)}"
        return [ok(check, facts), group_read_finding(name, group.operations, acls)]
    if group.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
        return [wrong(check, "this user may not use the consumer group", acls.group(name, "Read"))]
    return [
        wrong(
            check,
            f"no coordinator for the group: {group.name()}",
            "Are the partitions of __consumer_offsets available? kafka-topics --bootstrap-server BROKER "
            "--command-config admin.properties --describe --topic __consumer_offsets --unavailable-partitions",
        )
    ]


def group_facts(state: str, members: Sequence[str]) -> str:
    """State and members, in words."""
    if state == "Dead":
        return "the group does not exist yet; the first worker makes it"
    if not members:
        return f"state {state}, no worker is running"
    return f"state {state}, {counted(len(members), 'member')}: {some_of(sorted(members))}"


def group_read_finding(name: str, operations: frozenset[str] | None, acls: KafkaAcls) -> Finding:
    """Whether the worker may join the group and commit, which needs READ on it; asked without joining (KIP-430)."""
    check = f"kafka group {name}: READ"
    if operations is None:
        return unchecked(check, "these brokers do not say what a user may do with a group")
    if "READ" in operations:
        return ok(check, "allowed to join and commit (asked without joining)")
    return wrong(check, "this user may not join the group or commit", acls.group(name, "Read"))


def merged(check: str, findings: Sequence[Finding]) -> list[Finding]:
    """Findings of one kind; where there are many, those that are well share one line."""
    well = [one for one in findings if one.status == Status.OK]
    if len(well) <= LINES_PER_CHECK:
        return list(findings)
    names = some_of([one.check.removeprefix("kafka topic ").partition(":")[0] for one in well])
    return [ok(check, f"all well in {len(well)} topics: {names}"), *(one for one in findings if one not in well)]


def some_of(names: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
