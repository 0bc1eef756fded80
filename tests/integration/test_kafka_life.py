"""Ordinary life in a Kafka cluster: brokers, topics and groups come, go and move; nothing stops, rewinds or overwrites.

On real brokers, three where it takes three. Each test ends with what must be in the bucket and what must be committed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, OffsetSpec

from streams.kafka.admin import KafkaAdmin
from streams.record import TopicPartition
from streams.settings import Settings
from tests.conftest import require, show_on_failure
from tests.integration.conftest import RunCommand, StartWorker
from tests.integration.logins import sasl
from tests.integration.test_faults import messages, spread
from tests.services.archive import Archive, next_offsets
from tests.services.install import KAFKA
from tests.services.kafka import STRANGER, KafkaBroker
from tests.services.kafka_cluster import KafkaCluster
from tests.services.kafka_proxy import Level, ProxiedBroker
from tests.services.producer import EventProducer, Expected
from tests.services.s3 import S3Server
from tests.services.s3_faults import SERVICE_UNAVAILABLE, Delay, S3Request, matching
from tests.services.s3_proxy import S3FaultProxy
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

pytestmark = [pytest.mark.fault, pytest.mark.kafka, pytest.mark.timeout(240)]

SESSION = {"STREAMS_KAFKA_SESSION_TIMEOUT_SECONDS": "6"}
PROTOCOLS = pytest.mark.parametrize("protocol", ["classic", "consumer"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Three plain brokers; a test that stops one starts it again."""
    require(KAFKA)
    with KafkaCluster(tmp_path_factory.mktemp("cluster"), secure=False) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def brokers_run_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test has done to the cluster's brokers is undone."""
    yield
    if "cluster" not in request.fixturenames:
        return
    cluster: KafkaCluster = request.getfixturevalue("cluster")
    for node in cluster.nodes:
        node.thaw()
        if not node.running:
            node.start()
    show_on_failure(request, cluster.log_tail)


def servers(cluster: KafkaCluster, protocol: str = "classic") -> dict[str, str]:
    return {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": cluster.addresses("PLAINTEXT")} | _group(protocol)


def on(broker: KafkaBroker, protocol: str = "classic") -> dict[str, str]:
    return {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers} | _group(protocol)


def _group(protocol: str) -> dict[str, str]:
    return SESSION if protocol == "classic" else {"STREAMS_KAFKA_GROUP_PROTOCOL": protocol}


def delete(admin: AdminClient, topic: str) -> None:
    admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics, 30, f"{topic} is still there", 0.1)


def conditions(worker: WorkerProcess) -> dict[str, dict[str, Any]]:
    """What the worker says is not as it should be, by kind."""
    return {one["kind"]: one for one in worker.stats()["conditions"]}


def wait_condition(worker: WorkerProcess, kind: str, timeout_seconds: float = 30, *, active: bool = True) -> None:
    wait_until(
        lambda: (kind in conditions(worker)) is active,
        timeout_seconds,
        lambda: f"{kind} active: {not active}, {conditions(worker)}\n{worker.log_tail(30)}",
        0.2,
    )


def wait_committed(
    broker: KafkaBroker, group: str, expected: Mapping[tuple[str, int], int], seconds: float = 60
) -> None:
    def found() -> dict[tuple[str, int], int]:
        return {tp: offset for tp, offset in broker.committed_offsets(group).items() if tp in expected}

    wait_until(lambda: found() == dict(expected), seconds, lambda: f"committed {found()}, expected {expected}", 0.2)


class Load:
    """Publishes to each partition of a topic at a steady rate, until it is stopped; what Kafka has taken."""

    def __init__(self, servers: str, topic: str, partitions: list[int], per_second: int) -> None:
        self.expected: Expected = {}
        self._producer = EventProducer(servers, {"message.timeout.ms": 120_000})
        self._topic, self._partitions, self._per_second = topic, partitions, per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.2):
            for partition in self._partitions:
                share = max(1, self._per_second // 5 // len(self._partitions))
                self.expected |= self._producer.produce(self._topic, messages(share, number), partition=partition)
                number += share


@PROTOCOLS
def test_leaderless_partitions_hold_up_no_others(
    protocol: str, cluster: KafkaCluster, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """One broker of three stops; workers come and go meanwhile. All other partitions go on, these when it is back."""
    topic = f"leaderless-{protocol}"
    cluster.create_topic(topic, 6, replicas=1)
    victim = cluster.nodes[0]
    if cluster.coordinator(group) is victim:
        victim = cluster.nodes[1]
    headless = [number for number in range(6) if cluster.leader(topic, number) is victim]
    others = [number for number in range(6) if number not in headless]
    assert 2 == len(headless)
    settings = servers(cluster, protocol)
    first, second = start_worker(topic, settings), start_worker(topic, settings)
    expected = spread(EventProducer(cluster.addresses("PLAINTEXT")).produce, topic, 6, 600)
    wait_committed(cluster.any, group, next_offsets(expected))
    with Load(cluster.addresses("PLAINTEXT"), topic, others, 100) as load:
        victim.kill()
        wait_until(lambda: _without_leader([first, second]) == set(headless), 60, first.log_tail, 0.5)
        third = start_worker(topic, settings)
        _wait_caught_up(cluster.any, group, load, "while a third worker is there")
        third.terminate()
        assert 0 == third.wait(30), third.log_tail()
        _wait_caught_up(cluster.any, group, load, "after it has left")
    expected |= load.expected
    going_on = {tp: offset for tp, offset in next_offsets(expected).items() if tp[1] in others}
    wait_committed(cluster.any, group, going_on, 60)
    victim.start()
    expected |= spread(EventProducer(cluster.addresses("PLAINTEXT")).produce, topic, 6, 600, 50_000)
    wait_committed(cluster.any, group, next_offsets(expected), 60)
    archive.assert_complete(expected)
    for worker in (first, second):
        wait_condition(worker, "partition_without_leader", active=False)


def _without_leader(workers: list[WorkerProcess]) -> set[int]:
    """The partitions that the workers say have none."""
    found = [one for worker in workers for one in worker.stats()["conditions"]]
    return {int(one["subject"].split("/")[1]) for one in found if one["kind"] == "partition_without_leader"}


def _wait_caught_up(broker: KafkaBroker, group: str, load: Load, when: str) -> None:
    """What the load has published by now is committed soon, partition by partition, although the load goes on."""
    published = next_offsets(dict(load.expected))

    def is_there() -> bool:
        committed = broker.committed_offsets(group)
        return all(committed.get(tp, 0) >= offset for tp, offset in published.items())

    wait_until(is_there, 60, lambda: f"{when}: {published}, committed {broker.committed_offsets(group)}", 0.5)


@PROTOCOLS
def test_partitions_that_are_not_begun_move_without_ending_the_worker(
    protocol: str, own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """A held topic is assigned, not read; a second worker takes half of it, leaves, and the first has all again."""
    own_broker.create_topic("events", 4)
    first_life = spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 4, 400)
    worker = start_worker("events", on(own_broker, protocol))
    wait_committed(own_broker, group, next_offsets(first_life))
    worker.terminate()
    assert 0 == worker.wait(20), worker.log_tail()
    _delete_and_create(own_broker, "events", 4)
    first = start_worker("events", on(own_broker, protocol), wait=False)
    wait_until(lambda: _answers(first), 30, first.log_tail)
    wait_condition(first, "topic_recreated")
    second = start_worker("events", on(own_broker, protocol), wait=False)
    wait_until(lambda: _answers(second) and len(second.stats()["partitions"]) == 2, 60, second.log_tail)
    wait_until(lambda: len(first.stats()["partitions"]) == 2, 30, first.log_tail)
    second.terminate()
    assert 0 == second.wait(20), second.log_tail()
    wait_until(lambda: len(first.stats()["partitions"]) == 4, 60, first.log_tail)
    archive.assert_complete(first_life)


@PROTOCOLS
def test_partition_that_left_a_full_worker_is_read_when_it_is_back(
    protocol: str,
    own_broker: KafkaBroker,
    start_worker: StartWorker,
    archive: Archive,
    group: str,
    s3_proxy: S3FaultProxy,
) -> None:
    """S3 fails until everything is paused for want of room; partitions move away, S3 is back, and so are they."""
    own_broker.create_topic("events", 4)
    produce = EventProducer(own_broker.bootstrap_servers).produce
    expected = spread(produce, "events", 4, 12_000)
    s3_proxy.rule = matching("^events/", SERVICE_UNAVAILABLE)
    settings = on(own_broker, protocol) | {
        "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url,
        "STREAMS_MAX_IN_FLIGHT": "50",
        "STREAMS_RETRY_MAX_SECONDS": "1",
    }
    first = start_worker("events", settings)
    wait_until(lambda: first.stats()["buffer"]["events"] > 1_000, 60, first.log_tail)
    time.sleep(2)  # no room for long enough to pause what is read
    second = start_worker("events", settings)
    wait_until(lambda: len(second.stats()["partitions"]) == 2, 60, second.log_tail)
    s3_proxy.rule = None
    wait_committed(own_broker, group, next_offsets(expected), 90)
    second.terminate()
    assert 0 == second.wait(20), second.log_tail()
    wait_until(lambda: len(first.stats()["partitions"]) == 4, 60, first.log_tail)
    expected |= spread(produce, "events", 4, 400, 50_000)
    wait_committed(own_broker, group, next_offsets(expected))
    archive.assert_complete(expected)


def test_events_that_were_read_of_a_topic_before_it_was_recreated_are_written(
    own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, s3_proxy: S3FaultProxy
) -> None:
    """Only this worker has them still: Kafka has forgotten them with the topic."""
    own_broker.create_topic("events", 1)
    expected = spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 1, 1_000)
    s3_proxy.rule = matching("^events/", Delay(1.0))
    settings = {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url, "STREAMS_MAX_IN_FLIGHT": "50"}
    worker = start_worker("events", on(own_broker) | settings)
    wait_until(lambda: worker.stats()["partitions"][0]["position"] == 1_000, 60, worker.log_tail)
    _delete_and_create(own_broker, "events")
    assert worker.stats()["buffer"]["events"] > 100, "all is written already: nothing is shown"
    wait_condition(worker, "topic_recreated")
    s3_proxy.rule = None
    wait_until(lambda: worker.stats()["buffer"]["events"] == 0, 60, worker.log_tail)
    archive.assert_complete(expected)


def test_events_of_a_recreated_topic_are_written_though_the_worker_stops(
    own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, s3_proxy: S3FaultProxy
) -> None:
    """Of 1,000 events 50 are in flight at SIGTERM; the others are queued, and nobody will ever deliver them again."""
    expected, worker = _recreated_while_it_is_read(own_broker, start_worker, s3_proxy, 1)
    worker.terminate()
    time.sleep(1)
    s3_proxy.rule = None
    assert 0 == worker.wait(60), worker.log_tail()
    archive.assert_complete(expected)


@PROTOCOLS
def test_events_of_a_recreated_topic_are_written_though_its_partitions_move(
    protocol: str, own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, s3_proxy: S3FaultProxy
) -> None:
    """A second worker takes half of the new topic's partitions; the first one finishes all of the old topic."""
    expected, first = _recreated_while_it_is_read(own_broker, start_worker, s3_proxy, 2, protocol)
    second = start_worker("events", on(own_broker, protocol), wait=False)
    wait_until(lambda: _answers(second) and len(second.stats()["partitions"]) == 1, 60, second.log_tail)
    assert first.stats()["buffer"]["events"] > 100, "all is written already: nothing is shown"
    s3_proxy.rule = None
    wait_until(lambda: first.stats()["buffer"]["events"] == 0, 60, first.log_tail)
    archive.assert_complete(expected)


def _recreated_while_it_is_read(
    broker: KafkaBroker, start_worker: StartWorker, proxy: S3FaultProxy, partitions: int, protocol: str = "classic"
) -> tuple[Expected, WorkerProcess]:
    """1,000 events that a worker has read and hardly written when it notices that their topic is another one now."""
    broker.create_topic("events", partitions)
    expected = spread(EventProducer(broker.bootstrap_servers).produce, "events", partitions, 1_000)
    proxy.rule = matching("^events/", Delay(1.0))
    settings = {
        "STREAMS_S3_ENDPOINT_URL": proxy.endpoint_url,
        "STREAMS_MAX_IN_FLIGHT": "50",
        "STREAMS_DRAIN_TIMEOUT_SECONDS": "40",
    }
    worker = start_worker("events", on(broker, protocol) | settings)
    wait_until(lambda: sum(one["position"] or 0 for one in worker.stats()["partitions"]) == 1_000, 60, worker.log_tail)
    _delete_and_create(broker, "events", partitions)
    wait_condition(worker, "topic_recreated")
    assert worker.stats()["buffer"]["events"] > 100, "all is written already: nothing is shown"
    return expected, worker


@PROTOCOLS
def test_partitions_that_stay_go_on_with_what_was_queued(
    protocol: str, own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """A worker with a backlog in memory gives partitions away: of those that stay each event is written, and once."""
    own_broker.create_topic("events", 4)
    expected = spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 4, 4_000)
    # Few writes at once, so that there is a backlog in the agents' queue at any moment.
    settings = {
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": own_broker.bootstrap_servers,
        "STREAMS_KAFKA_GROUP_PROTOCOL": protocol,
        "STREAMS_MAX_IN_FLIGHT": "2",
    }
    first = start_worker("events", settings)
    wait_until(lambda: first.stats()["totals"]["events"] > 300, 60, first.log_tail)
    second = start_worker("events", settings)
    wait_committed(own_broker, group, next_offsets(expected), 90)
    archive.assert_complete(expected)
    written = sum(int(worker.stats()["totals"]["events"]) for worker in (first, second))
    assert len(expected) == written, "events were written again, though nobody was killed"


@PROTOCOLS
def test_topic_deleted_under_load_holds_up_no_other(
    protocol: str, own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """The other topic's commits go on, the page says that the topic is gone, and SIGTERM ends with 0."""
    own_broker.create_topic("keep", 2)
    own_broker.create_topic("gone", 2)
    produce = EventProducer(own_broker.bootstrap_servers).produce
    expected = spread(produce, "keep", 2, 2_000)
    doomed = spread(produce, "gone", 2, 2_000)
    worker = start_worker("keep,gone", on(own_broker, protocol))
    with Load(own_broker.bootstrap_servers, "keep", [0, 1], 400) as load:
        wait_until(lambda: worker.stats()["totals"]["events"] > 3_000, 60, worker.log_tail)
        delete(own_broker.admin, "gone")
        wait_condition(worker, "topic_gone")
        time.sleep(3)  # the load goes on without the topic
    expected |= load.expected
    wait_committed(own_broker, group, next_offsets(expected), 30)
    wait_until(
        lambda: {"keep"} == {part["topic"] for part in worker.stats()["partitions"]}, 60, lambda: f"{worker.stats()}"
    )
    assert 200 == worker.get("/health/ready")[0], worker.get("/health/ready")
    worker.terminate()
    assert 0 == worker.wait(20), worker.log_tail()
    worker.start()  # a pod that restarts meanwhile: the others' topics are no reason to stay away
    expected |= spread(produce, "keep", 2, 200, 70_000)
    wait_committed(own_broker, group, next_offsets(expected), 60)
    wait_condition(worker, "topic_gone")
    written = {event.position for event in archive.events()}
    archive.assert_complete(expected | {place: content for place, content in doomed.items() if place in written})


def test_topic_recreated_while_no_worker_runs_is_held(
    own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """More events than before under the same name: nothing is overwritten, other topics go on, and it is said."""
    first_life = _recreate(own_broker, start_worker, group, 1_000, 1_500)
    other = spread(EventProducer(own_broker.bootstrap_servers).produce, "other", 1, 300)
    worker = start_worker("events,other", on(own_broker), wait=False)
    wait_until(lambda: _answers(worker), 30, worker.log_tail)
    wait_condition(worker, "topic_recreated")
    wait_committed(own_broker, group, next_offsets(other))
    archive.assert_complete(first_life | other)
    code, body = worker.get("/health/ready")
    assert (503, True) == (code, "topic_recreated" in body), body
    assert "STREAMS_ON_NEW_TOPIC" in worker.log()
    worker.terminate()
    assert 0 == worker.wait(20), worker.log_tail()


def test_topic_recreated_begins_another_life_where_it_may(
    own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """With STREAMS_ON_NEW_TOPIC=new-life both topics' events are in the bucket, each under its own names."""
    first_life = _recreate(own_broker, start_worker, group, 1_000, 1_500)
    worker = start_worker("events", on(own_broker) | {"STREAMS_ON_NEW_TOPIC": "new-life"})
    wait_committed(own_broker, group, {("events", 0): 1_500})
    tag = _topic_id(own_broker.admin, "events")[:8]
    found = {event.position: event.content[1] for event in archive.events() if "@" not in event.object_key}
    assert {place: content[1] for place, content in first_life.items()} == {place: found[place] for place in first_life}
    keys = archive.keys()
    assert 1_500 == sum(1 for key in keys if key.startswith(f"events@{tag}/"))
    worker.terminate()
    assert 0 == worker.wait(20), worker.log_tail()


def test_topic_recreated_while_another_worker_read_it_is_read(
    cluster: KafkaCluster, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """A worker that knew the topic, and has its partition again in its next life, reads that one.

    librdkafka goes on with the leader epochs of the topic before, which were higher, and reads nothing, without error.
    """
    topic, settings = "reborn", servers(cluster) | {"STREAMS_ON_NEW_TOPIC": "new-life"}
    cluster.create_topic(topic)
    producer = EventProducer(cluster.addresses("PLAINTEXT"))
    first_life = producer.produce(topic, messages(100, 0), partition=0)
    first = start_worker(topic, settings)
    wait_committed(cluster.any, group, {(topic, 0): 100})
    cluster.leader(topic, 0).restart()  # the leader changes, and its epoch grows
    first_life |= producer.produce(topic, messages(100, 100), partition=0)
    wait_committed(cluster.any, group, {(topic, 0): 200})
    first.freeze()
    second = start_worker(topic, settings)
    wait_until(lambda: len(second.stats()["partitions"]) == 1, 60, second.log_tail)
    first.thaw()
    wait_until(lambda: not first.stats()["partitions"], 30, first.log_tail)
    _recreate_at_once(cluster, topic)
    producer = EventProducer(cluster.addresses("PLAINTEXT"))
    producer.produce(topic, messages(50, 1_000), partition=0)
    wait_committed(cluster.any, group, {(topic, 0): 50}, 90)
    second.kill()
    producer.produce(topic, messages(50, 2_000), partition=0)
    wait_committed(cluster.any, group, {(topic, 0): 100}, 90)
    tag = _topic_id(cluster.any.admin, topic)[:8]
    keys = archive.keys()
    assert 100 == sum(key.startswith(f"{topic}@{tag}/") for key in keys)
    assert len(first_life) == sum(key.startswith(f"{topic}/") for key in keys)
    first.terminate()
    assert 0 == first.wait(20), first.log_tail()


def _recreate_at_once(cluster: KafkaCluster, topic: str) -> None:
    """Sooner than a client that does not read the topic looks whether it is there."""
    cluster.any.admin.delete_topics([topic])[topic].result(30)
    cluster.create_topic(topic)


@pytest.mark.parametrize("refilled", [100, 3_000])
def test_topic_recreated_under_a_running_worker_is_held(
    refilled: int, own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """Deleted and recreated within a second, with fewer and with more events: not one object is overwritten."""
    own_broker.create_topic("events", 1)
    first_life = spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 1, 1_000)
    worker = start_worker("events", on(own_broker))
    wait_committed(own_broker, group, {("events", 0): 1_000})
    _delete_and_create(own_broker, "events")
    EventProducer(own_broker.bootstrap_servers).produce("events", messages(refilled, 90_000), partition=0)
    wait_condition(worker, "topic_recreated")
    found = {event.position: event.content[1] for event in archive.events()}
    assert {place: content[1] for place, content in first_life.items()} == {place: found[place] for place in first_life}
    worker.terminate()
    assert 0 == worker.wait(20), worker.log_tail()


def _recreate(broker: KafkaBroker, start_worker: StartWorker, group: str, before: int, after: int) -> Expected:
    """A first life that was archived, then another topic of the name; what the first one left in the bucket."""
    broker.create_topic("events", 1)
    broker.create_topic("other", 1)
    first_life = spread(EventProducer(broker.bootstrap_servers).produce, "events", 1, before)
    worker = start_worker("events", on(broker))
    wait_committed(broker, group, {("events", 0): before})
    worker.terminate()
    assert 0 == worker.wait(20), worker.log_tail()
    _delete_and_create(broker, "events")
    EventProducer(broker.bootstrap_servers).produce("events", messages(after, 90_000), partition=0)
    return first_life


def _delete_and_create(broker: KafkaBroker, topic: str, partitions: int = 1) -> None:
    before = _topic_id(broker.admin, topic)
    delete(broker.admin, topic)
    broker.create_topic(topic, partitions)
    assert before != _topic_id(broker.admin, topic)


def _topic_id(admin: AdminClient, topic: str) -> str:
    from confluent_kafka import TopicCollection

    found = admin.describe_topics(TopicCollection([topic]))[topic].result(30)
    return str(found.topic_id).replace("+", "-").replace("/", "_")  # as Kafka's own tools show it


def _answers(worker: WorkerProcess) -> bool:
    try:
        worker.stats()
    except (OSError, AssertionError):
        return False
    return True


def test_outage_of_the_only_broker_is_said_and_ends_by_itself(
    own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """Again and again: the page, `/stats`, readiness and the log say so meanwhile, lag is unknown, and it ends."""
    own_broker.create_topic("events", 2)
    worker = start_worker("events", on(own_broker))
    expected: Expected = {}
    for outage in range(3):
        expected |= spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 2, 600, outage * 600)
        wait_committed(own_broker, group, next_offsets(expected))
        own_broker.kill()
        wait_condition(worker, "kafka_unreachable", 20)
        stats = worker.stats()
        assert "disconnected" == stats["state"], stats["state"]
        code, body = worker.get("/health/ready")
        assert (503, True) == (code, "kafka_unreachable" in body), body
        assert 200 == worker.get("/health/live")[0]
        assert "nothing is at risk" not in worker.get("/")[1].lower()
        own_broker.start()
        wait_condition(worker, "kafka_unreachable", 30, active=False)
        wait_until(worker.ready, 30, worker.log_tail)
    expected |= spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 2, 600, 9_000)
    wait_committed(own_broker, group, next_offsets(expected))
    archive.assert_complete(expected)
    assert 3 == worker.log().count("kafka_unreachable is over")
    assert "end_offsets_old" not in worker.log(), "the outage says it"
    assert "[^-StreamsApp]" not in worker.log(), "Faust's own lines are quiet"


def test_lag_is_unknown_while_the_broker_is_frozen(
    own_broker: KafkaBroker, start_worker: StartWorker, group: str
) -> None:
    """A broker that accepts connections and answers nothing: lag is not shown as a number that may be wrong."""
    own_broker.create_topic("events", 1)
    worker = start_worker("events", on(own_broker))
    expected = spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 1, 100)
    wait_committed(own_broker, group, next_offsets(expected))
    own_broker.freeze()
    wait_condition(worker, "kafka_unreachable", 40)
    wait_until(lambda: worker.stats()["lag"] is None, 60, lambda: f"{worker.stats()['lag']}")
    assert {"kafka_unreachable"} == conditions(worker).keys(), "one condition says it all"
    own_broker.thaw()
    wait_until(lambda: worker.stats()["lag"] == 0, 60, worker.log_tail)


async def test_offset_of_a_frozen_leader_is_an_error(own_broker: KafkaBroker) -> None:
    """Never a number: it would say that a partition is empty, and a proof would go on from there."""
    own_broker.create_topic("events", 1)
    spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 1, 100)
    tp = TopicPartition("events", 0)
    servers = own_broker.bootstrap_servers
    admin = KafkaAdmin(Settings(kafka_bootstrap_servers=servers, topics="events", consumer_group="g", s3_bucket="none"))
    assert {tp: 100} == await admin.ends([tp])
    own_broker.freeze()
    for spec in (OffsetSpec.latest(), OffsetSpec.earliest(), OffsetSpec.for_timestamp(1)):
        try:
            answer = (await admin.offsets([tp], spec))[tp]
        except KafkaException:
            continue
        assert isinstance(answer, KafkaError)


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_partition_of_a_frozen_leader_is_never_proved(
    moment: str,
    cluster: KafkaCluster,
    start_worker: StartWorker,
    run_command: RunCommand,
    s3_proxy: S3FaultProxy,
    s3_server: S3Server,
    bucket: str,
    group: str,
) -> None:
    """One broker of three hangs before verify begins, or when it lists the bucket: exit code 2, whatever is there."""
    topic = f"frozen-{moment}"
    cluster.create_topic(topic, 6, replicas=1)
    settings = servers(cluster)
    expected = spread(EventProducer(cluster.addresses("PLAINTEXT")).produce, topic, 6, 600)
    worker = start_worker(topic, settings)
    wait_committed(cluster.any, group, next_offsets(expected))
    worker.terminate()
    assert 0 == worker.wait()
    run_command("verify", topics=topic, settings=settings, check=0)
    coordinator = cluster.coordinator(group)
    led = {number: cluster.leader(topic, number) for number in range(6)}
    partition, victim = next((number, node) for number, node in led.items() if node is not coordinator)
    # Without its object, and without a ledger, Kafka is asked whether the first event ever was one.
    s3_server.client.delete_object(Bucket=bucket, Key=f"{topic}/{partition}/{0:020d}.json")

    def freeze(request: S3Request) -> None:
        if "list-type" in request.query:  # all offsets have been asked for by then
            victim.freeze()

    if moment == "before":
        victim.freeze()
    else:
        s3_proxy.rule = freeze
    through_proxy = {**settings, "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url}
    done = run_command("verify", "--no-ledger", topics=topic, settings=through_proxy, check=2)
    assert "PROVED" not in done.stdout
    if moment == "meanwhile":
        assert f"({topic}/{partition}): no answer." in done.stderr
    else:  # it may be the one that is asked for the topic, or be missed by the others already
        assert "no answer." in done.stderr or f"({topic}/{partition}): it has no leader" in done.stderr


def test_coordinator_that_dies_rewinds_nothing(
    cluster: KafkaCluster, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """Whichever broker coordinates the group is killed while workers join: no committed offset ever falls."""
    topic = "coordinated"
    cluster.create_topic(topic, 4)
    settings = servers(cluster)
    expected = spread(EventProducer(cluster.addresses("PLAINTEXT")).produce, topic, 4, 2_000)
    first = start_worker(topic, settings)
    wait_committed(cluster.any, group, next_offsets(expected))
    floor = cluster.any.committed_offsets(group)
    for _ in range(2):
        coordinator = cluster.coordinator(group)
        joining = start_worker(topic, settings, wait=False)
        coordinator.kill()
        expected |= spread(EventProducer(cluster.addresses("PLAINTEXT")).produce, topic, 4, 400, 10_000)
        wait_committed(cluster.any, group, next_offsets(expected), 90)
        coordinator.start()
        committed = cluster.any.committed_offsets(group)
        assert all(committed[tp] >= offset for tp, offset in floor.items()), (floor, committed)
        floor = committed
        joining.kill()
    archive.assert_complete(expected)
    total = first.stats()["totals"]["events"]
    assert total <= len(expected) * 1.2, "events were written again, far beyond what was in flight"


def test_damaged_event_is_never_archived_as_whole(
    own_broker: KafkaBroker, start_worker: StartWorker, run_command: RunCommand, archive: Archive, group: str
) -> None:
    """A byte on the broker's disk flips: brokers leave the checksum to whoever reads.

    It is said, nothing is committed past it, and `verify` speaks of the events before it alone.
    """
    topic = "damaged"
    own_broker.create_topic(topic, 1)
    producer = EventProducer(own_broker.bootstrap_servers, {"linger.ms": 0})
    for number in range(10):
        producer.produce(topic, [b"amount=100 #%d" % number], partition=0)
    own_broker.stop()
    (segment,) = (own_broker.directory / "data" / f"{topic}-0").glob("*.log")
    stored = segment.read_bytes()
    assert 1 == stored.count(b"amount=100 #5")
    segment.write_bytes(stored.replace(b"amount=100 #5", b"amount=900 #5"))
    own_broker.start()
    settings = {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": own_broker.bootstrap_servers}
    worker = start_worker(topic, settings)
    wait_until(lambda: "partition_unreadable" in worker.log(), 40, worker.log_tail)
    assert own_broker.committed_offsets(group).get((topic, 0), 0) <= 5
    bodies = [archive.read(key).body for key in sorted(archive.keys())]
    assert not [body for body in bodies if b"900" in body]
    worker.terminate()
    assert 0 == worker.wait(30)
    done = run_command("verify", "--content", "10", topics=topic, settings=settings, check=0)
    assert "PROVED: all 5 events" in done.stdout


@pytest.fixture
def racks(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[KafkaCluster]:
    """Three plain brokers, each in a rack of its own and behind a proxy."""
    require(KAFKA)
    with KafkaCluster(tmp_path / "racks", secure=False, racks=True) as cluster:
        yield cluster
        show_on_failure(request, cluster.log_tail)


def test_follower_that_lags_or_lacks_the_position_ends_nothing(
    racks: KafkaCluster, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """A consumer in a rack is sent to its broker, which is no leader: what that one has not, the leader has (KIP-392).

    OFFSET_OUT_OF_RANGE from a follower says nothing about the topic: nothing is lost, held or begun again. One that
    stops is left alone, and what the leader takes meanwhile is read there.
    """
    topic = "followed"
    racks.create_topic(topic, 1)
    leading, coordinator = racks.leader(topic, 0), racks.coordinator(group)
    number = next(at for at, node in enumerate(racks.nodes) if node not in (leading, coordinator))
    follower, proxy = racks.nodes[number], racks.proxies[number]
    produce = EventProducer(racks.addresses("PLAINTEXT"), {"message.timeout.ms": 120_000}).produce
    settings = SESSION | {
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": ",".join(one.address for one in racks.proxies),
        "STREAMS_KAFKA_CLIENT_RACK": follower.rack,
    }
    worker = start_worker(topic, settings)
    expected = spread(produce, topic, 1, 300)
    wait_committed(leading, group, next_offsets(expected))
    fetches = proxy.fetches
    wait_until(lambda: proxy.fetches > fetches + 5, 30, "nothing is fetched from the follower")

    proxy.out_of_range = 3
    expected |= spread(produce, topic, 1, 200, 1_000)
    wait_until(lambda: proxy.out_of_range == 0, 60, lambda: f"{proxy.out_of_range} left")
    wait_committed(leading, group, next_offsets(expected))

    follower.freeze()
    expected |= spread(produce, topic, 1, 200, 2_000)
    # Asked of the worker: whoever asks Kafka for the offsets now may be asking the one that stands still.
    wait_until(lambda: worker.stats()["totals"]["events"] == len(expected), 90, worker.log_tail)
    follower.thaw()
    expected |= spread(produce, topic, 1, 100, 3_000)
    wait_committed(leading, group, next_offsets(expected))

    archive.assert_complete(expected)
    stats = worker.stats()
    assert (len(expected), "running") == (stats["totals"]["events"], stats["state"]), "events were written again"
    assert {"topic_recreated", "topic_gone"}.isdisjoint(conditions(worker))
    assert "left Kafka's retention" not in worker.log()
    worker.terminate()
    assert 0 == worker.wait(30), worker.log_tail()
    assert [None] * 3 == [one.problem for one in racks.proxies]


@pytest.mark.parametrize("level", ["group", "partition"])
def test_coordinator_that_is_loading_rewinds_nothing(
    level: Level, tmp_path: Path, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """It says so instead of the committed offsets: nothing is begun, no offset falls, nothing is written twice."""
    require(KAFKA)
    with ProxiedBroker(tmp_path / "kafka") as broker:
        broker.create_topic("events", 4)
        settings = SESSION | {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.proxy.address}
        produce = EventProducer(broker.bootstrap_servers).produce
        first = start_worker("events", settings)
        before = spread(produce, "events", 4, 800)
        wait_committed(broker, group, next_offsets(before))
        first.terminate()
        assert 0 == first.wait(30), first.log_tail()
        after = spread(produce, "events", 4, 400, 10_000)
        broker.proxy.loading = level
        second = start_worker("events", settings, wait=False)
        wait_until(lambda: _answers(second), 60, second.log_tail)
        wait_condition(second, "coordinator_unavailable", 60)
        told = broker.proxy.refused
        wait_until(lambda: broker.proxy.refused > told + 3, 30, second.log_tail)
        assert "4 partitions are not begun yet" in conditions(second)["coordinator_unavailable"]["detail"]
        assert "holding" == second.stats()["state"]
        assert 0 == second.stats()["totals"]["events"], "something was begun without a committed offset"
        wait_committed(broker, group, next_offsets(before), 1)
        broker.proxy.loading = None
        wait_committed(broker, group, next_offsets(before | after))
        archive.assert_complete(before | after)
        assert len(after) == second.stats()["totals"]["events"], "events were written again"
        wait_condition(second, "coordinator_unavailable", active=False)
        assert "position_unknown" not in second.log(), "one line for all partitions"
        second.terminate()
        assert 0 == second.wait(30), second.log_tail()
        assert broker.proxy.problem is None


def test_topics_made_under_a_pattern_are_read_while_workers_restart(
    own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """A topic every second while workers come and go: each of them is read in the end."""
    own_broker.create_topic("made-0", 2)
    settings = on(own_broker)
    workers = [start_worker("^made-.*", settings, app="tests.integration.apps.quick_topic_refresh") for _ in range(2)]
    produce = EventProducer(own_broker.bootstrap_servers).produce
    expected = spread(produce, "made-0", 2, 40)
    for number in range(1, 9):
        own_broker.create_topic(f"made-{number}", 2)
        expected |= spread(produce, f"made-{number}", 2, 40, number * 100)
        if number % 3 == 0:
            worker = workers[number // 3 % 2]
            worker.terminate()
            assert 0 == worker.wait(30), worker.log_tail()
            worker.start()
    wait_committed(own_broker, group, next_offsets(expected), 60)
    archive.assert_complete(expected)


def test_topic_that_grows_is_read_whole(
    own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """Partitions that are added while it runs are shared out and read from their first event."""
    own_broker.create_topic("events", 1)
    worker = start_worker("events", on(own_broker))
    expected = spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 1, 100)
    own_broker.admin.create_partitions([NewPartitions("events", 4)])["events"].result(30)
    expected |= spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 4, 400, 1_000)
    wait_committed(own_broker, group, next_offsets(expected), 90)
    archive.assert_complete(expected)
    assert 4 == len(worker.stats()["partitions"])


def test_compressed_events_stay_within_the_memory(
    own_broker: KafkaBroker,
    start_worker: StartWorker,
    archive: Archive,
    group: str,
    resident_mib: Callable[[int], float],
) -> None:
    """1,200 events of 950 KB of zeros, gzip: what is fetched stays bounded once it is decompressed."""
    own_broker.create_topic("zeros", 1)
    producer = EventProducer(own_broker.bootstrap_servers, {"compression.type": "gzip", "linger.ms": 0})
    producer.produce("zeros", [bytes(950_000)] * 1_200, partition=0)
    worker = start_worker("zeros", on(own_broker) | {"STREAMS_MAX_IN_FLIGHT_BYTES": "64MiB"})
    peak = 0.0
    deadline = time.monotonic() + 120
    while own_broker.committed_offsets(group).get(("zeros", 0)) != 1_200:
        assert time.monotonic() < deadline, worker.log_tail()
        peak = max(peak, resident_mib(worker.pid))
        time.sleep(0.05)
    assert peak < 400, f"{peak:.0f} MiB"


@pytest.fixture
def resident_mib() -> Callable[[int], float]:
    """A process's resident memory."""

    def read(pid: int) -> float:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * 4096 / 2**20

    return read


def test_small_batch_that_is_large_once_it_is_unpacked_is_archived(
    own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str
) -> None:
    """120 MB of zeros are 4 KB of zstd, which the broker takes; librdkafka's default limit is 100 MB unpacked."""
    own_broker.create_topic("events", 1)
    large = {"compression.type": "zstd", "message.max.bytes": 1_000_000_000}
    produce = EventProducer(own_broker.bootstrap_servers, large).produce
    expected = produce("events", [b"first", bytes(120_000_000)], partition=0) | produce(
        "events", [b"last"], partition=0
    )
    worker = start_worker("events", on(own_broker) | {"STREAMS_S3_REQUEST_TIMEOUT_SECONDS": "60"})
    wait_committed(own_broker, group, next_offsets(expected), 100)
    archive.assert_complete(expected)
    assert {} == conditions(worker)


def test_sigterm_while_it_waits_to_join(own_broker: KafkaBroker, start_worker: StartWorker) -> None:
    """A dead member keeps the group: whoever waits to join it leaves within two seconds all the same."""
    own_broker.create_topic("events", 1)
    settings = on(own_broker) | {"STREAMS_KAFKA_SESSION_TIMEOUT_SECONDS": "40"}
    first = start_worker("events", settings)
    first.kill()
    second = start_worker("events", settings, wait=False)
    wait_until(lambda: _answers(second), 30, second.log_tail)
    before = time.monotonic()
    second.terminate()
    assert 0 == second.wait(20), second.log_tail()
    assert time.monotonic() - before < 2.5


def test_second_sigterm_right_behind_the_first_is_the_same(own_broker: KafkaBroker, start_worker: StartWorker) -> None:
    """`timeout` sends two: the process still drains and ends with 0."""
    own_broker.create_topic("events", 1)
    worker = start_worker("events", on(own_broker))
    worker.terminate()
    worker.terminate()
    assert 0 == worker.wait(20), worker.log_tail()


@pytest.fixture
def static_member() -> dict[str, str]:
    """What makes a worker one; the brokers' session timeout cannot be set with the newer protocol (45 s)."""
    return {"STREAMS_KAFKA_GROUP_INSTANCE_ID": "pod-0"}


def test_static_member_that_was_killed_joins_when_it_is_missed(
    own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str, static_member: dict[str, str]
) -> None:
    """The newer protocol keeps its instance id for the dead one until the session timeout: a fatal error."""
    own_broker.create_topic("events", 2)
    producer = EventProducer(own_broker.bootstrap_servers)
    worker = start_worker("events", on(own_broker, "consumer") | static_member)
    expected = spread(producer.produce, "events", 2, 40)
    wait_committed(own_broker, group, next_offsets(expected))
    worker.kill()
    expected |= spread(producer.produce, "events", 2, 40, 40)
    worker.start()
    wait_until(lambda: _answers(worker), 30, worker.log_tail)
    wait_condition(worker, "group_not_joined")
    said = conditions(worker)["group_not_joined"]
    assert "instance id pod-0" in said["detail"], said
    assert said["blocks_readiness"]
    assert 503 == worker.get("/health/ready")[0]
    wait_condition(worker, "group_not_joined", 75, active=False)
    wait_committed(own_broker, group, next_offsets(expected))
    archive.assert_complete(expected)
    assert {} == conditions(worker)
    worker.terminate()
    assert 0 == worker.wait(20), worker.log_tail()


def test_second_worker_with_the_same_instance_id_ends_the_first(
    own_broker: KafkaBroker, start_worker: StartWorker, archive: Archive, group: str, static_member: dict[str, str]
) -> None:
    """It is fenced: it says so, and ends with 1, soon; the other has all partitions."""
    own_broker.create_topic("events", 2)
    first = start_worker("events", on(own_broker) | static_member)
    start_worker("events", on(own_broker) | static_member)
    assert 1 == first.wait(30), first.log_tail()
    assert "fenced: another worker has the same STREAMS_KAFKA_GROUP_INSTANCE_ID, pod-0" in first.log()
    expected = spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 2, 40)
    wait_committed(own_broker, group, next_offsets(expected))
    archive.assert_complete(expected)


@PROTOCOLS
def test_group_that_is_forbidden_under_a_worker_ends_it(
    protocol: str, secure_broker: KafkaBroker, start_worker: StartWorker, group: str
) -> None:
    """The first commit that is refused says it, long before the session is over: exit code 2."""
    topic = f"forbidden-{protocol}"
    secure_broker.create_topic(topic, 1)
    secure_broker.grant(STRANGER, topic=topic)
    secure_broker.grant(STRANGER, group=group)
    worker = start_worker(topic, sasl(secure_broker, "PLAIN", user=STRANGER) | _group(protocol))
    producer = EventProducer(secure_broker.bootstrap_servers)
    expected = producer.produce(topic, messages(5), partition=0)
    wait_committed(secure_broker, group, next_offsets(expected))
    secure_broker.revoke(STRANGER, group=group)
    producer.produce(topic, messages(5, 5), partition=0)
    assert 2 == worker.wait(10), worker.log_tail()
    assert "cannot go on: this user may not use the consumer group" in worker.log()
    assert 1 == worker.log().count("commits_refused: ")
