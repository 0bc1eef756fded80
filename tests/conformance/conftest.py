"""Sinks to test: the contract over every sink (`target`), the rest once per S3 client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from streams.envelope import DeadLetter, decode_dead_letter, decode_envelope
from streams.metadata import record_fields_from_metadata
from streams.record import Record
from streams.settings import Settings
from streams.sinks import Sink, make_sink
from streams.sinks.s3 import PutRequest, S3Client, S3Sink, make_client
from tests.conformance.http_server import HttpServer
from tests.services.s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Server
from tests.services.sqs import SqsServer

CLIENTS = ("obstore", "aiobotocore")

MakeSettings = Callable[..., Settings]
StartSink = Callable[..., Awaitable[S3Sink]]
StartAnySink = Callable[..., Awaitable[Sink]]
StartClient = Callable[..., Awaitable[S3Client]]


@pytest.fixture(autouse=True)
def _own_aws_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the person's own AWS configuration, and no instance metadata, reaches a test."""
    for name in list(os.environ):
        if name.startswith(("STREAMS_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def static_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The credentials of the S3 server's administrator, in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@pytest.fixture(params=CLIENTS)
def client_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_settings(client_name: str) -> MakeSettings:
    """Settings of a worker with this client; what a test does not say has its default."""

    def make(**fields: Any) -> Settings:
        basis = {
            "kafka_bootstrap_servers": "127.0.0.1:9",
            "topics": "orders",
            "consumer_group": "conformance",
            "s3_bucket": "events",
            "s3_region": REGION,
            "s3_client": client_name,
        }
        return Settings(**{**basis, **fields})

    return make


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def start_sink(make_settings: MakeSettings, closing: AsyncExitStack) -> StartSink:
    """Starts a sink with these settings, closed when the test is over."""

    async def start(**fields: Any) -> S3Sink:
        sink = make_sink(make_settings(**fields))
        assert isinstance(sink, S3Sink)
        await sink.start()
        closing.push_async_callback(sink.close)
        return sink

    return start


@pytest.fixture
def start_client(make_settings: MakeSettings, closing: AsyncExitStack) -> StartClient:
    """Starts a client alone, for what no event can cause."""

    async def start(**fields: Any) -> S3Client:
        client = make_client(make_settings(**fields))
        await client.start()
        closing.push_async_callback(client.close)
        return client

    return start


class Target(Protocol):
    """A place to write to and how to read it back, so that one contract is checked of every sink."""

    settings: dict[str, Any]
    missing: dict[str, Any]
    """The same for a place that nobody made, and `missing_reason`, the word for that."""
    missing_reason: str
    keeps_repeats: bool
    """Whether an event that is written twice is there twice."""

    def events(self, *, envelope: bool = False) -> list[Record]:
        """Every event that is there, by offset."""

    def dead_letters(self) -> list[DeadLetter]:
        """Every dead letter that is there."""


class S3Target:
    """A bucket."""

    missing_reason = "bucket_missing"
    keeps_repeats = False

    def __init__(self, server: S3Server, bucket: str, client: str) -> None:
        self._server, self._bucket = server, bucket
        self.settings = {"s3_bucket": bucket, "s3_endpoint_url": server.endpoint_url, "s3_client": client}
        self.missing = {**self.settings, "s3_bucket": "nobody-made-this"}

    def events(self, *, envelope: bool = False) -> list[Record]:
        keys = [key for key in self._server.keys(self._bucket) if key.endswith(".json") and ".kafka." not in key]
        return [self._event(key, envelope) for key in keys]

    def _event(self, key: str, envelope: bool) -> Record:
        stored = self._server.read(self._bucket, key)
        if envelope:
            return decode_envelope(stored.body)
        suffix = stored.metadata.get("kafka-sidecar")
        sidecar = None if suffix is None else self._server.read(self._bucket, key + suffix).body
        return record_fields_from_metadata(stored.metadata, sidecar).to_record(stored.body)

    def dead_letters(self) -> list[DeadLetter]:
        return [decode_dead_letter(stored.body) for stored in self._server.objects(self._bucket, "dead-letter/")]


class SqsTarget:
    """A queue, and another for dead letters."""

    missing_reason = "queue_missing"

    def __init__(self, server: SqsServer, *, fifo: bool) -> None:
        self._server = server
        self.keeps_repeats = not fifo
        self._queue, self._dead_letters = server.create_queue(fifo=fifo), server.create_queue(fifo=fifo)
        self.settings = {
            "sink": "sqs",
            "sqs_queue_url": self._queue,
            "sqs_dead_letter_queue_url": self._dead_letters,
            "sqs_region": REGION,
            "s3_bucket": "",
        }
        self.missing = {**self.settings, "sqs_queue_url": self._queue.replace("queue-", "missing-")}

    def events(self, *, envelope: bool = False) -> list[Record]:
        """`envelope` needs no saying: the message does."""
        found = [message.event for message in self._server.receive_all(self._queue)]
        return sorted(found, key=lambda record: record.offset)

    def dead_letters(self) -> list[DeadLetter]:
        return [decode_dead_letter(stored.body.encode()) for stored in self._server.receive_all(self._dead_letters)]


TARGETS = [
    pytest.param("obstore", marks=pytest.mark.s3, id="s3-obstore"),
    pytest.param("aiobotocore", marks=pytest.mark.s3, id="s3-aiobotocore"),
    pytest.param("standard", marks=pytest.mark.sqs, id="sqs-standard"),
    pytest.param("fifo", marks=pytest.mark.sqs, id="sqs-fifo"),
]


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    """A new, empty place of every sink."""
    if request.param in CLIENTS:
        server, bucket = request.getfixturevalue("s3_server"), request.getfixturevalue("bucket")
        return S3Target(server, bucket, request.param)
    return SqsTarget(request.getfixturevalue("sqs_server"), fifo=request.param == "fifo")


@pytest.fixture
def start_any_sink(closing: AsyncExitStack) -> StartAnySink:
    """Starts the sink that a target's settings choose, closed when the test is over."""

    async def start(**fields: Any) -> Sink:
        basis = {"kafka_bootstrap_servers": "127.0.0.1:9", "topics": "orders", "consumer_group": "conformance"}
        sink = make_sink(Settings(**{**basis, "s3_region": REGION, **fields}))
        await sink.start()
        closing.push_async_callback(sink.close)
        return sink

    return start


@pytest.fixture
async def http_server() -> AsyncIterator[HttpServer]:
    """Records requests and says that every object was stored, unless told otherwise."""
    async with HttpServer() as server:
        yield server


def event(offset: int = 7, value: bytes | None = b'{"id": 7}', **fields: Any) -> Record:
    basis = {"topic": "orders", "partition": 3, "timestamp_ms": 1_700_000_000_123, "timestamp_type": 0, "key": b"k"}
    return Record(offset=offset, value=value, **{**basis, **fields})


PUT = PutRequest("orders/3/7.json", b"{}", {"kafka-offset": "7"})
