"""The real broker, S3 and SQS servers for every test that asks for them, and what a test makes on them.

On a person's machine a test whose server is not installed is skipped with the reason; with `CI` set it fails.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.services.archive import Archive, Content
from tests.services.install import KAFKA, S3, SQS, Part
from tests.services.kafka import KafkaBroker
from tests.services.producer import EventProducer, Expected
from tests.services.s3 import S3Server
from tests.services.s3_proxy import S3FaultProxy
from tests.services.sqs import SqsServer

FAILED = pytest.StashKey[bool]()
_NEEDS = {
    "broker": "kafka",
    "own_broker": "kafka",
    "secure_broker": "kafka",
    "s3_server": "s3",
    "own_s3_server": "s3",
    "sqs_server": "sqs",
    "own_sqs_server": "sqs",
}


class MakeTopic(Protocol):
    def __call__(self, partitions: int = 1, config: Mapping[str, str] | None = None) -> str: ...


class Produce(Protocol):
    def __call__(self, topic: str, events: Iterable[Content | bytes], *, partition: int | None = None) -> Expected: ...


def require(part: Part) -> None:
    """Skip the test (in CI: fail it) when `part` is not installed."""
    problem = part.problem()
    if problem is None:
        return
    if os.environ.get("CI"):
        pytest.fail(problem, pytrace=False)
    pytest.skip(problem)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test with the servers that its fixtures start, so that `-m 'not kafka'` leaves them out."""
    for item in items:
        for fixture, marker in _NEEDS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remembers that a test has failed, for fixtures that then show their logs."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


def show_on_failure(request: pytest.FixtureRequest, log: Callable[[], str]) -> None:
    """Print `log()` with a failed test's report; call it in a fixture's teardown."""
    if request.node.stash.get(FAILED, False):
        print(log())


# -- Kafka ------------------------------------------------------------------------------------------------------------


def _broker(directory: Path, *, secure: bool = False) -> Iterator[KafkaBroker]:
    require(KAFKA)
    with KafkaBroker(directory, secure=secure) as broker:
        yield broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """The broker that tests share; a test that stops or freezes one takes `own_broker`."""
    yield from _broker(tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="session")
def secure_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker with TLS, SASL and ACLs, shared."""
    yield from _broker(tmp_path_factory.mktemp("kafka-secure"), secure=True)


@pytest.fixture
def own_broker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[KafkaBroker]:
    """A broker for one test, which may kill, stop or freeze it."""
    for broker in _broker(tmp_path / "kafka"):
        yield broker
        show_on_failure(request, broker.log_tail)


@pytest.fixture
def make_topic(broker: KafkaBroker) -> MakeTopic:
    """Creates a topic of a new name on the shared broker."""

    def make(partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        name = f"events-{uuid.uuid4().hex[:12]}"
        broker.create_topic(name, partitions, config)
        return name

    return make


@pytest.fixture
def produce(broker: KafkaBroker) -> Produce:
    """Publishes to the shared broker and returns what S3 must hold then, by (topic, partition, offset)."""
    producer = EventProducer(broker.bootstrap_servers)

    def publish(topic: str, events: Iterable[Content | bytes], *, partition: int | None = None) -> Expected:
        return producer.produce(topic, events, partition=partition)

    return publish


@pytest.fixture
def group() -> str:
    """A consumer group that nobody has used."""
    return f"group-{uuid.uuid4().hex[:12]}"


# -- S3 ---------------------------------------------------------------------------------------------------------------


def _s3_server(directory: Path) -> Iterator[S3Server]:
    require(S3)
    with S3Server(directory) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The S3 server that tests share; a test that stops or freezes one takes `own_s3_server`."""
    yield from _s3_server(tmp_path_factory.mktemp("s3"))


@pytest.fixture
def own_s3_server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """An S3 server for one test, which may kill, stop or freeze it."""
    for server in _s3_server(tmp_path / "s3"):
        yield server
        show_on_failure(request, server.log_tail)


@pytest.fixture
def make_bucket(s3_server: S3Server) -> Callable[[], str]:
    """Creates a bucket of a new name on the shared server."""

    def make() -> str:
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        s3_server.create_bucket(name)
        return name

    return make


@pytest.fixture
def bucket(make_bucket: Callable[[], str]) -> str:
    """An empty bucket."""
    return make_bucket()


@pytest.fixture
def archive(s3_server: S3Server, bucket: str) -> Archive:
    """What `bucket` holds, as events."""
    return Archive(s3_server, bucket)


@pytest.fixture
def s3_proxy(s3_server: S3Server) -> Iterator[S3FaultProxy]:
    """A proxy before the shared S3 server; set its `rule` to inject faults."""
    with S3FaultProxy(s3_server.endpoint_url) as proxy:
        yield proxy


# -- SQS --------------------------------------------------------------------------------------------------------------


def _sqs_server(directory: Path) -> Iterator[SqsServer]:
    require(SQS)
    with SqsServer(directory) as server:
        yield server


@pytest.fixture(scope="session")
def sqs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqsServer]:
    """The SQS server that tests share; a test that stops or freezes one takes `own_sqs_server`."""
    yield from _sqs_server(tmp_path_factory.mktemp("sqs"))


@pytest.fixture
def own_sqs_server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SqsServer]:
    """An SQS server for one test, which may kill, stop or freeze it."""
    for server in _sqs_server(tmp_path / "sqs"):
        yield server
        show_on_failure(request, server.log_tail)
