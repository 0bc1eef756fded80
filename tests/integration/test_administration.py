"""Write actions on a real worker: who may, what is refused, and that a pause loses nothing and repeats nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from tests.conftest import MakeTopic, Produce
from tests.integration.actions import TOKEN, post
from tests.integration.conftest import StartWorker
from tests.services.archive import Archive, next_offsets
from tests.services.kafka import KafkaBroker
from tests.services.producer import Expected
from tests.services.s3_faults import Delay, Fault, S3Request, always
from tests.services.s3_proxy import S3FaultProxy
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

ACTIONS = ["/admin/pause", "/admin/resume", "/admin/max-in-flight", "/admin/log-level"]
ADMINISTERED = {"STREAMS_ADMIN_TOKEN": TOKEN}


class Writes:
    """A rule of the proxy that lets everything through and counts the PUTs of each object."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def __call__(self, request: S3Request) -> Fault | None:
        if request.method == "PUT":
            self.of[request.key] += 1
        return None

    def more_than_once(self, topic: str) -> list[str]:
        """Keys of events that were written again."""
        return [key for key, count in self.of.items() if count > 1 and key.startswith(f"{topic}/")]


@pytest.fixture
def writes(s3_proxy: S3FaultProxy) -> Writes:
    """What the workers write through the proxy."""
    s3_proxy.rule = counting = Writes()
    return counting


@pytest.fixture
def settings(s3_proxy: S3FaultProxy) -> dict[str, str]:
    """Through the proxy, with actions."""
    return {**ADMINISTERED, "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url}


class Group:
    """What the test's group has committed."""

    def __init__(self, broker: KafkaBroker, name: str) -> None:
        self._broker = broker
        self._name = name

    def wait_done(self, expected: Expected, worker: WorkerProcess, partitions: Collection[int] | None = None) -> None:
        """Until all of these events are durable and committed, or those in some partitions of the one topic."""
        due = {tp: offset for tp, offset in next_offsets(expected).items() if partitions is None or tp[1] in partitions}

        def done() -> bool:
            committed = self._broker.committed_offsets(self._name)
            return due == {tp: committed.get(tp) for tp in due}

        wait_until(done, 30, lambda: f"{self._broker.committed_offsets(self._name)}\n{worker.log_tail()}")


@pytest.fixture
def committed(broker: KafkaBroker, group: str) -> Group:
    """What the workers of this test have committed."""
    return Group(broker, group)


def produce_to_each(produce: Produce, topic: str, partitions: int, events: list[bytes]) -> Expected:
    """So many events to each partition: a producer left alone may put all of them into one."""
    expected: Expected = {}
    for partition in range(partitions):
        expected |= produce(topic, events, partition=partition)
    return expected


def wait_lag(worker: WorkerProcess, at_least: int) -> None:
    """Until the worker has seen that so many events wait."""
    wait_until(lambda: (worker.stats()["lag"] or 0) >= at_least, 20, lambda: f"{worker.stats()}")


def positions(worker: WorkerProcess, topic: str) -> dict[int, int]:
    """The next offset to be taken from each partition."""
    return {one["partition"]: one["position"] for one in worker.stats()["partitions"] if one["topic"] == topic}


def test_without_a_token_there_are_no_actions(make_topic: MakeTopic, start_worker: StartWorker) -> None:
    """Nothing is there to be called, and the page shows no form."""
    worker = start_worker(make_topic())
    for path in ACTIONS:
        assert (path, 404) == (path, post(worker, path, {}).status)
    page = worker.get("/")
    assert (200, False) == (page[0], "admin" in page[1])


def test_refusals(make_topic: MakeTopic, start_worker: StartWorker) -> None:
    """Each kind has its status and a sentence that helps; nothing is changed, no other site is let in."""
    topic = make_topic()
    worker = start_worker(topic, ADMINISTERED)
    right = {"topic": topic}
    page = f"http://127.0.0.1:{worker.web_port}"
    for status, words, options in (
        (401, "STREAMS_ADMIN_TOKEN", {"token": None}),
        (401, "STREAMS_ADMIN_TOKEN", {"token": TOKEN[:-1] + "x"}),
        (403, "another site", {"headers": {"Origin": "https://evil.example"}}),
        (403, "another site", {"headers": {"Origin": "null"}}),
        (415, "application/json", {"headers": {"Content-Type": "text/plain"}}),
        (415, "application/json", {"headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
        (413, "1024", {"body": {"topic": "x" * 2000}}),
        (422, "JSON", {"body": b"{"}),
        (422, "this worker reads", {"body": {"topic": "other"}}),
    ):
        asked: dict[str, Any] = {"body": right, **options}
        answer = post(worker, "/admin/pause", **asked)
        assert (status, True) == (answer.status, words in answer.json()["error"]), (options, answer)
        assert ("Bearer" if status == 401 else None) == answer.headers["WWW-Authenticate"]
        assert [] == [name for name in answer.headers if name.lower().startswith("access-control")]
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert (method, 405) == (method, post(worker, "/admin/pause", b"", method=method).status)
    assert 404 == post(worker, "/admin/other", {}).status
    assert not worker.stats()["partitions"][0]["paused"]
    assert 200 == post(worker, "/admin/pause", right, headers={"Origin": page}).status
    refused = [line for line in worker.log().splitlines() if "was refused" in line]
    assert 1 == len(refused), "one line in ten seconds"
    assert TOKEN not in worker.log()


def test_pause_takes_nothing_and_resume_goes_on_where_it_stopped(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    settings: Mapping[str, str],
    writes: Writes,
    archive: Archive,
    committed: Group,
) -> None:
    """Again and again, while events come: the other topic goes on, every event is written, and none twice."""
    topic, other = make_topic(2), make_topic()
    worker = start_worker(f"{topic},{other}", settings)
    expected = produce(topic, [b"before"] * 300)
    committed.wait_done(expected, worker)
    for turn in range(2):
        assert 200 == post(worker, "/admin/pause", {"topic": topic}).status
        waiting = produce(topic, [b"while paused %d" % turn] * 2_000)
        beside = produce(other, [b"other"] * 100, partition=0)
        committed.wait_done(beside, worker)
        # A fetch that was under way has brought a thousand of them at most; from here on nothing is taken.
        wait_until(lambda: all(not one["pending"] for one in worker.stats()["partitions"]), 20, worker.log_tail)
        stopped_at = positions(worker, topic)
        waiting |= produce(topic, [b"more"] * 500)
        beside |= produce(other, [b"other, which goes on"] * 100, partition=0)
        committed.wait_done(beside, worker)
        assert stopped_at == positions(worker, topic)
        assert 200 == post(worker, "/admin/resume", {"topic": topic}).status
        expected |= waiting | beside
        committed.wait_done(expected, worker)
    archive.assert_complete(expected)
    assert [] == writes.more_than_once(topic)


def test_pause_outlives_a_rebalance(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    settings: Mapping[str, str],
    writes: Writes,
    archive: Archive,
    committed: Group,
) -> None:
    """Partitions that go to another worker are read there; those that stay, or come back, wait until the resume."""
    topic = make_topic(4)
    worker = start_worker(topic, settings)
    expected = produce(topic, [b"before"] * 200)
    committed.wait_done(expected, worker)
    assert 200 == post(worker, "/admin/pause", {"topic": topic}).status
    second = start_worker(topic, settings)
    wait_until(lambda: [len(positions(one, topic)) for one in (worker, second)] == [2, 2], 30, worker.log_tail)
    stopped_at = positions(worker, topic)
    expected |= produce_to_each(produce, topic, 4, [b"with two workers"] * 500)
    committed.wait_done(expected, second, partitions=positions(second, topic))
    assert stopped_at == positions(worker, topic)
    second.terminate()
    assert 0 == second.wait(30)
    wait_until(lambda: len(positions(worker, topic)) == 4, 30, worker.log_tail)
    stopped_at = positions(worker, topic)
    expected |= produce_to_each(produce, topic, 4, [b"alone again"] * 250)
    wait_lag(worker, 2_000)
    assert stopped_at == positions(worker, topic)
    assert [True] * 4 == [one["paused"] for one in worker.stats()["partitions"]]
    assert 200 == post(worker, "/admin/resume", {"topic": topic}).status
    committed.wait_done(expected, worker)
    archive.assert_complete(expected)
    assert [] == writes.more_than_once(topic)


def test_paused_worker_stops_cleanly(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    settings: Mapping[str, str],
    writes: Writes,
    archive: Archive,
    committed: Group,
) -> None:
    """A drain has nothing to wait for, and the next worker, which knows nothing of the pause, goes on."""
    topic = make_topic()
    worker = start_worker(topic, settings)
    expected = produce(topic, [b"before"] * 50)
    committed.wait_done(expected, worker)
    assert 200 == post(worker, "/admin/pause", {"topic": topic}).status
    expected |= produce(topic, [b"after"] * 2_000)
    worker.terminate()
    assert 0 == worker.wait(20)
    worker.start()
    worker.wait_ready()
    committed.wait_done(expected, worker)
    archive.assert_complete(expected)
    assert [] == writes.more_than_once(topic)


def test_most_writes_in_flight_hold_at_once(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_proxy: S3FaultProxy
) -> None:
    """Lowered, it bounds the next writes; raised again, they go on; it is never raised above the setting."""
    topic = make_topic()
    s3_proxy.rule = always(Delay(0.2))
    worker = start_worker(topic, {**ADMINISTERED, "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url})
    change = post(worker, "/admin/max-in-flight", {"maximum": 3}).json()
    assert (1000, 3) == (change["old"], change["new"])
    produce(topic, [b"x"] * 400)
    wait_until(lambda: worker.stats()["writes"]["in_flight"] == 3, 20, worker.log_tail, 0.02)
    assert 3 == max(worker.stats()["writes"]["in_flight"] for _ in range(20))
    assert 422 == post(worker, "/admin/max-in-flight", {"maximum": 1001}).status
    assert 200 == post(worker, "/admin/max-in-flight", {"maximum": 1000}).status
    wait_until(lambda: worker.stats()["writes"]["in_flight"] > 20, 20, worker.log_tail, 0.02)


def test_log_level_is_changed(make_topic: MakeTopic, start_worker: StartWorker) -> None:
    """The next lines obey it, the audit log stays."""
    worker = start_worker(make_topic(), {**ADMINISTERED, "STREAMS_SUMMARY_INTERVAL_SECONDS": "1"})
    wait_until(lambda: "running: 0 events durable" in worker.log(), 20, worker.log_tail)
    assert 200 == post(worker, "/admin/log-level", {"level": "error"}).status
    wait_until(lambda: "log_level: info → error" in worker.log(), 5, worker.log_tail)
    summaries = worker.log().count("events durable")
    assert 200 == post(worker, "/admin/log-level", {"level": "debug"}).status
    wait_until(lambda: "DEBUG" in worker.log(), 20, worker.log_tail)
    wait_until(lambda: worker.log().count("events durable") > summaries, 20, worker.log_tail)
