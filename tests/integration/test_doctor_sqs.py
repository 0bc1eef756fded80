"""`doctor` for a queue: against a real SQS server, and against answers that only AWS gives (denials)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.doctor.findings import Finding, Status, Verdict
from tests.conformance.http_server import BrokenServer, HttpServer, Recorded
from tests.conformance.http_server import Reply as HttpReply
from tests.conformance.test_sqs_requests import error
from tests.integration.conftest import RunCommand
from tests.integration.test_doctor import Diagnose, make_topic
from tests.services.kafka import KafkaBroker
from tests.services.ports import free_port
from tests.services.s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Server
from tests.services.sqs import SqsServer

EVENT_COUNT = 3


@pytest.fixture
def base_settings(broker: KafkaBroker, group: str) -> dict[str, str]:
    """A worker without any bucket."""
    return {
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "STREAMS_CONSUMER_GROUP": group,
        "STREAMS_SINK": "sqs",
        "STREAMS_ON_REJECT": "hold",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
    }


@pytest.fixture
def topic(broker: KafkaBroker) -> str:
    return make_topic(broker)


@pytest.fixture
def diagnose(monkeypatch: pytest.MonkeyPatch, base_settings: Mapping[str, str], topic: str, tmp_path: Path) -> Diagnose:
    own = {
        "STREAMS_TOPICS": topic,
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
    }
    return Diagnose(monkeypatch, {**base_settings, **own})


def name_of(queue_url: str) -> str:
    return f"sqs queue {queue_url.rpartition('/')[2]}"


def statements(finding: Finding) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(finding.remedy[finding.remedy.index("{") :])["Statement"]
    return found


# -- a real queue ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
async def test_healthy_queue_has_nothing_to_mend(diagnose: Diagnose, sqs_server: SqsServer, fifo: bool) -> None:
    """Everything is looked at, nothing is sent, and the report says that sending is not proved."""
    queue_url = sqs_server.create_queue(fifo=fifo)
    report = await diagnose({"STREAMS_SQS_QUEUE_URL": queue_url})
    assert not report.wrong, str(report)
    assert Verdict(report.findings).healthy
    assert ("a FIFO queue" if fifo else "a standard queue") in report[name_of(queue_url)].finding
    assert Status.UNCHECKED == report[f"{name_of(queue_url)}: SEND"].status
    assert "does not prove the right to send" in report[f"{name_of(queue_url)}: SEND"].finding
    assert "a request takes" in report["sqs latency"].finding
    assert f"queue {queue_url}" in report["settings"].finding
    assert f"{EVENT_COUNT} events came in the last 24 h: 1 request if each is full" in report["cost"].finding
    assert not [one.check for one in report.findings if one.check.startswith("s3 ")]
    assert 0 == sqs_server.count(queue_url)


@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
def test_send_proves_the_right_and_leaves_a_message(
    run_command: RunCommand, topic: str, sqs_server: SqsServer, fifo: bool
) -> None:
    """One message in each queue, as the worker would send it; twice are two also in a FIFO queue."""
    queue_url, dead_letters = sqs_server.create_queue(fifo=fifo), sqs_server.create_queue(fifo=fifo)
    settings = {"STREAMS_SQS_QUEUE_URL": queue_url, "STREAMS_SQS_DEAD_LETTER_QUEUE_URL": dead_letters}
    for _ in range(2):
        finished = run_command("doctor", "--send", topics=topic, settings=settings, check=0)
        assert (
            f"✓ {name_of(queue_url)}: SEND: allowed; a message with kafka-position=streams-doctor/0/" in finished.stdout
        )
        assert f"✓ {name_of(dead_letters)}: SEND: allowed" in finished.stdout
    for url in (queue_url, dead_letters):
        events = [message.event for message in sqs_server.receive_all(url)]
        assert ["streams-doctor"] * 2 == [event.topic for event in events]
        assert b'{"canary": "streams doctor"}' == events[0].value


async def test_missing_queue(diagnose: Diagnose, sqs_server: SqsServer) -> None:
    """Named with what creates it; nothing is tried after that, Kafka is checked all the same."""
    queue_url = f"{sqs_server.endpoint_url}/000000000000/nobody-made-this"
    report = await diagnose({"STREAMS_SQS_QUEUE_URL": queue_url})
    assert [name_of(queue_url)] == report.wrong, str(report)
    assert f"create-queue --queue-name nobody-made-this --region {REGION}" in report[name_of(queue_url)].remedy
    assert Status.UNCHECKED == report[f"{name_of(queue_url)}: attributes, SEND"].status
    assert Status.OK == report["kafka lag"].status


async def test_bucket_of_large_events_is_tried(
    diagnose: Diagnose, sqs_server: SqsServer, s3_server: S3Server, bucket: str
) -> None:
    """PUT and DELETE of canaries under both prefixes; what only commands need that look at an archive is not asked."""
    queue_url = sqs_server.create_queue()
    report = await diagnose(
        {
            "STREAMS_SQS_QUEUE_URL": queue_url,
            "STREAMS_SQS_DEAD_LETTER_QUEUE_URL": sqs_server.create_queue(),
            "STREAMS_S3_BUCKET": bucket,
            "STREAMS_S3_ENDPOINT_URL": s3_server.endpoint_url,
            "STREAMS_S3_PATH_STYLE": "true",
            **s3_server.environment(),
        }
    )
    assert not report.wrong, str(report)
    checks = [one.check for one in report.findings if one.check.startswith("s3 PUT") or one.check == "s3 DELETE"]
    assert ["s3 PUT large events", "s3 PUT dead letters", "s3 DELETE"] == checks
    assert "s3 LIST" not in [one.check for one in report.findings]
    assert "dead letters go to the bucket" in report["sqs dead letters"].finding
    assert 1 == len([one for one in report.findings if one.check.endswith(": SEND")])
    assert [] == s3_server.keys(bucket)


async def test_missing_credentials(diagnose: Diagnose, sqs_server: SqsServer) -> None:
    """An empty chain."""
    change = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    report = await diagnose({"STREAMS_SQS_QUEUE_URL": sqs_server.create_queue()}, change)
    assert ["sqs credentials"] == report.wrong
    assert "AWS_PROFILE" in report["sqs credentials"].remedy


async def test_unreachable_server(diagnose: Diagnose) -> None:
    """The endpoint's setting is named; the report comes in time."""
    began = time.monotonic()
    report = await diagnose({"STREAMS_SQS_QUEUE_URL": f"http://127.0.0.1:{free_port()}/000000000000/orders"})
    assert ["sqs queue orders"] == report.wrong, str(report)
    assert "STREAMS_SQS_ENDPOINT_URL" in report["sqs queue orders"].remedy
    assert time.monotonic() - began < 30


async def test_hanging_server_ends_in_time(diagnose: Diagnose) -> None:
    """A server that takes connections and says nothing: one time-out, and no further request to that queue."""
    async with BrokenServer("hang") as server:
        queue = {"STREAMS_SQS_QUEUE_URL": f"{server.url}/000000000000/orders"}
        report = await diagnose(
            queue, {"STREAMS_SQS_REQUEST_TIMEOUT_SECONDS": "1", "STREAMS_SQS_CONNECT_TIMEOUT_SECONDS": "1"}
        )
    assert ["sqs queue orders"] == report.wrong, str(report)
    assert "timeout" in report["sqs queue orders"].finding


def test_send_is_refused_with_s3(run_command: RunCommand, topic: str) -> None:
    """Exit code 2 and why; no check begins."""
    settings = {"STREAMS_SINK": "s3", "STREAMS_S3_BUCKET": "events", "STREAMS_ON_REJECT": "dead-letter"}
    finished = run_command("doctor", "--send", topics=topic, settings=settings, check=2)
    assert "--send is about SQS" in finished.stderr
    assert "" == finished.stdout


# -- answers of AWS ----------------------------------------------------------------------------------------------------

ATTRIBUTES = {
    "QueueArn": f"arn:aws:sqs:{REGION}:000000000000:orders",
    "ApproximateNumberOfMessages": "0",
    "MaximumMessageSize": "262144",
    "MessageRetentionPeriod": "345600",
    "KmsMasterKeyId": "alias/orders",
}
DENIED = "User: arn:aws:iam::000000000000:role/streams is not authorized to perform: sqs:{}"


def answering(**replies: HttpReply) -> Callable[[Recorded], HttpReply]:
    """An SQS that answers by operation; attributes as above where nothing else is said."""
    usual = {"GetQueueAttributes": HttpReply(200, orjson.dumps({"Attributes": ATTRIBUTES}).decode())}

    def answer(request: Recorded) -> HttpReply:
        return {**usual, **replies}[request.headers["X-Amz-Target"].removeprefix("AmazonSQS.")]

    return answer


def denied(action: str) -> HttpReply:
    return error(403, "AccessDenied", DENIED.format(action))


def operations(server: HttpServer) -> list[str]:
    return [request.headers["X-Amz-Target"].removeprefix("AmazonSQS.") for request in server.requests]


async def test_denied_send_is_told_without_sending(diagnose: Diagnose) -> None:
    """An empty request suffices for that: the policy names queue and key."""
    async with HttpServer(answering(SendMessageBatch=denied("sendmessage"))) as server:
        report = await diagnose({"STREAMS_SQS_QUEUE_URL": f"{server.url}/000000000000/orders"})
    line = report["sqs queue orders: SEND"]
    assert [line.check] == report.wrong, str(report)
    assert ["sqs:SendMessage"] == statements(line)[0]["Action"]
    assert [f"arn:aws:sqs:{REGION}:000000000000:orders"] == statements(line)[0]["Resource"]
    assert ["kms:GenerateDataKey", "kms:Decrypt"] == statements(line)[1]["Action"]
    sent = [orjson.loads(one.body) for one in server.requests if "SendMessageBatch" in one.headers["X-Amz-Target"]]
    assert [[]] == [body["Entries"] for body in sent]
    assert Status.WARNING == report["sqs queue orders: size limit"].status


async def test_what_aws_says_to_an_empty_request_proves_nothing(diagnose: Diagnose) -> None:
    """EmptyBatchRequest is no denial, and no permission either."""
    empty = error(400, "EmptyBatchRequest", query_error="AWS.SimpleQueueService.EmptyBatchRequest")
    async with HttpServer(answering(SendMessageBatch=empty)) as server:
        report = await diagnose({"STREAMS_SQS_QUEUE_URL": f"{server.url}/000000000000/orders"})
    line = report["sqs queue orders: SEND"]
    assert Status.UNCHECKED == line.status
    assert "EmptyBatchRequest" in line.finding
    assert not report.wrong, str(report)


async def test_a_worker_with_nothing_but_send_is_healthy(diagnose: Diagnose) -> None:
    """Least privilege: the attributes are denied, which is said to do no harm, and no latency is measured."""
    empty = error(400, "EmptyBatchRequest", query_error="AWS.SimpleQueueService.EmptyBatchRequest")
    answers = answering(GetQueueAttributes=denied("getqueueattributes"), SendMessageBatch=empty)
    async with HttpServer(answers) as server:
        report = await diagnose({"STREAMS_SQS_QUEUE_URL": f"{server.url}/000000000000/orders"})
        assert ["GetQueueAttributes", "SendMessageBatch"] == operations(server)
    line = report["sqs queue orders: attributes"]
    assert Status.UNCHECKED == line.status
    assert ["sqs:GetQueueAttributes"] == statements(line)[0]["Action"]
    assert not report.wrong, str(report)


async def test_unknown_key_is_not_taken_for_a_missing_right(diagnose: Diagnose) -> None:
    """Credentials that SQS does not know end the queue's checks with the remedy for credentials; no secret is shown."""
    unknown = error(403, "InvalidClientTokenId", "The security token included in the request is invalid")
    async with HttpServer(answering(GetQueueAttributes=unknown)) as server:
        report = await diagnose({"STREAMS_SQS_QUEUE_URL": f"{server.url}/000000000000/orders"})
    assert ["sqs queue orders"] == report.wrong, str(report)
    assert "AWS credentials" in report["sqs queue orders"].remedy
    assert SECRET_KEY not in str(report)
