"""What the watch says of Kafka, and when it is over; what it does on brokers is in `tests/integration`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.consumer import watch as module
from streams.consumer.lives import TopicLives
from streams.consumer.room import Room
from streams.consumer.watch import KafkaWatch
from streams.consumer.watermark import PartitionWatermark
from streams.kafka.admin import KafkaAdmin, Partition, Topic
from streams.kafka.explanations import explain
from streams.record import TopicPartition
from streams.settings import Settings
from streams.stats import Conditions, Kind

ORDERS = TopicPartition("orders", 0)
SETTINGS = Settings(
    kafka_bootstrap_servers="broker:9092",
    topics="orders",
    consumer_group="orders-to-s3",
    s3_bucket="events",
    kafka_security_protocol="SASL_SSL",
    kafka_sasl_mechanism="PLAIN",
    kafka_sasl_username="alice",
    kafka_sasl_password="hunter2",
)
ALL_DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
LOGIN = KafkaError(
    KafkaError._AUTHENTICATION,
    "sasl_ssl://b:9092/1: SASL authentication error: Authentication failed: Invalid username",
)
TLS = KafkaError(
    KafkaError._SSL, "ssl://b:9092/1: SSL handshake failed: error:0A000086:SSL::certificate verify failed: x"
)
NAME = KafkaError(KafkaError._RESOLVE, "b:9092/1: Failed to resolve 'b:9092': Name or service not known")


class Cluster:
    """Brokers that answer, or raise what `ends` and `anybody` hold."""

    def __init__(self) -> None:
        self.ends_fail: KafkaError | None = None
        self.nobody = False
        self.leader: int | None = 1
        self.topic_error: KafkaError | None = None
        self.topic_id = "id"

    async def ends(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Any]:
        if self.ends_fail is not None:
            raise KafkaException(self.ends_fail)
        return dict.fromkeys(partitions, 10)

    async def beginnings(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Any]:
        return dict.fromkeys(partitions, 0)

    async def topics(self, names: Iterable[str]) -> Mapping[str, Any]:
        found = {name: Topic(name, self.topic_id, (Partition(0, self.leader, 1, 1),)) for name in names}
        return found if self.topic_error is None else dict.fromkeys(names, self.topic_error)

    async def cluster(self, names: Iterable[str]) -> None:
        if self.nobody:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))


class Watched:
    def __init__(self) -> None:
        self.watch_conditions = Conditions()
        self.assigned_epochs = {ORDERS: 1}
        self.watermarks = {ORDERS: PartitionWatermark(1, 5)}
        self.joined = True
        self.taking = True
        self.room = Room(100, 1_000_000)

    def is_taking(self, tp: TopicPartition) -> bool:
        return self.taking


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def watch(cluster: Cluster, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> KafkaWatch:
    """Looks at everything each time."""
    monkeypatch.setattr(module, "ENDS_SECONDS", 0.0)
    monkeypatch.setattr(module, "TOPICS_SECONDS", 0.0)
    monkeypatch.setattr(module, "TOPICS_A_SECOND", 10**9)
    lives = cast(TopicLives, SimpleNamespace(look=lambda topics, read: None))
    watch = KafkaWatch(
        cast(KafkaAdmin, cluster), watched, watched.watch_conditions, lives, partial(explain, settings=SETTINGS)
    )
    watch.subscribed(["orders"])
    return watch


def kinds(watched: Watched) -> set[Kind]:
    return {one.kind for one in watched.watch_conditions.active()}


async def test_brokers_that_are_away_are_said_until_one_answers(
    watch: KafkaWatch, watched: Watched, cluster: Cluster
) -> None:
    """It blocks readiness, too."""
    cluster.ends_fail, cluster.nobody = KafkaError(KafkaError._TIMED_OUT), True
    await watch.look()
    condition = watched.watch_conditions.get(Kind.BROKERS_DOWN)
    assert condition is not None
    assert condition.blocks_readiness
    cluster.ends_fail, cluster.nobody = None, False
    await watch.look()
    assert set() == kinds(watched)
    assert watch.brokers_answered is not None


async def test_controller_that_is_away_is_not_all_brokers(
    watch: KafkaWatch, watched: Watched, cluster: Cluster
) -> None:
    """Some questions go to the controller alone; others are answered meanwhile."""
    cluster.ends_fail = KafkaError(KafkaError._TIMED_OUT)
    await watch.look()
    assert set() == kinds(watched)


async def test_client_without_any_connection_is_said_at_once(watch: KafkaWatch, watched: Watched) -> None:
    """librdkafka notices it before any question has timed out."""
    watch.client_failed(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert {Kind.BROKERS_DOWN} == kinds(watched)
    await watch.look()
    assert set() == kinds(watched)


async def test_broker_that_was_heard_a_moment_ago_is_asked_first(
    watch: KafkaWatch, watched: Watched, cluster: Cluster
) -> None:
    """What librdkafka says of a freeze may come when it is over already."""
    watch.heard()
    watch.client_failed(ALL_DOWN)
    await watch.look()
    assert 0 == watched.watch_conditions.begun[Kind.BROKERS_DOWN]
    watch.client_failed(ALL_DOWN)
    cluster.ends_fail, cluster.nobody = KafkaError(KafkaError._TRANSPORT), True
    await watch.look()
    assert {Kind.BROKERS_DOWN} == kinds(watched)


@pytest.mark.parametrize(
    ("cause", "finding", "remedy"),
    [
        (LOGIN, "wrong credentials: the broker refused the login (SASL PLAIN as alice)", "Restart with the new one"),
        (TLS, "its certificate is not trusted", "A restart reads the files again"),
        (NAME, "the name cannot be resolved", "It goes on by itself once that is mended."),
    ],
)
async def test_outage_says_what_brokers_have_said(
    watch: KafkaWatch, watched: Watched, caplog: pytest.LogCaptureFixture, cause: KafkaError, finding: str, remedy: str
) -> None:
    """In the condition, and once in the log, where it may be known later than the outage."""
    with caplog.at_level(logging.WARNING, module.__name__):
        watch.client_failed(cause)
        watch.client_failed(cause)
    assert [f"a Kafka broker cannot be used: {finding}"] == [
        entry.getMessage().partition(". ")[0] for entry in caplog.records
    ]
    watch.client_failed(ALL_DOWN)
    (condition,) = watched.watch_conditions.of(Kind.BROKERS_DOWN)
    assert f"No broker can be used: {finding}." in condition.detail
    assert remedy in condition.remedy
    assert ("It goes on by itself when they answer" in condition.remedy) is False


async def test_silence_is_no_refusal(watch: KafkaWatch, watched: Watched) -> None:
    """It ends by itself, as it always did."""
    watch.client_failed(KafkaError(KafkaError._TRANSPORT, "Connect to ipv4#127.0.0.1:1 failed: Connection refused"))
    watch.client_failed(ALL_DOWN)
    (condition,) = watched.watch_conditions.of(Kind.BROKERS_DOWN)
    assert "No broker answers (_ALL_BROKERS_DOWN: 1/1 brokers are down)." in condition.detail
    assert "It goes on by itself when they answer." in condition.remedy
    assert watch.refused_since is None


def test_refusals_last_until_a_broker_answers_or_says_nothing(
    watch: KafkaWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Liveness counts from the first; a name that cannot be resolved beside them changes nothing."""
    now = 1_000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    since = []
    for cause in (NAME, LOGIN, TLS, NAME, LOGIN):
        watch.client_failed(cause)
        since.append(watch.refused_since)
        now += 30
    assert [None, 1_030.0, 1_030.0, 1_030.0, 1_030.0] == since
    watch.heard()
    since = [watch.refused_since]
    now += 1
    watch.client_failed(LOGIN)
    since.append(watch.refused_since)
    now += module.CAUSE_SECONDS + 1
    since.append(watch.refused_since)
    assert [None, 1_151.0, None] == since, "a broker has answered; it refuses; all are silent"


async def test_partition_without_leader_and_topic_that_is_gone(
    watch: KafkaWatch, watched: Watched, cluster: Cluster
) -> None:
    """Each with its subject, and over when it is back."""
    cluster.leader = None
    await watch.look()
    assert ["orders/0"] == [one.subject for one in watched.watch_conditions.of(Kind.NO_LEADER)]
    cluster.leader = 2
    await watch.look()
    cluster.topic_error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    await watch.look()
    assert ["orders"] == [one.subject for one in watched.watch_conditions.of(Kind.TOPIC_GONE)]
    cluster.topic_error = None
    await watch.look()
    assert set() == kinds(watched)


async def test_end_that_is_old_is_said(watch: KafkaWatch, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody takes the lag for known."""
    await watch.look()
    watch.ends[ORDERS] = (10, watch.ends[ORDERS][1] - module.END_OLD_SECONDS - 1)
    monkeypatch.setattr(module, "ENDS_SECONDS", 1e9)
    watch._ends_at = watch.ends[ORDERS][1] + module.END_OLD_SECONDS
    await watch.look()
    assert {Kind.END_OFFSETS_OLD} == kinds(watched)
    watch.forget([ORDERS])
    assert set() == kinds(watched)


@pytest.mark.parametrize("stopping", [True, False])
def test_nothing_is_called_over_because_the_worker_stops(
    watch: KafkaWatch, watched: Watched, caplog: pytest.LogCaptureFixture, stopping: bool
) -> None:
    """A topic that is held is still so after it; partitions that go elsewhere are another matter."""
    watched.watch_conditions.begin(Kind.TOPIC_RECREATED, "It is so.", "Act.", subject="orders")
    watched.watch_conditions.begin(Kind.NO_LEADER, "It is so.", "Act.", subject=str(ORDERS))
    watched.assigned_epochs = {}
    watch.forget([ORDERS], stopping=stopping)
    assert set() == kinds(watched)
    assert stopping is ("is over" not in caplog.text)


async def test_outage_is_told_once(
    watch: KafkaWatch, watched: Watched, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old ends and a group that cannot be joined follow from it; once it is over, they get their time again."""
    now = 1_000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    watch.subscribed(["orders"])
    await watch.look()
    watched.joined = False
    cluster.ends_fail, cluster.nobody = KafkaError(KafkaError._TIMED_OUT), True
    for _ in range(10):
        await watch.look()
        assert {Kind.BROKERS_DOWN} == kinds(watched)
        now += 10
    cluster.nobody = False  # they answer, and not about the ends: leaders are still being chosen
    await watch.look()
    assert set() == kinds(watched)
    now += module.END_OLD_SECONDS + 1
    await watch.look()
    assert {Kind.END_OFFSETS_OLD, Kind.NOT_JOINED} == kinds(watched)


@pytest.mark.parametrize("kind", [Kind.NO_LEADER, Kind.TOPIC_GONE])
async def test_old_end_that_is_explained_is_not_told(watch: KafkaWatch, watched: Watched, kind: Kind) -> None:
    """Who knows that a leader or a topic is missing learns nothing more from it."""
    await watch.look()
    watch.ends[ORDERS] = (10, watch.ends[ORDERS][1] - module.END_OLD_SECONDS - 1)
    subject = str(ORDERS) if kind is Kind.NO_LEADER else ORDERS.topic
    watched.watch_conditions.begin(kind, "It is so.", "Act.", subject=subject)
    watch._note_old_ends()
    assert {kind} == kinds(watched)
    watched.watch_conditions.end(kind, subject)
    watch._note_old_ends()
    assert {Kind.END_OFFSETS_OLD} == kinds(watched)


async def test_group_that_does_not_take_it_in_is_said_with_the_reason(watch: KafkaWatch, watched: Watched) -> None:
    """At once where the brokers say why, and after half a minute where they do not."""
    watched.joined = False
    await watch.look()
    assert set() == kinds(watched), "a dead member may hold the group up for a while"
    watch.client_failed(KafkaError(KafkaError.INCONSISTENT_GROUP_PROTOCOL))
    watch._look_at_group()
    assert {Kind.NOT_JOINED} == kinds(watched)


async def test_reason_why_it_has_not_joined_lasts_until_it_has(watch: KafkaWatch, watched: Watched) -> None:
    """Looking again does not replace it by the general one; the next time has a reason of its own."""
    watch.not_joined("its id is another's", "Give it its own.")
    await watch.look()
    (said,) = watched.watch_conditions.of(Kind.NOT_JOINED)
    assert ("its id is another's" in said.detail, said.remedy, said.blocks_readiness) == (
        True,
        "Give it its own.",
        True,
    )
    watched.joined = True
    watched.watch_conditions.end(Kind.NOT_JOINED)
    await watch.look()
    watch.client_failed(KafkaError(KafkaError.INCONSISTENT_GROUP_PROTOCOL))
    await watch.look()
    (said,) = watched.watch_conditions.of(Kind.NOT_JOINED)
    assert module.JOIN_REMEDY == said.remedy


async def test_brokers_that_are_away_are_not_there_for_leaders_that_were_known(
    watch: KafkaWatch, watched: Watched, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka answers at once, for each partition, that it finds no leader: nobody has said anything."""

    async def nobody_leads(partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Any]:
        return dict.fromkeys(partitions, KafkaError(KafkaError._NOENT))

    monkeypatch.setattr(cluster, "ends", nobody_leads)
    cluster.nobody = True
    watch.client_failed(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    await watch.look()
    assert {Kind.BROKERS_DOWN} == kinds(watched)
    assert watch.brokers_answered is None


async def test_batch_that_cannot_be_unpacked_is_said_until_the_position_moves(
    watch: KafkaWatch, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka tries again several times a second, for ever."""
    now = 1_000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    damaged = KafkaError(KafkaError._BAD_COMPRESSION)
    watch.partition_failed(ORDERS, damaged)
    assert set() == kinds(watched), "it may be a passing trouble"
    now += module.UNREADABLE_SECONDS
    watch.partition_failed(ORDERS, damaged)
    (said,) = watched.watch_conditions.of(Kind.UNREADABLE)
    assert ("orders/0", True) == (said.subject, "offset 5" in said.detail)
    watched.watermarks[ORDERS].advance(6)
    await watch.look()
    assert set() == kinds(watched)


@pytest.fixture
def stuck(watch: KafkaWatch, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often a new consumer was asked for; a partition is silent as soon as it was seen twice at one position."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 1e-9)
    asked: list[str] = []
    watch.stuck = lambda: asked.append("a new consumer")
    return asked


async def test_recreated_topic_that_gives_nothing_takes_one_new_consumer(
    watch: KafkaWatch, cluster: Cluster, stuck: list[str]
) -> None:
    """Its position is 5, its end 10. The new consumer knows nothing of the former topic, so it is not replaced."""
    await watch.look()
    cluster.topic_id = "another"
    for _ in range(5):
        await watch.look()
    assert ["a new consumer"] == stuck


async def test_recreated_topic_that_is_read_is_left_alone(
    watch: KafkaWatch, watched: Watched, cluster: Cluster, stuck: list[str]
) -> None:
    """Events come; then none is left; then nobody wants them."""
    await watch.look()
    cluster.topic_id = "another"
    for position in (6, 7, 10, 10):
        watched.watermarks[ORDERS].position = position
        await watch.look()
    watched.watermarks[ORDERS].position, watched.taking = 7, False
    for _ in range(3):
        await watch.look()
    assert [] == stuck


@pytest.mark.parametrize(
    ("passed_events", "size_bytes", "expected"),
    [(2_000, 1, []), (20_000, 1, ["a new consumer"]), (3, 1_000_000, []), (4, 1_000_000, ["a new consumer"])],
)
async def test_backlog_of_others_neither_hides_a_silent_partition_nor_makes_one(
    watch: KafkaWatch,
    watched: Watched,
    cluster: Cluster,
    stuck: list[str],
    passed_events: int,
    size_bytes: int,
    expected: list[str],
) -> None:
    """There is never room. What is read comes once librdkafka's queue before it has been taken."""
    room = watched.room
    room.took(1_000_000)
    await watch.look()
    cluster.topic_id = "another"
    await watch.look()
    for _ in range(passed_events):
        room.took(size_bytes)
        room.let_go(1, size_bytes)
    for _ in range(3):
        await watch.look()
    assert expected == stuck


async def test_full_room_that_takes_nothing_makes_no_partition_silent(
    watch: KafkaWatch, watched: Watched, cluster: Cluster, stuck: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 is away for as long as it likes; the time counts once there is room again, and starts then."""
    now = 1_000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    monkeypatch.setattr(module, "SILENT_SECONDS", 10.0)
    watched.room.took(1_000_000)
    await watch.look()
    cluster.topic_id = "another"
    for _ in range(30):
        now += 2
        await watch.look()
    watched.room.let_go(1, 1_000_000)
    for _ in range(5):
        now += 2
        await watch.look()
    assert [] == stuck
    now += 2
    await watch.look()
    assert ["a new consumer"] == stuck


async def test_topic_that_is_still_the_same_is_left_alone(
    watch: KafkaWatch, watched: Watched, cluster: Cluster, stuck: list[str]
) -> None:
    """An open transaction holds events back, for as long as it likes."""
    for _ in range(5):
        await watch.look()
    assert [] == stuck


async def test_silent_partition_of_somebody_else_is_forgotten(
    watch: KafkaWatch, watched: Watched, cluster: Cluster, stuck: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes back at the same position: the time away does not count."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 60.0)
    await watch.look()
    cluster.topic_id = "another"
    await watch.look()
    watch.forget([ORDERS])
    monkeypatch.setattr(module, "SILENT_SECONDS", 1e-9)
    await watch.look()
    assert [] == stuck
