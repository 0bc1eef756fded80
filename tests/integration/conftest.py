"""Real workers for the integration and fault tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.conftest import show_on_failure
from tests.services.command import Command, Finished
from tests.services.kafka import KafkaBroker
from tests.services.s3 import S3Server
from tests.services.worker import WorkerProcess


class StartWorker(Protocol):
    def __call__(
        self, topics: str, settings: Mapping[str, str] | None = None, *, wait: bool = True, app: str = "streams"
    ) -> WorkerProcess:
        """Start a worker of the test's `group` that archives `topics` to the test's `bucket`.

        `settings` adds to its environment or replaces what is there (`STREAMS_S3_ENDPOINT_URL` for a proxy, say);
        without `wait` it is returned before it is ready. `app` may be one of `tests.integration.apps`.
        """


class RunCommand(Protocol):
    def __call__(
        self,
        name: str,
        *args: str,
        topics: str,
        settings: Mapping[str, str] | None = None,
        check: int | None = None,
        timeout_seconds: float = 120,
    ) -> Finished:
        """Run `faust -A streams NAME ARGS` with the settings of `start_worker`; `check`: the exit code to expect."""


class StartCommand(Protocol):
    def __call__(self, name: str, *args: str, topics: str, settings: Mapping[str, str] | None = None) -> Command:
        """The same, left running."""


@pytest.fixture
def base_settings(broker: KafkaBroker, s3_server: S3Server, bucket: str, group: str) -> dict[str, str]:
    """The environment of a worker or a command of this test, but for its topics."""
    return {
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "STREAMS_CONSUMER_GROUP": group,
        "STREAMS_S3_BUCKET": bucket,
        "STREAMS_S3_ENDPOINT_URL": s3_server.endpoint_url,
        "STREAMS_S3_PATH_STYLE": "true",
        **s3_server.environment(),
    }


@pytest.fixture
def start_command(base_settings: Mapping[str, str], tmp_path: Path) -> Iterator[StartCommand]:
    """Starts commands and kills those that are left at the end."""
    commands: list[Command] = []

    def start(name: str, *args: str, topics: str, settings: Mapping[str, str] | None = None) -> Command:
        environment = {**base_settings, "STREAMS_TOPICS": topics, **(settings or {})}
        command = Command(name, *args, settings=environment, directory=tmp_path / f"{name}-{len(commands) + 1}")
        commands.append(command)
        return command

    yield start
    for command in commands:
        if command.running:
            command.kill()
            command.wait()


@pytest.fixture
def run_command(start_command: StartCommand) -> RunCommand:
    """Runs commands to their end."""

    def run(
        name: str,
        *args: str,
        topics: str,
        settings: Mapping[str, str] | None = None,
        check: int | None = None,
        timeout_seconds: float = 120,
    ) -> Finished:
        finished = start_command(name, *args, topics=topics, settings=settings).wait(timeout_seconds)
        if check is not None:
            shown = f"{name} {' '.join(args)} ended with {finished.code}\n{finished.raw!r}\n{finished.stderr}"
            assert check == finished.code, shown
        return finished

    return run


@pytest.fixture
def start_worker(
    base_settings: Mapping[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[StartWorker]:
    """Starts workers, kills those that are left at the end, and shows their logs when the test has failed."""
    workers: list[WorkerProcess] = []

    def start(
        topics: str, settings: Mapping[str, str] | None = None, *, wait: bool = True, app: str = "streams"
    ) -> WorkerProcess:
        name = f"worker-{len(workers) + 1}"
        environment = {**base_settings, "STREAMS_TOPICS": topics, **(settings or {})}
        worker = WorkerProcess(tmp_path / name, environment, name, app)
        workers.append(worker)
        worker.start()
        if wait:
            worker.wait_ready()
        return worker

    try:
        yield start
    finally:
        for worker in workers:
            worker.kill()
            show_on_failure(request, worker.log)
