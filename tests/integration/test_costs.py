"""What the worker says that it costs is what it has sent: counted by a proxy before S3, and by the queue's requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import MakeTopic, Produce
from tests.integration.conftest import StartWorker
from tests.services.archive import next_offsets
from tests.services.kafka import KafkaBroker
from tests.services.s3_faults import ACCESS_DENIED, SLOW_DOWN, every, first_attempts
from tests.services.s3_proxy import S3FaultProxy
from tests.services.sqs import SqsServer
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

DAY_SECONDS = 86_400


def cost(worker: WorkerProcess) -> dict[str, Any]:
    found: dict[str, Any] = worker.stats()["cost"]
    return found


def gauge(worker: WorkerProcess, name: str) -> dict[str, float]:
    """The samples of a family with the label `kind`."""
    families = text_string_to_metric_families(worker.get("/metrics")[1])
    return {
        sample.labels["kind"]: sample.value for family in families for sample in family.samples if sample.name == name
    }


def run(worker: WorkerProcess, broker: KafkaBroker, group: str, expected: Mapping[Any, Any]) -> None:
    """Until every event is durable; a partition that got none of them may have a commit, too."""
    due = next_offsets(dict(expected)).items()
    wait_until(lambda: due <= broker.committed_offsets(group).items(), 30, worker.log_tail)


@pytest.mark.parametrize(("fault", "billed"), [("throttled", False), ("denied", True)])
def test_cost_counts_what_s3_bills(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    broker: KafkaBroker,
    group: str,
    s3_proxy: S3FaultProxy,
    fault: str,
    billed: bool,
) -> None:
    """Every PUT that was sent, but for those answered 503; denied ones are billed. Dollars are that times the price."""
    s3_proxy.rule = every(10, SLOW_DOWN) if fault == "throttled" else first_attempts(1, ACCESS_DENIED)
    topic = make_topic(2)
    expected = produce(topic, [b'{"id": 1}'] * 200)
    settings = {
        "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url,
        "STREAMS_PRICE_S3_PUT_USD_PER_1000": "0.0054",
        "STREAMS_RETRY_BASE_SECONDS": "0.01",
        "STREAMS_RETRY_MAX_SECONDS": "0.1",
    }
    worker = start_worker(topic, settings)
    run(worker, broker, group, expected)
    found = cost(worker)
    sent, faults = s3_proxy.requests["PUT"], sum(s3_proxy.injected.values())
    assert faults >= 20
    assert sent - (0 if billed else faults) == found["requests_total"]["s3_put"]
    per_second = found["requests_per_second"]["s3_put"]
    assert per_second * DAY_SECONDS * 0.0054 / 1000 == pytest.approx(found["requests_usd_per_day"], rel=0.01)
    assert found["requests_usd_per_day"] * 30 == pytest.approx(found["requests_usd_per_month"], rel=0.01)
    assert found["storage_usd_per_month_per_day"] > 0
    assert {"s3_put": found["requests_total"]["s3_put"], "sqs": 0} == gauge(worker, "streams_billed_requests_total")
    dollars = gauge(worker, "streams_cost_usd_per_day")
    assert {"requests", "storage"} == dollars.keys()
    assert found["requests_usd_per_day"] == pytest.approx(dollars["requests"], rel=0.5)


def test_cost_of_a_queue_is_of_its_requests(
    make_topic: MakeTopic,
    produce: Produce,
    start_worker: StartWorker,
    broker: KafkaBroker,
    group: str,
    sqs_server: SqsServer,
) -> None:
    """Up to ten events share a request, so 400 events cost between 40 and 400; nothing is stored."""
    topic = make_topic(2)
    expected = produce(topic, [b'{"id": 1}'] * 400)
    settings = {
        "STREAMS_SINK": "sqs",
        "STREAMS_SQS_QUEUE_URL": sqs_server.create_queue(),
        "STREAMS_S3_BUCKET": "",
        "STREAMS_ON_REJECT": "hold",
        "STREAMS_SQS_BATCH_LINGER_MS": "50",
    }
    worker = start_worker(topic, settings)
    run(worker, broker, group, expected)
    found = cost(worker)
    assert 40 <= found["requests_total"]["sqs"] < 120
    assert 0 == found["requests_total"]["s3_put"]
    assert 0.4 == found["prices"]["sqs_usd_per_million"]
    assert 0 == found["storage_usd_per_month_per_day"]
    assert found["requests_usd_per_day"] > 0
