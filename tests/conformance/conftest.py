"""Sinks to test: each test runs once per S3 client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from streams.record import Record
from streams.settings import Settings
from streams.sinks import make_sink
from streams.sinks.s3 import PutRequest, S3Client, S3Sink, make_client
from tests.conformance.http_server import HttpServer
from tests.services.s3 import ACCESS_KEY, REGION, SECRET_KEY

CLIENTS = ("obstore", "aiobotocore")

MakeSettings = Callable[..., Settings]
StartSink = Callable[..., Awaitable[S3Sink]]
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


@pytest.fixture
async def http_server() -> AsyncIterator[HttpServer]:
    """Records requests and says that every object was stored, unless told otherwise."""
    async with HttpServer() as server:
        yield server


def event(offset: int = 7, value: bytes | None = b'{"id": 7}', **fields: Any) -> Record:
    basis = {"topic": "orders", "partition": 3, "timestamp_ms": 1_700_000_000_123, "timestamp_type": 0, "key": b"k"}
    return Record(offset=offset, value=value, **{**basis, **fields})


PUT = PutRequest("orders/3/7.json", b"{}", {"kafka-offset": "7"})
