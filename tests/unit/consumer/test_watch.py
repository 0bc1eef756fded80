"""What the watch says of Kafka, and when it is over; what it does on brokers is in `tests/integration`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.consumer import watch as module
from streams.consumer.lives import TopicLives
from streams.consumer.watch import KafkaWatch
from streams.consumer.watermark import PartitionWatermark
from streams.kafka.admin import KafkaAdmin, Partition, Topic
from streams.record import TopicPartition
from streams.stats import Conditions, Kind

ORDERS = TopicPartition("orders", 0)


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
    watch = KafkaWatch(cast(KafkaAdmin, cluster), watched, watched.watch_conditions, lives)
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
    """Events come; then none is left; then there is no room for any, or nobody wants them."""
    await watch.look()
    cluster.topic_id = "another"
    for position in (6, 7, 10, 10):
        watched.watermarks[ORDERS].position = position
        await watch.look()
    watched.watermarks[ORDERS].position, watched.taking = 7, False
    for _ in range(3):
        await watch.look()
    assert [] == stuck


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
