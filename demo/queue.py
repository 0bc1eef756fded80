"""The demonstration with SQS (`make demo SINK=sqs`): the same messages, each a message of a queue, checked by value.

The product's `verify` proves what lies in a bucket and is not for queues, whose messages are taken out: here every
message is received with boto3, which is not the library that the worker sends with, and compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from demo import check
from demo.benchmark import MESSAGE_COUNT, PUBLISHED_SEND_SECONDS, PUBLISHED_SQS, Measurement, message
from demo.broker import EmbeddedBroker, Position, Published
from demo.cost import describe_cost
from demo.errors import DemoError
from demo.object_store import EmbeddedQueueService
from demo.report import Report
from demo.worker import Worker

QUEUE = "demo"
ARRIVAL_TIMEOUT_SECONDS = 90.0
POLL_SECONDS = 0.05


class Queue:
    """A queue of the embedded SQS, made on construction."""

    def __init__(self, url: str, name: str) -> None:
        self._client: Any = boto3.client(
            "sqs",
            endpoint_url=url,
            region_name=check.REGION,
            aws_access_key_id=check.ACCESS_KEY,
            aws_secret_access_key=check.SECRET_KEY,
            config=Config(proxies={}),
        )
        self._client.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "600"})
        self.url = f"{url}/123456789012/{name}"

    def messages(self, *, take_out: bool) -> Iterator[tuple[Position, bytes]]:
        """Every message once: the place that its attributes name, and its body. Without `take_out` they stay."""
        while found := self._client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for one in found:
                attributes = {name: value["StringValue"] for name, value in one["MessageAttributes"].items()}
                _, partition, offset = attributes["kafka-position"].split("/")
                place = int(partition), int(offset)
                yield place, one["Body"].encode()
            if take_out:
                entries = [{"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(found)]
                self._client.delete_message_batch(QueueUrl=self.url, Entries=entries)


def demonstrate(report: Report, folder: Path, topic: str, settings: dict[str, str], *, keep: bool) -> None:
    """The whole demonstration; `settings` are those that no service of it decides."""
    broker = EmbeddedBroker()
    report.step(f"Kafka: an embedded broker at {broker.address}")
    with EmbeddedQueueService(PUBLISHED_SEND_SECONDS) as service:
        queue = Queue(service.url, QUEUE)
        report.step(f"SQS:   an embedded server at {service.url}, {PUBLISHED_SEND_SECONDS * 1000:.0f} ms a request")
        published = broker.publish(topic, (message(number) for number in range(MESSAGE_COUNT)))
        report.step(f"Published {len(published):,} messages to the topic `{topic}`")
        settings = settings | _queue_settings(broker.address, queue.url, topic, folder)
        with Worker(settings, folder / "worker.log") as worker:
            try:
                _work(report, worker, service, queue, published, keep=keep)
                worker.stop()
            except DemoError as error:
                raise DemoError(f"{error}\n\nThe end of the worker's log:\n{worker.log_tail()}") from error
        check.verify_committed(broker.committed(topic, settings["STREAMS_CONSUMER_GROUP"]), published)
        report.step("The worker stopped on SIGTERM with exit code 0, every message committed.")


def _queue_settings(broker_address: str, queue_url: str, topic: str, folder: Path) -> dict[str, str]:
    return {
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker_address,
        "STREAMS_TOPICS": topic,
        "STREAMS_SINK": "sqs",
        "STREAMS_SQS_QUEUE_URL": queue_url,
        "STREAMS_SQS_REGION": check.REGION,
        "STREAMS_ON_REJECT": "hold",
        "STREAMS_DATA_DIR": str(folder),
    }


def _work(
    report: Report, worker: Worker, service: EmbeddedQueueService, queue: Queue, published: Published, *, keep: bool
) -> None:
    """Waits until the worker has sent everything, checks it, and shows the table."""
    started_seconds = time.monotonic()
    report.step("Started the worker: faust -A streams worker")
    _wait_for_messages(report, worker, service)
    whole_seconds = service.clock.last_answer_seconds - started_seconds
    with report.progress("Messages verified", MESSAGE_COUNT) as advance:
        verified = verify(queue, published, advance, take_out=not keep)
    rows = (
        Measurement("Streams, first send to last", MESSAGE_COUNT, service.clock.elapsed_seconds, verified),
        Measurement("Streams, from its start", MESSAGE_COUNT, whole_seconds, verified),
    )
    report.table([*rows, *PUBLISHED_SQS], describe_cost(rows[0], worker.stats()))
    report.step(
        "Every message was in the queue, byte for byte. (`verify` is for S3; a queue is read, as here.)\n"
        "The SQS here is a Python server on the cores that the worker runs on, and bounds these seconds."
    )
    if keep:
        _keep(report, worker, queue)


def verify(queue: Queue, published: Published, advance: Callable[[int], None], *, take_out: bool = True) -> int:
    """Returns how many messages were verified, which is every one; raises when one is missing, wrong or unknown."""
    found: dict[Position, bytes] = {}
    for place, body in queue.messages(take_out=take_out):
        found[place] = body
        advance(len(found))
    if found != published:
        missing, wrong = sorted(published.keys() - found.keys()), sorted(found.items() - published.items())
        raise DemoError(f"{len(missing)} messages are missing {missing[:3]} and {len(wrong)} are wrong {wrong[:3]}.")
    return len(found)


def _keep(report: Report, worker: Worker, queue: Queue) -> None:
    """Leaves everything running until Ctrl-C."""
    try:
        report.step(f"Its page:    {worker.page_url}\nThe queue:   {queue.url}\nCtrl-C stops it.")
        while True:
            worker.check_running()
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        report.step("Stopping.")


def _wait_for_messages(report: Report, worker: Worker, service: EmbeddedQueueService) -> None:
    deadline_seconds = time.monotonic() + ARRIVAL_TIMEOUT_SECONDS
    with report.progress("Messages in the queue", MESSAGE_COUNT) as advance:
        while service.clock.answered < MESSAGE_COUNT:
            worker.check_running()
            if time.monotonic() > deadline_seconds:
                arrived = service.clock.answered
                raise DemoError(f"{arrived} of {MESSAGE_COUNT} messages came in {ARRIVAL_TIMEOUT_SECONDS:.0f} s.")
            advance(service.clock.answered)
            time.sleep(POLL_SECONDS)
        advance(MESSAGE_COUNT)
