"""What the worker shows of itself is true: `/stats`, `/metrics` and the health pages against known situations."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from email.message import Message
from http.client import HTTPConnection
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.web import CONTENT_SECURITY_POLICY
from tests.conftest import MakeTopic, Produce
from tests.integration.conftest import StartWorker
from tests.services.archive import Archive, next_offsets
from tests.services.kafka import KafkaBroker
from tests.services.s3_faults import SLOW_DOWN, Delay, always, matching
from tests.services.s3_proxy import S3FaultProxy
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

PAGES = ["/", "/dashboard/history", "/dashboard/dashboard.js", "/stats", "/metrics", "/health/live", "/health/ready"]
COUNTER_UNITS = (
    "_events",
    "_bytes",
    "_letters",
    "_errors",
    "_rebalances",
    "_segments",
    "_holes",
    "_requests",
    "_begun",
)
GAUGE_UNITS = (
    "_offset",
    "_events",
    "_seconds",
    "_bytes",
    "_in_flight",
    "_limit",
    "_maximum",
    "_retry",
    "_per_day",
    "_tasks",
    "_partitions",
    "_active",
)
GAUGE_FLAGS = ("_held", "_failing")
"""Gauges that are 0 or 1."""

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def partitions(document: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The partitions of a `/stats` document about one topic, by number."""
    return {entry["partition"]: entry for entry in document["partitions"]}


def samples(worker: WorkerProcess) -> Samples:
    """Every sample of `/metrics`, by name and labels."""
    status, text = worker.get("/metrics")
    assert 200 == status
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def wait_stats(worker: WorkerProcess, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """The first `/stats` document that fulfils `condition`."""
    seen: list[dict[str, Any]] = []

    def fulfilled() -> bool:
        seen[:] = [worker.stats()]
        return bool(condition(seen[0]))

    wait_until(fulfilled, 20, lambda: f"{seen}\n{worker.log_tail(20)}")
    return seen[0]


def test_pages_tell_a_known_situation(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_proxy: S3FaultProxy
) -> None:
    """One event of one partition is throttled, 37 behind it and 50 of another partition are durable; then all are."""
    topic = make_topic(2)
    values = [b"%04d" % number for number in range(50)]
    produce(topic, values, partition=0)
    produce(topic, values[:40], partition=1)
    s3_proxy.rule = matching(f"{topic}/1/{2:020d}", SLOW_DOWN)
    settings = {
        "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url,
        "STREAMS_MAX_IN_FLIGHT": "20",
        "STREAMS_RETRY_BASE_SECONDS": "0.05",
        "STREAMS_RETRY_MAX_SECONDS": "0.2",
    }
    worker = start_worker(topic, settings)
    document = wait_stats(
        worker,
        lambda seen: (
            seen["totals"]["events"] == 89
            and [entry["committed"] for entry in seen["partitions"]] == [50, 2]
            and seen["totals"]["retries"].get("throttled", 0) >= 3
            and seen["lag"] is not None
        ),
    )
    done, stuck = partitions(document)[0], partitions(document)[1]
    numbers = ("position", "watermark", "committed", "end", "lag", "pending")
    assert [50, 50, 50, 50, 0, 0] == [done[number] for number in numbers]
    assert [40, 2, 2, 40, 38, 1] == [stuck[number] for number in numbers]
    assert (None, None, None) == (done["oldest"], done["held"], stuck["held"])
    oldest = stuck["oldest"]
    assert (2, "throttled") == (oldest["offset"], oldest["reason"])
    assert oldest["attempts"] >= 3
    assert 0 < oldest["age_seconds"] < document["uptime_seconds"]
    assert "SlowDown" in oldest["detail"]
    assert 38 == document["lag"]
    assert "holding" == document["state"], "nothing became durable since the last failure"
    writes = document["writes"]
    assert (1, 1, 20) == (writes["in_flight"], writes["waiting_for_retry"], writes["maximum"])
    assert 1 <= writes["limit"] <= 20
    assert 0 < writes["latency_seconds"]["p50"] <= writes["latency_seconds"]["p90"] <= writes["latency_seconds"]["p99"]
    assert writes["rates"]["60s"]["events_per_second"] > 0
    totals = document["totals"]
    assert (89, 89 * 4, 0, 0) == tuple(
        totals[name] for name in ("events", "bytes", "dead_letters", "lost_to_retention")
    )
    assert {topic: {"events": 89, "bytes": 89 * 4, "dead_letters": {}}} == document["topics"]
    assert 1 == document["buffer"]["events"]
    assert 1 == totals["rebalances"]
    assert abs(document["time"] - time.time()) < 5

    shown = samples(worker)
    of_topic, of_stuck = (("topic", topic),), (("partition", "1"), ("topic", topic))
    for name, labels, value in (
        ("streams_durable_events_total", of_topic, 89),
        ("streams_sent_bytes_total", of_topic, 89 * 4),
        ("streams_partition_position_offset", of_stuck, 40),
        ("streams_partition_watermark_offset", of_stuck, 2),
        ("streams_partition_committed_offset", of_stuck, 2),
        ("streams_partition_end_offset", of_stuck, 40),
        ("streams_partition_lag_events", of_stuck, 38),
        ("streams_partition_held", of_stuck, 0),
        ("streams_writes_in_flight", (), 1),
        ("streams_writes_in_flight_maximum", (), 20),
        ("streams_writes_waiting_for_retry", (), 1),
        ("streams_sink_failing", (), 1),
        ("streams_write_latency_seconds_count", (), 89),
        ("streams_write_latency_seconds_bucket", (("le", "+Inf"),), 89),
        ("streams_rebalances_total", (), 1),
    ):
        assert (name, value) == (name, shown[name, labels])
    assert shown["streams_write_errors_total", (("error_type", "throttled"), ("stage", "write"))] >= 3
    assert shown["streams_partition_oldest_pending_seconds", of_stuck] > 0
    assert (200, 200) == (worker.get("/health/live")[0], worker.get("/health/ready")[0]), "S3's trouble is not ours"
    assert (38, 0) == (document["lag_known"], document["lag_unknown_partitions"])
    (condition,) = wait_stats(worker, lambda seen: seen["conditions"])["conditions"]
    assert ("sink_failing", "", "critical", False) == tuple(
        condition[name] for name in ("kind", "subject", "severity", "blocks_readiness")
    )
    assert f"the first is {topic}/1/2: throttled: S3 answered 503 SlowDown" in condition["detail"]
    assert ["sink_failing"] == json.loads(worker.get("/health/ready")[1])["conditions"]
    assert 1 == samples(worker)["streams_condition_active", (("condition", "sink_failing"),)]

    s3_proxy.rule = None
    document = wait_stats(worker, lambda seen: seen["lag"] == 0 and partitions(seen)[1]["committed"] == 40)
    assert ("running", 90, 0) == (document["state"], document["totals"]["events"], document["writes"]["in_flight"])
    assert [None, None] == [entry["oldest"] for entry in document["partitions"]]
    wait_stats(worker, lambda seen: not seen["conditions"])
    assert "sink_failing is over, after" in worker.log()


def test_metrics_are_named_by_the_rules(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, broker: KafkaBroker, group: str
) -> None:
    """`streams_<name>_<unit>[_total]`, help for each, labels from bounded sets, and what a process exports anyway."""
    topic = make_topic()
    expected = produce(topic, [b"no id"] * 3, partition=0)
    template = {"STREAMS_OBJECT_KEY_TEMPLATE": "{value.id}.json", "STREAMS_ALLOW_OVERWRITE": "true"}
    worker = start_worker(topic, template)
    wait_until(lambda: broker.committed_offsets(group) == next_offsets(expected), 20, worker.log_tail)
    families = list(text_string_to_metric_families(worker.get("/metrics")[1]))
    ours = [family for family in families if family.name.startswith("streams_")]
    assert len(ours) > 15
    for family in ours:
        assert re.fullmatch("[a-z_]+", family.name)
        assert family.documentation
        for sample in family.samples:
            assert set(sample.labels) <= {"topic", "partition", "error_type", "stage", "le", "kind", "condition"}
        if family.type == "counter":
            assert family.name.endswith(COUNTER_UNITS), family.name
            assert {f"{family.name}_total"} >= {sample.name for sample in family.samples}
        elif family.type == "histogram":
            assert family.name.endswith("_seconds")
        else:
            assert family.name.endswith((*GAUGE_UNITS, *GAUGE_FLAGS)), family.name
    dead = ("streams_dead_letters_total", (("error_type", "key_template"), ("topic", topic)))
    assert 3 == samples(worker)[dead]
    assert {"process_cpu_seconds", "process_resident_memory_bytes"} <= {family.name for family in families}


def test_time_to_loss_falls_while_nothing_gets_durable(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_proxy: S3FaultProxy
) -> None:
    """With S3 away it counts down from the retention, by the oldest event; it is infinite once all is durable."""
    topic = make_topic(2, {"retention.ms": "600000"})
    produce(topic, [b"x"] * 10, partition=0)
    s3_proxy.rule = matching(f"{topic}/0/", SLOW_DOWN)
    worker = start_worker(topic, {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url, "STREAMS_RETRY_MAX_SECONDS": "0.2"})
    stuck = ("streams_partition_time_to_loss_seconds", (("partition", "0"), ("topic", topic)))
    empty = ("streams_partition_time_to_loss_seconds", (("partition", "1"), ("topic", topic)))
    wait_until(lambda: stuck in samples(worker), 20, worker.log_tail)
    began, first = time.monotonic(), samples(worker)[stuck]
    assert 500 < first < 600
    assert float("inf") == samples(worker)[empty]
    shown = partitions(worker.stats())
    assert shown[0]["time_to_loss_seconds"] == pytest.approx(first, abs=5)
    assert shown[1]["time_to_loss_seconds"] is None
    wait_until(lambda: samples(worker)[stuck] < first - 3, 20, worker.log_tail)
    assert samples(worker)[stuck] == pytest.approx(first - (time.monotonic() - began), abs=1)
    s3_proxy.rule = None
    wait_until(lambda: samples(worker)[stuck] == float("inf"), 20, worker.log_tail)


def test_time_to_loss_by_size(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_proxy: S3FaultProxy
) -> None:
    """Where only the size is limited, it is how long the partition's growth takes to push the oldest event out."""
    topic = make_topic(1, {"retention.ms": "-1", "retention.bytes": "1000000"})
    produce(topic, [b"x"] * 100, partition=0)
    worker = start_worker(topic, {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url})
    wait_stats(worker, lambda seen: [entry["committed"] for entry in seen["partitions"]] == [100])
    s3_proxy.rule = matching(f"{topic}/0/", SLOW_DOWN)

    def falls() -> bool:
        produce(topic, [b"x"] * 10, partition=0)
        left = worker.stats()["partitions"][0]["time_to_loss_seconds"]
        return left is not None and 0 < left < 100

    wait_until(falls, 90, lambda: f"{worker.stats()}", 0.5)


def test_retention_can_be_said_instead_of_asked_for(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_proxy: S3FaultProxy
) -> None:
    """STREAMS_KAFKA_RETENTION_SECONDS wins over what the topic says."""
    topic = make_topic(1, {"retention.ms": "-1"})
    produce(topic, [b"x"], partition=0)
    s3_proxy.rule = matching(f"{topic}/0/", SLOW_DOWN)
    settings = {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url, "STREAMS_KAFKA_RETENTION_SECONDS": "1000"}
    worker = start_worker(topic, settings)
    seen = wait_stats(worker, lambda seen: partitions(seen)[0]["time_to_loss_seconds"] is not None)
    assert 900 < partitions(seen)[0]["time_to_loss_seconds"] < 1_000


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_pages_only_read(method: str, idle_worker: WorkerProcess) -> None:
    """Whoever reaches the port can change nothing."""
    for page in PAGES:
        address = f"http://127.0.0.1:{idle_worker.web_port}{page}"
        with pytest.raises(HTTPError) as refusal:
            urlopen(Request(address, data=b"{}", method=method), timeout=5)
        refusal.value.close()
        assert (page, 405) == (page, refusal.value.code)


def test_only_its_own_address_and_pages_are_served(idle_worker: WorkerProcess) -> None:
    """Faust's own pages (tables, router, statistics) are not there."""
    for page in ("/router/", "/table/", "/stats/", "/graph/", "/production/stats"):
        assert (page, 404) == (page, idle_worker.get(page)[0])
    assert "<title>" in idle_worker.get("/")[1], "Faust's own index is not what answers"


def test_every_answer_carries_the_security_headers(idle_worker: WorkerProcess) -> None:
    """Pages, assets and refusals alike; no header lets another site read, or tells versions."""
    for page in (*PAGES, "/nothing", "/dashboard/nothing.js", "/dashboard/..%2fpage.py", "/admin/pause"):
        answer = headers(idle_worker, page)
        assert (page, CONTENT_SECURITY_POLICY) == (page, answer["Content-Security-Policy"])
        assert ("nosniff", "no-referrer") == (answer["X-Content-Type-Options"], answer["Referrer-Policy"])
        assert [] == [name for name in answer if name.lower().startswith("access-control") or name == "Server"]


def headers(worker: WorkerProcess, page: str) -> Message[str, str]:
    """Of the answer to a page of another site, whatever its status."""
    connection = HTTPConnection("127.0.0.1", worker.web_port, timeout=5)
    try:
        connection.request("GET", page, headers={"Origin": "https://evil.example"})
        return connection.getresponse().headers
    finally:
        connection.close()


def test_ready_only_once_the_group_has_answered(make_topic: MakeTopic, start_worker: StartWorker) -> None:
    """While a frozen member delays the group, a new worker is alive and not ready; then it takes over and is."""
    topic = make_topic()
    settings = {"STREAMS_KAFKA_SESSION_TIMEOUT_SECONDS": "20"}
    frozen = start_worker(topic, settings)
    frozen.freeze()
    worker = start_worker(topic, settings, wait=False)

    def answers() -> bool:
        try:
            return worker.get("/health/live")[0] == 200
        except OSError:
            return False

    wait_until(answers, 18, worker.log_tail, 0.05)
    status, reason = worker.get("/health/ready")
    assert 503 == status
    assert "waiting for the consumer group" in reason
    assert "starting" == worker.stats()["state"]
    worker.wait_ready(45)
    taken_over = wait_stats(worker, lambda seen: seen["partitions"])["partitions"]
    assert [topic] == [entry["topic"] for entry in taken_over]


def test_spare_worker_is_ready(make_topic: MakeTopic, start_worker: StartWorker) -> None:
    """More workers than partitions: the one without any is ready, lags behind nothing, and takes over at once."""
    topic = make_topic()
    workers = [start_worker(topic), start_worker(topic)]

    def shares() -> list[int]:
        return sorted(len(worker.stats()["partitions"]) for worker in workers)

    wait_until(lambda: shares() == [0, 1] and all(worker.ready() for worker in workers), 20, lambda: f"{shares()}")
    (spare,) = [worker for worker in workers if not worker.stats()["partitions"]]
    (busy,) = [worker for worker in workers if worker is not spare]
    assert 0 == wait_stats(spare, lambda seen: seen["state"] == "running")["lag"]
    assert not [name for name, _ in samples(spare) if name.startswith("streams_partition_")]
    busy.terminate()
    assert 0 == busy.wait(20)
    wait_stats(spare, lambda seen: len(seen["partitions"]) == 1)


def test_stopping_worker_is_alive_and_not_ready(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_proxy: S3FaultProxy, archive: Archive
) -> None:
    """While a worker finishes its writes, load balancers and Kubernetes are told to look elsewhere."""
    topic = make_topic()
    expected = produce(topic, [b"x"] * 5, partition=0)
    s3_proxy.rule = always(Delay(2))
    worker = start_worker(topic, {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url})
    wait_until(lambda: s3_proxy.in_flight == 5, 20, worker.log_tail, 0.02)
    worker.terminate()
    wait_until(lambda: worker.get("/health/ready")[0] == 503, 2, worker.log_tail, 0.02)
    assert "stopping" in worker.get("/health/ready")[1]
    assert 200 == worker.get("/health/live")[0]
    assert 0 == worker.wait(20), worker.log_tail()
    archive.assert_complete(expected)


@pytest.fixture
def idle_worker(make_topic: MakeTopic, start_worker: StartWorker) -> WorkerProcess:
    """A worker that has nothing to do."""
    return start_worker(make_topic())
