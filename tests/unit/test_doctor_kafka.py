"""What `doctor` makes of brokers' answers: certificates, topics, the group, lag and time to loss."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import KafkaError

from streams.doctor.connection import (
    Address,
    Connected,
    Problem,
    TlsFacts,
    bootstrap_addresses,
    distinguished_name,
)
from streams.doctor.findings import Status, ok, wrong
from streams.doctor.kafka_findings import (
    advertised_finding,
    certificate_finding,
    connection_findings,
    group_facts,
    group_findings,
    group_read_finding,
    merged,
    read_finding,
    retention_finding,
    topic_finding,
)
from streams.doctor.offsets import PartitionOffsets, Risk, duration, lag, lost, time_to_loss_finding
from streams.doctor.remedies import KafkaAcls
from streams.kafka.admin import Group, Partition, Topic
from streams.record import TopicPartition
from streams.settings import Settings

BROKER = Address("broker-1", 9092)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERVERS = "broker-1:9092"
DAY_SECONDS = 24 * 3600.0


def make_settings(**fields: Any) -> Settings:
    required = {
        "kafka_bootstrap_servers": SERVERS,
        "topics": "orders",
        "consumer_group": "orders-to-s3",
        "s3_bucket": "my-events",
    }
    return Settings(**{**required, **fields})


@pytest.fixture
def acls() -> KafkaAcls:
    return KafkaAcls(make_settings())


# -- connections -------------------------------------------------------------------------------------------------------


def test_addresses_are_taken_apart() -> None:
    """IPv6 too, and each once."""
    settings = make_settings(kafka_bootstrap_servers="broker-1:9092, [::1]:9093,broker-1:9092")
    assert [BROKER, Address("::1", 9093)] == bootstrap_addresses(settings)
    assert ["broker-1:9092", "[::1]:9093"] == [str(one) for one in bootstrap_addresses(settings)]


@pytest.mark.parametrize(("days", "expected"), [(31, Status.OK), (29, Status.WARNING)])
def test_certificate_that_expires_soon_is_a_warning(days: int, expected: Status) -> None:
    """A month is time to renew it."""
    facts = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "CN=broker-1", "CN=ca", NOW + timedelta(days=days))
    found = certificate_finding(BROKER, facts, NOW)
    assert expected == found.status
    assert f"CN=broker-1, issued by CN=ca, expires {NOW + timedelta(days=days):%Y-%m-%d}" in found.finding


def test_names_are_shown_in_the_short_form() -> None:
    """As certificates are usually written, the most specific part first."""
    decoded = ((("organizationName", "Example"),), (("commonName", "broker-1"),), (("emailAddress", "a@b"),))
    assert "emailAddress=a@b, CN=broker-1, O=Example" == distinguished_name(decoded)


def test_password_in_the_clear_is_a_warning() -> None:
    """It works, and should not be done."""
    settings = make_settings(
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="PLAIN",
        kafka_sasl_username="a",
        kafka_sasl_password="canary-password",
    )
    (found,) = connection_findings(BROKER, Connected(BROKER, None), settings)
    assert Status.WARNING == found.status
    assert "SASL_SSL" in found.remedy


def test_advertised_listeners_name_those_that_cannot_be_reached() -> None:
    """By broker and address; the count says how many."""
    other = Address("10.0.0.2", 9092)
    found = advertised_finding({1: BROKER, 2: other}, {other: Problem("no answer within 10 s", "open the way")})
    assert Status.WRONG == found.status
    assert found.finding.startswith("1 of 2 brokers")
    assert "broker 2 at 10.0.0.2:9092: no answer within 10 s" in found.finding
    assert Status.OK == advertised_finding({1: BROKER}, {}).status


# -- topics ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partitions", "expected", "words"),
    [
        ([(0, 1, 3, 3), (1, 2, 3, 3)], Status.OK, "2 partitions, 3 replicas each, all in sync"),
        ([(0, 1, 3, 2), (1, 2, 3, 3)], Status.WARNING, "under-replicated: partition 0"),
        ([(0, 1, 3, 3), (1, None, 3, 0)], Status.WRONG, "without a leader, so not readable: partition 1"),
    ],
)
def test_replication_is_looked_at(
    partitions: list[tuple[int, int | None, int, int]], expected: Status, words: str, acls: KafkaAcls
) -> None:
    """Fewer replicas in sync than there are is a warning; no leader at all stops the partition."""
    topic = Topic("orders", None, tuple(Partition(*one) for one in partitions))
    found = topic_finding("orders", topic, acls, make_settings())
    assert expected == found.status
    assert words in found.finding


def test_fetch_from_a_partition_that_is_moving_says_so(acls: KafkaAcls) -> None:
    """Not a matter of rights."""
    error = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
    found = read_finding("orders", TopicPartition("orders", 0), error, acls)
    assert "NOT_LEADER_FOR_PARTITION" in found.finding
    assert "kafka-acls" not in found.remedy


def test_empty_topic_proves_the_right_to_read(acls: KafkaAcls) -> None:
    """A fetch that was answered was allowed."""
    assert Status.OK == read_finding("orders", TopicPartition("orders", 0), None, acls).status


def test_compaction_is_mentioned(acls: KafkaAcls) -> None:
    """It takes events away as well, whatever the time."""
    config = {"cleanup.policy": "compact", "retention.ms": "604800000"}
    found = retention_finding("orders", config, acls)
    assert "no limit in time" in found.finding
    assert "compaction takes away" in found.finding


def test_many_topics_that_are_well_share_a_line() -> None:
    """What is wrong keeps its own."""
    findings = [ok(f"kafka topic t{number}: READ", "allowed") for number in range(200)]
    bad = wrong("kafka topic x: READ", "denied", "allow it")
    found = merged("kafka topics: READ", [*findings, bad])
    assert ["kafka topics: READ", "kafka topic x: READ"] == [one.check for one in found]
    assert "200 topics: t0, t1, t2, t3, t4 and 195 more" in found[0].finding


# -- the group ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        (frozenset({"READ", "DESCRIBE"}), Status.OK),
        (frozenset({"DESCRIBE"}), Status.WRONG),
        (None, Status.UNCHECKED),
    ],
)
def test_rights_on_the_group_are_told_by_its_coordinator(
    operations: frozenset[str] | None, expected: Status, acls: KafkaAcls
) -> None:
    """Joining and committing need READ; a broker that does not say is no reason to call it wrong."""
    found = group_read_finding("orders-to-s3", operations, acls)
    assert expected == found.status
    assert (expected is Status.WRONG) == ("--operation Read --group orders-to-s3" in found.remedy)


def test_coordinator_that_is_missing_is_no_matter_of_rights(acls: KafkaAcls) -> None:
    """The topic of offsets is to be looked at."""
    (found,) = group_findings("orders-to-s3", KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE), acls)
    assert "__consumer_offsets" in found.remedy


def test_group_has_a_line_for_its_state_and_one_for_the_right_to_join(acls: KafkaAcls) -> None:
    """The coordinator is named."""
    found = group_findings("orders-to-s3", Group("Empty", (), 2, frozenset({"READ"})), acls)
    assert ["kafka group orders-to-s3", "kafka group orders-to-s3: READ"] == [one.check for one in found]
    assert "coordinator is broker 2" in found[0].finding


@pytest.mark.parametrize(
    ("state", "members", "words"),
    [
        ("Dead", [], "does not exist yet"),
        ("Empty", [], "no worker is running"),
        ("Stable", ["streams at 10.0.0.1"], "state Stable, 1 member: streams at 10.0.0.1"),
    ],
)
def test_group_is_described(state: str, members: list[str], words: str) -> None:
    """In words."""
    assert words in group_facts(state, members)


# -- lag and time to loss ----------------------------------------------------------------------------------------------


def make_offsets(partition: int, begin: int, end: int, committed: int | None) -> PartitionOffsets:
    return PartitionOffsets(TopicPartition("orders", partition), begin, end, committed)


def test_lag_is_summed_and_the_worst_partition_named() -> None:
    """From the commit, from the earliest event without one, and never below zero."""
    found = lag("g", [make_offsets(0, 0, 10, 4), make_offsets(1, 5, 100, None), make_offsets(2, 0, 3, 7)])
    assert "101 events in 3 partitions, most in orders/1: 95 from offset 5" in found.finding
    assert "no commit yet in 1 partition" in found.finding


def test_events_that_are_gone_are_counted() -> None:
    """Only below a commit: a new group has lost nothing."""
    assert lost([make_offsets(0, 5, 10, None), make_offsets(1, 5, 10, 5)], SERVERS) is None
    found = lost([make_offsets(0, 7, 10, 5), make_offsets(1, 1005, 2000, 5)], SERVERS)
    assert found is not None
    assert "up to 1,002 events left Kafka" in found.finding
    assert "orders/0 offsets 5 to 6 (2), orders/1 offsets 5 to 1004 (1,000)" in found.finding


@pytest.mark.parametrize(
    ("left_seconds", "retention_seconds", "expected"),
    [
        (25 * 3600, 7 * DAY_SECONDS, Status.OK),
        (23 * 3600, 7 * DAY_SECONDS, Status.WARNING),
        (3599, 7 * DAY_SECONDS, Status.WRONG),
        (0, 7 * DAY_SECONDS, Status.WRONG),
        (3 * 3600, 8 * 3600, Status.OK),
        (1.9 * 3600, 8 * 3600, Status.WARNING),
        (1500, 1800, Status.OK),
        (400, 1800, Status.WRONG),
    ],
)
def test_time_to_loss_limits(left_seconds: float, retention_seconds: float, expected: Status) -> None:
    """Wrong under an hour, a warning under 24 h or a quarter; a topic kept for half an hour is not always wrong."""
    risk = Risk("orders/0", 5, "orders", left_seconds, retention_seconds)
    assert expected == time_to_loss_finding([risk], 1, {}, SERVERS).status


def test_nearest_partition_counts() -> None:
    """However many are far from it."""
    far = [Risk(f"orders/{number}", 0, "orders", 6 * DAY_SECONDS, 7 * DAY_SECONDS) for number in range(9)]
    near = Risk("orders/9", 5, "orders", 1800, 7 * DAY_SECONDS)
    found = time_to_loss_finding([*far, near], 10, {"x/0": "not told"}, SERVERS)
    assert Status.WRONG == found.status
    assert "orders/9: its oldest event that is not written, offset 5, may leave Kafka in 30 min" in found.finding
    assert "not known: not told (x/0)" in found.finding
    assert "retention.ms=2419200000" in found.remedy


def test_time_to_loss_without_a_limit_or_without_knowing() -> None:
    """Nothing waits, nothing is ever deleted, or nobody says: three different things."""
    assert "no event waits" in time_to_loss_finding([], 0, {}, SERVERS).finding
    assert Status.OK == time_to_loss_finding([], 3, {}, SERVERS).status
    unknown = {f"orders/{number}": "not told" for number in range(7)}
    found = time_to_loss_finding([], 7, unknown, SERVERS)
    assert Status.UNCHECKED == found.status
    assert "not told (orders/0, orders/1, orders/2, orders/3, orders/4 and 2 more)" in found.finding


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (45, "45 s"), (1800, "30 min"), (7200, "2.0 h"), (7 * DAY_SECONDS, "7 days"), (216000, "2.5 days")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    """Two figures are enough."""
    assert text == duration(seconds)
