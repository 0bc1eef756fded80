"""Kill it, cut it off, move it: every event ends up in S3 with its bytes, and the committed offsets are right.

Each test ends with the same proof (`assert_archived`), read with clients that are not the worker's own.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest

from tests.conftest import MakeTopic, Produce
from tests.integration.conftest import StartWorker
from tests.services.archive import Archive, next_offsets
from tests.services.kafka import KafkaBroker
from tests.services.producer import EventProducer, Expected
from tests.services.s3 import S3Server
from tests.services.s3_faults import (
    ACCESS_DENIED,
    EXPIRED_TOKEN,
    INTERNAL_ERROR,
    NO_SUCH_BUCKET,
    RESET,
    SLOW_DOWN,
    Delay,
    Fault,
    Hang,
    Reset,
    always,
    every,
    first_attempts,
    first_of,
    in_turn,
)
from tests.services.s3_proxy import S3FaultProxy
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

SHORT_SESSION = {"STREAMS_KAFKA_SESSION_TIMEOUT_SECONDS": "6"}
QUICK_RETRIES = {"STREAMS_RETRY_BASE_SECONDS": "0.05", "STREAMS_RETRY_MAX_SECONDS": "1"}

Assert = Callable[..., None]


def messages(count: int, start: int = 0) -> list[bytes]:
    """The benchmark's messages, each with its own bytes."""
    return [
        json.dumps({"message_id": number, "message_content": f"This is message {number}"}).encode()
        for number in range(start, start + count)
    ]


def spread(produce: Callable[..., Expected], topic: str, partitions: int, count: int, start: int = 0) -> Expected:
    """`count` messages, evenly over the partitions."""
    expected: Expected = {}
    for partition in range(partitions):
        share = messages(count // partitions, start + partition * (count // partitions))
        expected |= produce(topic, share, partition=partition)
    return expected


@pytest.fixture
def assert_archived(broker: KafkaBroker, archive: Archive, group: str) -> Assert:
    """The proof: waits until everything is committed, then compares every object with every event."""

    def check(expected: Expected, timeout_seconds: float = 60, of: KafkaBroker | None = None) -> None:
        kafka = of or broker
        wait_until(
            lambda: kafka.committed_offsets(group) == next_offsets(expected),
            timeout_seconds,
            lambda: f"committed {kafka.committed_offsets(group)}, expected {next_offsets(expected)}",
        )
        archive.assert_complete(expected)

    return check


def events_written(worker: WorkerProcess) -> int:
    """How many events this worker has made durable; 0 while it does not answer."""
    try:
        return int(worker.stats()["totals"]["events"])
    except (OSError, AssertionError):
        return 0


def wrote(proxy: S3FaultProxy, count: int) -> bool:
    """Whether S3 has been asked for so many writes."""
    return proxy.requests["PUT"] >= count


def wait_written(worker: WorkerProcess, count: int, timeout_seconds: float = 60) -> None:
    wait_until(lambda: events_written(worker) >= count, timeout_seconds, lambda: worker.log_tail(20), 0.05)


def wait_stats(worker: WorkerProcess, condition: Callable[[Mapping[str, Any]], Any], describe: str) -> None:
    wait_until(lambda: condition(worker.stats()), 60, lambda: f"{describe}\n{worker.stats()}\n{worker.log_tail(20)}")


def test_killed_again_and_again_loses_nothing(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    s3_proxy: S3FaultProxy,
    assert_archived: Assert,
) -> None:
    """`kill -9` of one of two workers, in turn, while 1 % of the writes take 3 s."""
    topic = make_topic(4)
    s3_proxy.rule = every(100, Delay(3))
    settings = {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url, "STREAMS_MAX_IN_FLIGHT": "40"} | SHORT_SESSION
    workers = [start_worker(topic, settings), start_worker(topic, settings)]
    expected = spread(produce, topic, 4, 8_000)
    for kill in range(5):
        wait_until(partial(wrote, s3_proxy, s3_proxy.requests["PUT"] + 1_000), 60, "no writes any more", 0.05)
        victim = workers[kill % 2]
        victim.kill()
        victim.start()
    assert_archived(expected, 120)
    assert s3_proxy.injected["Delay"] > 20
    assert s3_proxy.dropped > 0, "no write was waiting when its worker was killed: the test was not sensitive"


def test_sigterm_in_mid_flight_drains_and_commits(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    s3_proxy: S3FaultProxy,
    broker: KafkaBroker,
    archive: Archive,
    group: str,
    assert_archived: Assert,
) -> None:
    """SIGTERM: what is in flight becomes durable and is committed, code 0; the next worker writes only the rest."""
    topic = make_topic(2)
    expected = spread(produce, topic, 2, 2_000)
    s3_proxy.rule = always(Delay(0.5))
    worker = start_worker(topic, {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url, "STREAMS_MAX_IN_FLIGHT": "100"})
    wait_written(worker, 150)
    worker.terminate()
    assert worker.wait(20) == 0, worker.log_tail()
    written = {event.position for event in archive.events()}
    committed = broker.committed_offsets(group)
    assert sum(committed.values()) == len(written), "an exact drain: all that was written is committed, nothing else"
    s3_proxy.rule = None
    start_worker(topic)
    assert_archived(expected)


def test_second_sigterm_leaves_at_once(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_proxy: S3FaultProxy, assert_archived: Assert
) -> None:
    """Nobody waits for a drain twice; what was in flight is written by the next worker."""
    topic = make_topic(1)
    expected = spread(produce, topic, 1, 10)
    worker = start_worker(topic, {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url})
    wait_written(worker, 10)
    s3_proxy.rule = always(Hang(60))
    expected |= spread(produce, topic, 1, 200, 1_000)
    wait_until(lambda: s3_proxy.in_flight > 50, 30, worker.log_tail)
    worker.terminate()
    wait_until(lambda: "SIGTERM: stopping" in worker.log(), 10, worker.log_tail, 0.05)
    time.sleep(0.6)  # within half a second a second one is the same one
    before = time.monotonic()
    worker.terminate()
    assert worker.wait(5) == 128 + signal.SIGTERM
    assert time.monotonic() - before < 3
    start_worker(topic)
    assert_archived(expected)


@pytest.mark.parametrize("gone", ["s3", "kafka", "both"])
def test_drain_is_bounded_whatever_is_gone(
    gone: str,
    own_broker: KafkaBroker,
    s3_server: S3Server,
    s3_proxy: S3FaultProxy,
    start_worker: StartWorker,
    assert_archived: Assert,
) -> None:
    """With S3 or Kafka unreachable a worker leaves within its drain timeout, says so, and nothing is lost."""
    own_broker.create_topic("events", 1)
    expected = spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 1, 400)
    s3_proxy.rule = always(Delay(0.2))
    settings = {
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": own_broker.bootstrap_servers,
        "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url,
        "STREAMS_DRAIN_TIMEOUT_SECONDS": "6",
        "STREAMS_MAX_IN_FLIGHT": "50",
    } | SHORT_SESSION
    worker = start_worker("events", settings)
    wait_written(worker, 60)
    if gone in ("s3", "both"):
        s3_proxy.rule = always(Hang(60))
    if gone in ("kafka", "both"):
        own_broker.freeze()
    before = time.monotonic()
    worker.terminate()
    code = worker.wait(20)
    assert time.monotonic() - before < 8
    assert code == 1, worker.log_tail()
    own_broker.thaw()
    s3_proxy.rule = None
    start_worker("events", settings | {"STREAMS_S3_ENDPOINT_URL": s3_server.endpoint_url})
    assert_archived(expected, of=own_broker)


def test_workers_come_and_go(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    broker: KafkaBroker,
    group: str,
    assert_archived: Assert,
) -> None:
    """1 → 3 → 1 workers while events flow: every rebalance loses nothing, and every worker leaves with code 0."""
    topic = make_topic(6)
    expected = spread(produce, topic, 6, 3_000)
    settings = {"STREAMS_MAX_IN_FLIGHT": "50"} | SHORT_SESSION
    first = start_worker(topic, settings)
    others = [start_worker(topic, settings), start_worker(topic, settings)]
    wait_until(lambda: broker.group_members(group) == 3, 30, "three workers did not become members")
    expected |= spread(produce, topic, 6, 3_000, 3_000)
    wait_until(lambda: all(len(worker.stats()["partitions"]) == 2 for worker in [first, *others]), 30, first.log_tail)
    for worker in others:
        expected |= spread(produce, topic, 6, 600, 10_000)
        worker.terminate()
        assert worker.wait(30) == 0, worker.log_tail()
    wait_stats(first, lambda stats: len(stats["partitions"]) == 6, "the first worker has not got everything back")
    assert_archived(expected)


def test_killed_broker_is_waited_for(
    own_broker: KafkaBroker, s3_server: S3Server, start_worker: StartWorker, assert_archived: Assert
) -> None:
    """The broker dies in the middle and comes back: the worker goes on by itself."""
    own_broker.create_topic("events", 2)
    producer = EventProducer(own_broker.bootstrap_servers)
    expected = spread(producer.produce, "events", 2, 3_000)
    worker = start_worker("events", {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": own_broker.bootstrap_servers} | SHORT_SESSION)
    wait_written(worker, 500)
    own_broker.kill()
    time.sleep(5)  # the outage itself: longer than a heartbeat
    own_broker.start()
    expected |= spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 2, 1_000, 3_000)
    assert_archived(expected, 90, of=own_broker)
    assert worker.running


def test_frozen_broker_is_waited_for(
    own_broker: KafkaBroker, start_worker: StartWorker, assert_archived: Assert
) -> None:
    """The broker answers nothing for longer than the session timeout, then goes on: so does the worker."""
    own_broker.create_topic("events", 2)
    expected = spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 2, 3_000)
    worker = start_worker("events", {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": own_broker.bootstrap_servers} | SHORT_SESSION)
    wait_written(worker, 500)
    own_broker.freeze()
    time.sleep(9)  # the freeze itself: longer than the session timeout
    own_broker.thaw()
    expected |= spread(EventProducer(own_broker.bootstrap_servers).produce, "events", 2, 1_000, 3_000)
    assert_archived(expected, 90, of=own_broker)
    assert worker.running


@pytest.mark.parametrize("client", ["obstore", "aiobotocore"])
def test_every_kind_of_s3_trouble_is_survived(
    client: str,
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    s3_proxy: S3FaultProxy,
    assert_archived: Assert,
) -> None:
    """503, 500, resets, time-outs, and an answer that is lost after the write, in turn, on every tenth request."""
    topic = make_topic(2)
    expected = spread(produce, topic, 2, 2_000)
    faults: list[Fault] = [SLOW_DOWN, INTERNAL_ERROR, RESET, Hang(4), Reset(after_write=True)]
    s3_proxy.rule = in_turn(10, faults)
    settings = {
        "STREAMS_S3_CLIENT": client,
        "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url,
        "STREAMS_S3_CONNECT_TIMEOUT_SECONDS": "1",
        "STREAMS_S3_REQUEST_TIMEOUT_SECONDS": "2",
        "STREAMS_MAX_IN_FLIGHT": "100",
    } | QUICK_RETRIES
    worker = start_worker(topic, settings)
    assert_archived(expected, 90)
    retries = worker.stats()["totals"]["retries"]
    assert {"throttled", "server_error", "connection", "timeout"} <= set(retries), retries


def test_s3_gone_for_longer_than_the_session(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    s3_proxy: S3FaultProxy,
    broker: KafkaBroker,
    group: str,
    assert_archived: Assert,
) -> None:
    """While S3 is away the worker holds, stays in its group, is alive, says so, and goes on by itself."""
    topic = make_topic(2)
    expected = spread(produce, topic, 2, 1_000)
    settings = {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url} | SHORT_SESSION | QUICK_RETRIES
    worker = start_worker(topic, settings)
    wait_written(worker, 100)
    s3_proxy.disconnect()
    expected |= spread(produce, topic, 2, 1_000, 1_000)
    wait_stats(worker, lambda stats: stats["state"] == "holding", "the worker does not say that it holds")
    time.sleep(10)  # the outage itself: longer than the session timeout
    stats = worker.stats()
    assert (stats["state"], stats["totals"]["rebalances"]) == ("holding", 1)
    assert any(part["oldest"] and part["oldest"]["reason"] == "connection" for part in stats["partitions"]), stats
    assert worker.get("/health/live")[0] == 200
    assert broker.group_members(group) == 1
    s3_proxy.connect()
    assert_archived(expected)


@pytest.mark.parametrize("fault", [ACCESS_DENIED, NO_SUCH_BUCKET], ids=lambda fault: fault.code)
def test_refusal_holds_loudly_and_skips_nothing(
    fault: Any,
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    s3_proxy: S3FaultProxy,
    assert_archived: Assert,
    broker: KafkaBroker,
    group: str,
) -> None:
    """Denied access or a missing bucket: nothing is committed or skipped, the log says what to do, and it goes on."""
    topic = make_topic(1)
    expected = spread(produce, topic, 1, 300)
    s3_proxy.rule = always(fault)
    worker = start_worker(topic, {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url} | QUICK_RETRIES)
    wait_stats(worker, lambda stats: stats["writes"]["waiting_for_retry"] == 300, "not every event waits")
    assert broker.committed_offsets(group).get((topic, 0), 0) == 0
    wait_until(lambda: "sink_failing: The sink only fails at the moment" in worker.log(), 10, worker.log_tail)
    s3_proxy.rule = None
    assert_archived(expected)
    wait_until(lambda: "sink_failing is over, after" in worker.log(), 10, worker.log_tail)


def test_expired_credentials_are_refreshed(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_proxy: S3FaultProxy, assert_archived: Assert
) -> None:
    """`ExpiredToken` is retried while the credentials are fetched anew; no event is rejected for it."""
    topic = make_topic(1)
    expected = spread(produce, topic, 1, 500)
    s3_proxy.rule = first_of(first_attempts(2, EXPIRED_TOKEN))
    worker = start_worker(topic, {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url} | QUICK_RETRIES)
    assert_archived(expected)
    totals = worker.stats()["totals"]
    assert (totals["retries"], totals["dead_letters"]) == ({"credentials_expired": 1_000}, 0)


def test_rebalance_during_an_outage_does_not_stall_the_group(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_proxy: S3FaultProxy, assert_archived: Assert
) -> None:
    """A worker that joins while S3 is away gets its partitions within seconds, and nothing is lost when it is back."""
    topic = make_topic(2)
    expected = spread(produce, topic, 2, 1_000)
    settings = {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url} | SHORT_SESSION | QUICK_RETRIES
    first = start_worker(topic, settings)
    wait_written(first, 100)
    s3_proxy.disconnect()
    wait_stats(first, lambda stats: stats["state"] == "holding", "not holding")
    before = time.monotonic()
    second = start_worker(topic, settings)
    wait_stats(second, lambda stats: len(stats["partitions"]) == 1, "the second worker got no partition")
    assert time.monotonic() - before < 60
    s3_proxy.connect()
    assert_archived(expected)
