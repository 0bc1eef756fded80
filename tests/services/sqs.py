"""A real SQS server, ElasticMQ: standard and FIFO queues, kept on disk so that they survive a kill."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from streams.record import Record
from streams.sinks.sqs_message import read_message
from tests.services.install import ELASTICMQ_JARS
from tests.services.ports import free_port
from tests.services.process import ServerProcess
from tests.services.s3 import ACCESS_KEY, REGION, SECRET_KEY
from tests.services.waiting import wait_until

ACCOUNT = "000000000000"
ReadObject = Callable[[str, str], bytes]


@dataclass(frozen=True)
class StoredMessage:
    """A message as the queue handed it out; attributes by name, as text."""

    body: str
    attributes: dict[str, str]
    system: dict[str, str]

    @property
    def event(self) -> Record:
        """The event that it holds, from the message alone."""
        return read_message(self.body, self.attributes)

    @property
    def taken(self) -> tuple[int, int]:
        """When the queue took it: the time in milliseconds and, of a FIFO queue, the sequence number."""
        return int(self.system["SentTimestamp"]), int(self.system.get("SequenceNumber", 0))

    @property
    def position(self) -> tuple[str, int, int]:
        topic, partition, offset = self.attributes["kafka-position"].split("/")
        return topic, int(partition), int(offset)


class SqsServer:
    """A server in `directory`; its port and messages live as long as the object, its process from `start` to `kill`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._process = ServerProcess("the SQS server", directory / "sqs.log")
        self._client: Any = None

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> Any:
        """A boto3 client, straight to the server (past any proxy)."""
        if self._client is None:
            self._client = sqs_client(self.endpoint_url)
        return self._client

    # -- life ---------------------------------------------------------------------------------------------------------

    def __enter__(self) -> SqsServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        if self._client is not None:
            self._client.close()

    def start(self, timeout_seconds: float = 60) -> None:
        """Start (or start again, with the queues and messages that are there) and return when it answers."""
        configuration = self.directory / "elasticmq.conf"
        configuration.write_text(self._configuration())
        heap = ["-Xmx384m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        classes = ["-cp", f"{ELASTICMQ_JARS}/*", "org.elasticmq.server.Main"]
        self._process.start(["java", *heap, f"-Dconfig.file={configuration}", *classes], {}, self.directory)
        wait_until(self._answers, timeout_seconds, lambda: f"the SQS server did not answer\n{self.log_tail()}")

    def stop(self, timeout_seconds: float = 30) -> None:
        self._process.signal(signal.SIGTERM)
        self._process.wait(timeout_seconds)

    def kill(self) -> None:
        """End it at once (SIGKILL); messages and port stay for the next `start`."""
        self._process.kill()

    def log_tail(self) -> str:
        return self._process.log_tail()

    def _answers(self) -> bool:
        if not self._process.running:
            raise AssertionError(f"the SQS server ended while starting\n{self.log_tail()}")
        try:
            self.client.list_queues()
        except (BotoCoreError, ClientError):
            return False
        return True

    def _configuration(self) -> str:
        return f"""
            include classpath("application.conf")
            node-address {{ protocol = http, host = "127.0.0.1", port = {self.port}, context-path = "" }}
            rest-sqs {{
              enabled = true, bind-hostname = "127.0.0.1", bind-port = {self.port}
              sqs-limits = strict
            }}
            rest-stats.enabled = false
            messages-storage {{ enabled = true, uri = "jdbc:h2:{self.directory}/messages" }}
            queues-storage {{ enabled = true, path = "{self.directory}/queues.conf" }}
            aws {{ region = {REGION}, accountId = "{ACCOUNT}" }}
        """

    # -- queues and messages ------------------------------------------------------------------------------------------

    def create_queue(self, *, fifo: bool = False, **attributes: str) -> str:
        """A queue of a new name; its address."""
        name = f"queue-{uuid.uuid4().hex[:12]}" + (".fifo" if fifo else "")
        kind = {"FifoQueue": "true"} if fifo else {}
        answer = self.client.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "600", **kind, **attributes})
        return str(answer["QueueUrl"])

    def count(self, queue_url: str) -> int:
        """How many messages are in the queue, handed out or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def receive_all(self, queue_url: str) -> list[StoredMessage]:
        """Take every message out of the queue, in the order in which it hands them out."""
        return list(self._receive(queue_url))

    def _receive(self, queue_url: str) -> Iterator[StoredMessage]:
        while True:
            answer = self.client.receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
                AttributeNames=["All"],
                WaitTimeSeconds=0,
            )
            found = answer.get("Messages", [])
            if not found:
                return
            for message in found:
                attributes = {
                    name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()
                }
                yield StoredMessage(message["Body"], attributes, message.get("Attributes", {}))
            handles = [{"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(found)]
            self.client.delete_message_batch(QueueUrl=queue_url, Entries=handles)


def sqs_client(endpoint_url: str) -> Any:
    """A boto3 client for tests: no retries, nothing read from the person's own AWS configuration."""
    return boto3.client(
        "sqs",
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=30),
    )
