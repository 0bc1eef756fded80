"""The load server as clients of SQS see it: the benchmark's numbers rest on what it counts and answers."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.sqs.models import Message

from bench.load_server import REPOSITORY, LoadServer, load_server

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("go") is None, reason="the load server needs go: install Go 1.21 or later"),
]

LATENCY_MS = 34
ATTRIBUTES = {
    "kafka-position": {"DataType": "String", "StringValue": "orders/3/42"},
    "kafka-timestamp-ms": {"DataType": "Number", "StringValue": "42"},
    "key": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
}


@pytest.fixture
def server() -> Iterator[LoadServer]:
    with load_server(LATENCY_MS) as running:
        yield running


@pytest.fixture
def queue_url(server: LoadServer) -> str:
    return f"{server.url}/000000000000/bench"


@pytest.fixture
def client(server: LoadServer) -> Iterator[Any]:
    made = boto3.client(
        "sqs",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
    )
    yield made
    made.close()


def _md5(body: str) -> str:
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def _entries(count: int) -> list[dict[str, Any]]:
    return [{"Id": f"m{number}", "MessageBody": f"body {number}"} for number in range(count)]


def test_message_is_answered_with_its_checksums_after_the_latency(client: Any, queue_url: str) -> None:
    """A client that compares checksums finds the right ones, and never has its answer early."""
    attributes_md5 = Message("id", "body")
    attributes_md5.message_attributes = ATTRIBUTES
    began = time.monotonic()
    answer = client.send_message(QueueUrl=queue_url, MessageBody='quoted " and ä', MessageAttributes=ATTRIBUTES)
    assert time.monotonic() - began >= LATENCY_MS / 1000
    assert _md5('quoted " and ä') == answer["MD5OfMessageBody"]
    assert attributes_md5.attribute_md5 == answer["MD5OfMessageAttributes"]


def test_batch_has_a_result_for_each_message_and_is_one_request(
    client: Any, queue_url: str, server: LoadServer
) -> None:
    """Senders look at every entry; the benchmark shows how many events came in a request."""
    answer = client.send_message_batch(QueueUrl=queue_url, Entries=_entries(10))
    sent = {entry["Id"]: entry["MD5OfMessageBody"] for entry in answer["Successful"]}
    assert {f"m{number}": _md5(f"body {number}") for number in range(10)} == sent
    counts = server.counts()
    assert (10, 10, 1, 1) == (counts.keys, counts.puts, counts.requests, counts.max_in_flight)


@pytest.mark.parametrize(
    "same",
    [
        {"MessageDeduplicationId": "orders-3-42", "MessageGroupId": "g"},
        {"MessageAttributes": ATTRIBUTES},
        {},
    ],
    ids=["deduplication id", "position in Kafka", "body"],
)
def test_message_that_is_sent_again_counts_once(
    client: Any, queue_url: str, server: LoadServer, same: dict[str, Any]
) -> None:
    """A run ends when every event is there: one that was sent twice must not stand for another."""
    for body in ("a", "b") if same else ("a", "a"):
        client.send_message(QueueUrl=queue_url, MessageBody=body, **same)
    counts = server.counts()
    assert (1, 2, 2) == (counts.keys, counts.puts, counts.requests)


def test_batch_that_sqs_would_not_take_is_refused_and_not_counted(
    client: Any, queue_url: str, server: LoadServer
) -> None:
    """Nobody looks quick by sending eleven messages in a request."""
    with pytest.raises(ClientError, match="TooManyEntriesInBatchRequest"):
        client.send_message_batch(QueueUrl=queue_url, Entries=_entries(11))
    counts = server.counts()
    assert (0, 1) == (counts.keys, counts.refused)


def test_fifo_queue_is_told_by_its_name(client: Any, queue_url: str) -> None:
    """What clients ask of a queue before they send: its URL, its kind, its limit."""
    assert queue_url == client.get_queue_url(QueueName="bench")["QueueUrl"]
    attributes = client.get_queue_attributes(QueueUrl=f"{queue_url}.fifo", AttributeNames=["All"])["Attributes"]
    assert ("true", "1048576") == (attributes["FifoQueue"], attributes["MaximumMessageSize"])


@pytest.mark.parametrize("mode", ["sequence", "threads"])
def test_published_loop_sends_one_message_in_a_request(mode: str, server: LoadServer, queue_url: str) -> None:
    """The published rows are the published program: a request to a message."""
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
        "STREAMS_SQS_ENDPOINT_URL": server.url,
        "STREAMS_SQS_QUEUE_URL": queue_url,
    }
    command = [sys.executable, "-m", "bench.baselines", "sqs", mode, "--messages", "20"]
    subprocess.run(command, env=environment, cwd=REPOSITORY, check=True)
    counts = server.counts()
    assert (20, 20) == (counts.keys, counts.requests)
